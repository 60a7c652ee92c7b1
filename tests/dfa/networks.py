"""Networks of several shapes with hand-derived gradients of Direct Feedback Alignment, in numpy's float64.

Nothing here uses autograd: the gradients of a block for its signal delta are derived by hand.
"""

import numpy as np
import torch
from torch import nn

from dfa import RandomFeedback

SEED = 5
"""Seed of the feedback."""


def draw(module, seed=0):
    """Return the module in float64; its parameters are normal with standard deviation 0.5, a function of the seed."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.5, generator=generator)
    return module


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights(module, prefix=""):
    """Return parameters as numpy arrays, by name."""
    return {name: p.detach().numpy() for name, p in module.named_parameters() if name.startswith(prefix)}


def flat_weights(model):
    """Return all parameters in one vector."""
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def assert_function_of_seed(make, train):
    """The weights after ``train(model, seed)`` are a function of the seed; torch's own random state is unchanged."""
    ends = []
    for state, seed in ((0, 3), (1, 3), (0, 4)):
        model = make()
        torch.manual_seed(state)
        train(model, seed)
        ends.append(flat_weights(model))
        drawn = torch.rand(1)
        torch.manual_seed(state)
        assert torch.equal(drawn, torch.rand(1))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def softmax(z):
    z = np.exp(z - z.max(axis=-1, keepdims=True))
    return z / z.sum(axis=-1, keepdims=True)


def one_hot(labels, classes):
    return np.eye(classes)[np.asarray(labels)]


# A convolution with its activation: a = w * x + b, h = tanh(a).


def patches(x, side):
    """Return windows of an image, (batch, channels, h, w) -> (batch, h', w', channels, side, side)."""
    return np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(2, 3)).transpose(0, 2, 3, 1, 4, 5)


def convolve(x, w, b):
    return np.einsum("nhwcij,ocij->nohw", patches(x, w.shape[-1]), w) + b[:, None, None]


def convolution_gradients(x, w, delta):
    """Return the gradients of weights and biases, from the gradient delta at the convolution's output."""
    return np.einsum("nhwcij,nohw->ocij", patches(x, w.shape[-1]), delta), delta.sum(axis=(0, 2, 3))


# A transformer block with one head: s = x + A(norm1(x)), h = s + M(norm2(s)).


class Block(nn.Module):
    """Attention and a tanh perceptron, each after a norm and with a skip connection."""

    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.mix = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        n = self.norm1(x)
        scores = self.query(n) @ self.key(n).transpose(1, 2) / n.shape[-1] ** 0.5
        s = x + self.mix(torch.softmax(scores, -1) @ self.value(n))
        return s + self.down(torch.tanh(self.up(self.norm2(s))))


class Transformer(nn.Module):
    """Embedding, blocks in a ModuleList, norm, head: (batch, tokens) -> (batch, tokens, classes)."""

    def __init__(self, classes=7, width=6, depth=2):
        super().__init__()
        self.embed = nn.Embedding(classes, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, tokens):
        h = self.embed(tokens)
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))


def norm_forward(x, gain, shift, eps=1e-5):
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    unit = (x - x.mean(axis=-1, keepdims=True)) / deviation
    return unit * gain + shift, (unit, deviation)


def norm_backward(kept, gain, delta):
    """Return the gradients of the input, of gain and of shift."""
    unit, deviation = kept
    d = delta * gain
    back = (d - d.mean(axis=-1, keepdims=True) - unit * (d * unit).mean(axis=-1, keepdims=True)) / deviation
    lead = tuple(range(delta.ndim - 1))
    return back, (delta * unit).sum(axis=lead), delta.sum(axis=lead)


def block_forward(p, x):
    n, kept1 = norm_forward(x, p["norm1.weight"], p["norm1.bias"])
    q, k, v = (n @ p[f"{name}.weight"].T for name in ("query", "key", "value"))
    a = softmax(q @ k.swapaxes(1, 2) / np.sqrt(x.shape[-1]))
    m = a @ v
    s = x + m @ p["mix.weight"].T
    u, kept2 = norm_forward(s, p["norm2.weight"], p["norm2.bias"])
    t = np.tanh(u @ p["up.weight"].T + p["up.bias"])
    return s + t @ p["down.weight"].T + p["down.bias"], (n, kept1, q, k, v, a, m, u, kept2, t)


def block_backward(p, kept, delta):
    """Return the gradients of a block's parameters by name, and of its input, from delta at its output."""
    n, kept1, q, k, v, a, m, u, kept2, t = kept

    def outer(left, right):
        return np.einsum("bti,btj->ij", left, right)

    found = {"down.weight": outer(delta, t), "down.bias": delta.sum(axis=(0, 1))}
    up = (delta @ p["down.weight"]) * (1 - t**2)
    found |= {"up.weight": outer(up, u), "up.bias": up.sum(axis=(0, 1))}
    back, found["norm2.weight"], found["norm2.bias"] = norm_backward(kept2, p["norm2.weight"], up @ p["up.weight"])
    s = delta + back
    found["mix.weight"] = outer(s, m)
    mixed = s @ p["mix.weight"]
    v_back, a_back = a.swapaxes(1, 2) @ mixed, mixed @ v.swapaxes(1, 2)
    scores = a * (a_back - (a_back * a).sum(axis=-1, keepdims=True)) / np.sqrt(n.shape[-1])
    q_back, k_back = scores @ k, scores.swapaxes(1, 2) @ q
    n_back = np.zeros_like(n)
    for name, d in (("query", q_back), ("key", k_back), ("value", v_back)):
        found[f"{name}.weight"] = outer(d, n)
        n_back += d @ p[f"{name}.weight"]
    back, found["norm1.weight"], found["norm1.bias"] = norm_backward(kept1, p["norm1.weight"], n_back)
    return found, s + back


# A network with skips outside its block. The block is called twice, and the head has the stem's weight.


class Tied(nn.Module):
    """x0 = S x; h1 = f(x0); s = x0 + h1; h2 = f(s); output S^T (s + h2), where f is one tanh layer."""

    def __init__(self, inputs=5, width=6):
        super().__init__()
        self.stem = nn.Linear(inputs, width, bias=False)
        self.block = nn.Sequential(nn.Linear(width, width), nn.Tanh())

    def forward(self, x):
        stem = self.stem(x)
        total = stem + self.block(stem)
        return (total + self.block(total)) @ self.stem.weight


class Heads(nn.Module):
    """A trunk of two blocks read by three heads, one of them between the blocks."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.trunk = nn.ModuleList(
            [nn.Sequential(nn.Linear(4, 6), nn.Tanh()), nn.Sequential(nn.Linear(6, 5), nn.Tanh())]
        )
        self.early, self.left, self.right = nn.Linear(6, 2), nn.Linear(5, 3), nn.Linear(5, 2)

    def forward(self, x):
        h1 = self.trunk[0](x)
        h2 = self.trunk[1](h1)
        found = self.early(h1), self.left(h2), self.right(h2)
        return found if self.kind == "tuple" else dict(zip(("early", "left", "right"), found, strict=True))


# The learning rule.


def signals(error, widths):
    """Return ``B_k e`` by its definition: slices of one matrix of unit variance, each over the root of 3 widths."""
    matrix = RandomFeedback(SEED).matrix(sum(widths), error.shape[-1]).double().numpy()
    parts = np.split(error @ matrix.T, np.cumsum(widths)[:-1], axis=-1)
    return [part / np.sqrt(3 * width) for part, width in zip(parts, widths, strict=True)]


def assert_gradients(model, expected):
    """Compare gradients to 1e-6 of the largest entry; `expected` must have every parameter."""
    named = dict(model.named_parameters())
    assert named.keys() == expected.keys()
    for name, gradient in expected.items():
        found = named[name].grad.numpy()
        assert np.abs(found - gradient).max() <= 1e-6 * np.abs(gradient).max(), name
