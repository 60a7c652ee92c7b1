"""The rows that an error teaches: several heads, tokens and pooled samples, classes along other dimensions."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dfa import DirectFeedback, RandomFeedback
from tests.dfa.networks import (
    SEED,
    Heads,
    assert_gradients,
    draw,
    normal,
    one_hot,
    signals,
    softmax,
    weights,
)


@pytest.mark.parametrize("kind", ["tuple", "dict"])
def test_several_heads(kind):
    """Each head has its true gradient; the trunk learns from the errors of all heads. Catches: one head only."""
    model = draw(Heads(kind))
    x, y = normal(9, 4), torch.arange(9) % 2
    learner = DirectFeedback(model, blocks="trunk", feedback=RandomFeedback(SEED))
    output = model(x)
    parts = list(output if kind == "tuple" else output.values())
    learner.backward(sum(cross_entropy(part, y) for part in parts), output)

    p, inputs = weights(model), x.numpy()
    h1 = np.tanh(inputs @ p["trunk.0.0.weight"].T + p["trunk.0.0.bias"])
    h2 = np.tanh(h1 @ p["trunk.1.0.weight"].T + p["trunk.1.0.bias"])
    expected, errors = {}, []
    for name, h, classes in (("early", h1, 2), ("left", h2, 3), ("right", h2, 2)):
        errors.append((softmax(h @ p[f"{name}.weight"].T + p[f"{name}.bias"]) - one_hot(y, classes)) / 9)
        expected |= {f"{name}.weight": errors[-1].T @ h, f"{name}.bias": errors[-1].sum(axis=0)}
    for k, (delta, before, after) in enumerate(
        zip(signals(np.concatenate(errors, axis=1), [6, 5]), (inputs, h1), (h1, h2), strict=True)
    ):
        g = delta * (1 - after**2)
        expected |= {f"trunk.{k}.0.weight": g.T @ before, f"trunk.{k}.0.bias": g.sum(axis=0)}
    assert_gradients(model, expected)


def test_tokens_learn_from_a_pooled_output():
    """Classification of sequences: "features" gives a sample's tokens the same signal. Catches: width times tokens."""

    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.block, self.head = (
                nn.Linear(3, 4),
                nn.Sequential(nn.Linear(4, 5), nn.Tanh()),
                nn.Linear(5, 2),
            )

        def forward(self, x):
            return self.head(self.block(self.embed(x)).mean(dim=1))

    for spread, width in (("features", 5), ("each", 5 * 6)):
        model = draw(Pooled())
        x, y = normal(8, 6, 3), torch.arange(8) % 2
        learner = DirectFeedback(model, blocks=["block"], feedback=RandomFeedback(SEED), spread=spread)
        output = model(x)
        learner.backward(cross_entropy(output, y), output)
        p = weights(model)
        inside = x.numpy() @ p["embed.weight"].T + p["embed.bias"]
        h = np.tanh(inside @ p["block.0.weight"].T + p["block.0.bias"])
        e = (softmax(h.mean(axis=1) @ p["head.weight"].T + p["head.bias"]) - one_hot(y, 2)) / 8
        [delta] = signals(e, [width])
        g = (delta[:, None] if spread == "features" else delta.reshape(h.shape)) * (1 - h**2)
        gradient = np.einsum("bti,btj->ij", g, inside)
        assert np.abs(model.block[0].weight.grad.numpy() - gradient).max() <= 1e-6 * np.abs(gradient).max()


def test_a_pooled_block_learns_from_the_mean_error_of_its_tokens():
    """A block with output (batch, width) and a model output for each token. Catches: the first token's error."""

    class Broadcast(nn.Module):
        def __init__(self):
            super().__init__()
            self.state, self.out = nn.Sequential(nn.Linear(3, 5), nn.Tanh()), nn.Linear(5, 2)

        def forward(self, x):
            return self.out(self.state(x.mean(dim=1))[:, None] + x[..., :1])

    model = draw(Broadcast())
    x, y = normal(8, 6, 3), torch.arange(48).view(8, 6) % 2
    learner = DirectFeedback(model, blocks=["state"], feedback=RandomFeedback(SEED))
    output = model(x)
    learner.backward(cross_entropy(output.flatten(0, 1), y.flatten()), output)
    p, mean = weights(model), x.numpy().mean(axis=1)
    h = np.tanh(mean @ p["state.0.weight"].T + p["state.0.bias"])
    e = softmax(output.detach().numpy()) - one_hot(y, 2)
    [delta] = signals(e.sum(axis=1) / 48, [5])
    gradient = (delta * (1 - h**2)).T @ mean
    assert np.abs(model.state[0].weight.grad.numpy() - gradient).max() <= 1e-6 * np.abs(gradient).max()


def test_blocks_with_and_without_tokens_in_one_network():
    """A block that keeps the tokens and one that pools them. Catches: one shape for all blocks."""

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.token, self.state = (
                nn.Sequential(nn.Linear(3, 5), nn.Tanh()),
                nn.Sequential(nn.Linear(5, 5), nn.Tanh()),
            )
            self.out = nn.Linear(5, 2)

        def forward(self, x):
            h = self.token(x)
            return self.out(h + self.state(h.mean(dim=1))[:, None])

    model = draw(Both())
    x, y = normal(8, 6, 3), torch.arange(48).view(8, 6) % 2
    learner = DirectFeedback(model, blocks=["token", "state"], feedback=RandomFeedback(SEED))
    output = model(x)
    learner.backward(cross_entropy(output.flatten(0, 1), y.flatten()), output)
    p, x = weights(model), x.numpy()
    h = np.tanh(x @ p["token.0.weight"].T + p["token.0.bias"])
    state = np.tanh(h.mean(axis=1) @ p["state.0.weight"].T + p["state.0.bias"])
    e = (softmax(output.detach().numpy()) - one_hot(y, 2)) / 48
    expected = {
        "token": np.einsum("bti,btj->ij", signals(e, [5, 5])[0] * (1 - h**2), x),
        "state": (signals(e.sum(axis=1), [5, 5])[1] * (1 - state**2)).T @ h.mean(axis=1),
    }
    for name, gradient in expected.items():
        found = model.get_submodule(name)[0].weight.grad.numpy()
        assert np.abs(found - gradient).max() <= 1e-6 * np.abs(gradient).max()


def test_classes_may_be_another_dimension():
    """Output (batch, classes, places), as for `cross_entropy`. Catches: places used as classes."""

    class Swapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4))

        def forward(self, x):
            return self.net(x).transpose(1, 2)

    x, y = normal(6, 7, 3), torch.arange(42).view(6, 7) % 4
    grads = []
    for model, dim in ((Swapped(), 1), (Swapped().net, -1)):
        draw(model)
        learner = DirectFeedback(
            model, blocks=["net.1" if dim == 1 else "1"], feedback=RandomFeedback(SEED), class_dim=dim
        )
        output = model(x)
        learner.backward(cross_entropy(output if dim == 1 else output.transpose(1, 2), y), output)
        grads.append([q.grad for q in model.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("spread", ["each", "channels", "features"])
def test_pixels_are_rows_for_any_dimension_of_channels(spread):
    """1 x 1 convolutions equal linear layers, also with 4 channels of 4 x 4 pixels. Catches: channels as rows."""
    sizes, side = [(2, 4), (4, 4), (4, 3)], 4
    linear = draw(nn.Sequential(*(part for a, b in sizes for part in (nn.Linear(a, b), nn.Tanh())))[:-1])
    images = draw(nn.Sequential(*(part for a, b in sizes for part in (nn.Conv2d(a, b, 1), nn.Tanh())))[:-1])
    for flat, wide in zip(linear.parameters(), images.parameters(), strict=True):
        wide.data.copy_(flat.view_as(wide))
    x, y = normal(5, 2, side, side), torch.arange(5 * side * side).view(5, side, side) % 3
    grads = []
    for model, first in ((linear, False), (images, True)):
        feedback = RandomFeedback(SEED)
        learner = DirectFeedback(model, ["1", "3"], feedback, spread=spread, class_dim=1 if first else -1)
        output = model(x if first else x.movedim(1, -1))
        learner.backward(cross_entropy(output if first else output.movedim(-1, 1), y), output)
        grads.append([p.grad.flatten() for p in model.parameters()])
    for flat, wide in zip(*grads, strict=True):
        torch.testing.assert_close(wide, flat)


def test_rows_that_do_not_fit_are_refused():
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Unflatten(1, (5, 1)), nn.Flatten(0, 1), nn.Linear(1, 2))
    learner = DirectFeedback(model, blocks=["1"], feedback=RandomFeedback(0))
    output = model(torch.ones(6, 4))
    with pytest.raises(ValueError, match=r"must have the rows of the error \(30,\) .* got shape \(6, 5\) from '1'"):
        learner.backward(output.sum(), output)


@pytest.mark.parametrize("lengths", [(5, 5, 5), (5, 3, 2)])
@pytest.mark.parametrize("flat", [True, False])
def test_packed_sequences_are_refused(lengths, flat):
    """Their rows are sorted by time; with equal lengths they are as many as those of the output.

    Catches: every step taught by the error of another one, silently.
    """

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 3)

        def forward(self, x):
            h, _ = self.lstm(pack_padded_sequence(x, lengths, batch_first=True))
            output = self.head(pad_packed_sequence(h, batch_first=True)[0])
            return output.flatten(0, 1) if flat else output

    model = Tagger()
    learner = DirectFeedback(model, ["lstm"], RandomFeedback(0))
    output = model(torch.ones(3, 5, 4))
    with pytest.raises(ValueError, match="block 'lstm' must not return a PackedSequence"):
        learner.backward(output.sum(), output)


def test_steps_of_packed_sequences_may_be_the_rows():
    """If the output is packed, too. Catches: a refusal of every packed sequence."""

    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 3)

        def forward(self, x):
            return self.head(self.lstm(pack_padded_sequence(x, (5, 3, 2), batch_first=True))[0].data)

    model = Steps()
    learner = DirectFeedback(model, ["lstm"], RandomFeedback(0))
    output = model(torch.ones(3, 5, 4))
    learner.backward(output.sum(), output)
    assert all(p.grad.any() for p in model.parameters())
