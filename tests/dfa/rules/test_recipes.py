"""The networks of docs/howto/recipes.md, small and of our own: every part learns, and from which teacher."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.functional import cross_entropy

from dfa import DirectFeedback, RandomFeedback, Ternary, check
from tests.dfa.networks import Transformer


class Residual(nn.Module):
    """Two convolutions with norms, a skip, and an activation after the sum."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.a, self.b = nn.Conv2d(before, after, 3, stride, 1), nn.Conv2d(after, after, 3, padding=1)
        self.norm_a, self.norm_b = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        self.skip = nn.Conv2d(before, after, 1, stride)

    def forward(self, x):
        return F.relu(self.skip(x) + self.norm_b(self.b(F.relu(self.norm_a(self.a(x))))))


class ResNet(nn.Module):
    """A stem and two residual blocks."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        self.layer1 = nn.Sequential(Residual(8, 8, 1), Residual(8, 16, 2))
        self.fc = nn.Linear(16, 4)

    def forward(self, x):
        return self.fc(self.layer1(self.relu(self.norm(self.conv(x)))).mean((2, 3)))


class VisionTransformer(nn.Module):
    """Patches and a class token, whose output is read."""

    def __init__(self):
        super().__init__()
        self.patches, self.token = nn.Conv2d(1, 16, 2, 2), nn.Parameter(torch.zeros(1, 1, 16))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(16, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True) for _ in range(2)
        )
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 4)

    def forward(self, x):
        h = self.patches(x).flatten(2).transpose(1, 2)
        h = torch.cat([self.token.expand(len(h), -1, -1), h], dim=1)
        for layer in self.layers:
            h = layer(h)
        return self.head(self.norm(h)[:, 0])


class Recurrent(nn.Module):
    """Two LSTMs: (batch, tokens) -> (batch, tokens, classes)."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(4, 8)
        self.first, self.second = (nn.LSTM(n, 16, batch_first=True) for n in (8, 16))
        self.head = nn.Linear(16, 4)

    def forward(self, tokens):
        return self.head(self.second(self.first(self.embed(tokens))[0])[0])


class UNet(nn.Module):
    """One level: (batch, 1, h, w) -> (batch, classes, h, w)."""

    def __init__(self):
        super().__init__()
        self.down, self.middle, self.up = (
            nn.Sequential(nn.Conv2d(n, m, 3, padding=1), nn.BatchNorm2d(m), nn.ReLU())
            for n, m in ((1, 8), (8, 16), (24, 8))
        )
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        fine = self.down(x)
        coarse = self.middle(F.max_pool2d(fine, 2))
        return self.head(self.up(torch.cat([fine, F.interpolate(coarse, scale_factor=2)], dim=1)))


generator = torch.Generator().manual_seed(0)
IMAGES, LABELS = torch.randn(32, 1, 8, 8, generator=generator), torch.arange(32) % 4
IMAGES = IMAGES + LABELS[:, None, None, None]  # the mean tells the class
TOKENS = torch.randint(4, (16, 10), generator=generator)
RECIPES = {
    "ResNet-18": (ResNet, ["relu", "layer1.0", "layer1.1"], {"spread": "channels"}, IMAGES, LABELS),
    "ViT": (VisionTransformer, "layers", {"spread": "features", "through": "norm"}, IMAGES, LABELS),
    "GPT-2": (lambda: Transformer(4, 16), "blocks", {"through": "norm"}, TOKENS, (TOKENS + 1) % 4),
    "LSTM": (Recurrent, ["first", "second"], {}, TOKENS, (TOKENS + 1) % 4),
    "U-Net": (
        UNet,
        ["down", "middle", "up"],
        {"class_dim": 1, "spread": "channels"},
        IMAGES,
        (IMAGES[:, 0] > 1.5).long(),
    ),
}


def loss_of(output, y):
    return cross_entropy(output.movedim(-1, 1) if output.ndim == 3 else output, y)


@pytest.mark.parametrize("name", RECIPES)
def test_every_part_of_a_recipe_learns(name):
    """Blocks by feedback and the head by its true gradient.

    Catches: settings of the page with which a part has no gradient, or a network that does not learn.
    """
    build, blocks, options, x, y = RECIPES[name]
    torch.manual_seed(0)
    model = build()
    learner = DirectFeedback(model, blocks, RandomFeedback(0, Ternary()), **options)
    report = check(learner, (x, y), loss_of)
    assert not report.problems
    assert [block.teacher for block in report.blocks] == ["feedback"] * (len(report.blocks) - 1) + ["true gradient"]
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    losses = []
    for _ in range(40):
        output = model(x)
        losses.append(loss_of(output, y))
        optimiser.zero_grad()
        learner.backward(losses[-1], output)
        assert all(p.grad is not None for p in model.parameters())
        optimiser.step()
    assert losses[-1] < 0.75 * losses[0]
