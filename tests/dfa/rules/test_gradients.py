"""The package's own networks: every gradient of Direct Feedback Alignment against a hand-derived one, in float64.

The formulas use only numpy, `tests.dfa.networks` defines the rule; the tolerance is 1e-6 of the largest entry.
For the fully connected network see `test_learning`.
"""

import numpy as np
import pytest
import torch
from scipy.special import erf
from torch.nn.functional import cross_entropy

from dfa import DirectFeedback, RandomFeedback
from dfa.data.planetoid import normalised_adjacency
from dfa.models import char_transformer, cnn, gcn
from tests.dfa.networks import (
    SEED,
    assert_gradients,
    convolution_gradients,
    convolve,
    draw,
    norm_backward,
    norm_forward,
    normal,
    one_hot,
    signals,
    softmax,
    weights,
)


def linear_gradients(name, inputs, delta):
    """Return the gradients of a linear layer, from the gradient at its output; rows may have several dimensions."""
    rows = tuple(range(delta.ndim - 1))
    return {f"{name}.weight": np.tensordot(delta, inputs, (rows, rows)), f"{name}.bias": delta.sum(axis=rows)}


def affine(p, name, x):
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def pool(h):
    """Return the largest of 2 x 2 pixels, and its derivative by each pixel."""
    n, c, height, width = h.shape
    tiles = h.reshape(n, c, height // 2, 2, width // 2, 2)
    largest = tiles.max(axis=(3, 5), keepdims=True)
    return largest[:, :, :, 0, :, 0], tiles == largest


def unpool(delta, chosen):
    tiles = delta[:, :, :, None, :, None] * chosen
    return tiles.reshape(*delta.shape[:2], 2 * delta.shape[2], 2 * delta.shape[3])


@pytest.mark.parametrize("spread", ["each", "channels"])
def test_cnn(spread):
    """Signals enter after the pooling, which propagates them to its largest pixels. Catches: signals before it."""
    model, x, y = draw(cnn(8, (3, 4), 5, 6)), normal(7, 64), torch.arange(7) % 6
    learner = DirectFeedback(model, feedback=RandomFeedback(SEED), spread=spread)
    assert learner.names == ["conv1", "conv2", "hidden", "output"]
    output = model(x)
    learner.backward(cross_entropy(output, y), output)

    p, image = weights(model), x.numpy().reshape(7, 1, 8, 8)
    padded, active, chosen = [], [], []
    for name in ("conv1.1", "conv2.0"):
        padded.append(np.pad(image, ((0, 0), (0, 0), (1, 1), (1, 1))))
        active.append(np.tanh(convolve(padded[-1], p[f"{name}.weight"], p[f"{name}.bias"])))
        image, where = pool(active[-1])
        chosen.append(where)
    flat = image.reshape(7, -1)
    h = np.tanh(affine(p, "hidden.1", flat))
    e = (softmax(affine(p, "output", h)) - one_hot(y, 6)) / 7
    *deltas, last = signals(e, [3, 4, 5] if spread == "channels" else [3 * 16, 4 * 4, 5])
    expected = linear_gradients("output", h, e) | linear_gradients("hidden.1", flat, last * (1 - h**2))
    for k, (name, delta) in enumerate(zip(("conv1.1", "conv2.0"), deltas, strict=True)):
        edge, count = 4 // 2**k, 3 + k
        map_ = np.broadcast_to(delta[:, :, None, None], (7, count, edge, edge)) if spread == "channels" else delta
        slope = unpool(map_.reshape(7, count, edge, edge), chosen[k]) * (1 - active[k] ** 2)
        found = convolution_gradients(padded[k], p[f"{name}.weight"], slope)
        expected[f"{name}.weight"], expected[f"{name}.bias"] = found
    assert_gradients(model, expected)


@pytest.mark.parametrize(
    ("sizes", "diffused", "layout"),
    [([8, 6, 3], False, "dense"), ([8, 6, 5, 3], True, "dense"), ([8, 6, 5, 3], False, "sparse")],
)
def test_gcn(sizes, diffused, layout):
    """Four of twelve nodes in the loss; h_k = relu(A h_(k-1) W_k + b_k). Catches: A left out of a gradient."""
    rng = np.random.default_rng(0)
    adjacency = normalised_adjacency(rng.integers(0, 12, (20, 2)), 12)
    model = draw(gcn(sizes, adjacency, 0.0))
    x, y, nodes = normal(12, 8) * (normal(12, 8, seed=1) > 0), torch.arange(4) % 3, torch.tensor([0, 3, 4, 9])
    learner = DirectFeedback(model, feedback=RandomFeedback(SEED), diffuse=adjacency if diffused else None)
    output = model(x.to_sparse() if layout == "sparse" else x)
    learner.backward(cross_entropy(output[nodes], y), output)

    p, a, h = weights(model), adjacency.to_dense().double().numpy(), [x.numpy()]
    for k in range(len(sizes) - 1):
        total = a @ h[-1] @ p[f"{k}.weight"] + p[f"{k}.bias"]
        h.append(np.maximum(total, 0.0))
    e = np.zeros((12, 3))
    e[nodes] = (softmax(total[nodes.numpy()]) - one_hot(y, 3)) / 4  # the last layer has no activation
    deltas = [(a @ delta if diffused else delta) * (h[k + 1] > 0) for k, delta in enumerate(signals(e, sizes[1:-1]))]
    expected = {}
    for k, delta in enumerate([*deltas, e]):
        expected |= {f"{k}.weight": (a @ h[k]).T @ delta, f"{k}.bias": delta.sum(axis=0)}
    assert_gradients(model, expected)


def attend(p, name, n, heads):
    """Causal attention of several heads; return the output and the values for its gradient."""
    batch, tokens, width = n.shape
    split = affine(p, f"{name}.inputs", n).reshape(batch, tokens, 3, heads, width // heads).transpose(2, 0, 3, 1, 4)
    q, k, v = split
    scores = q @ k.swapaxes(2, 3) / np.sqrt(width // heads)
    a = softmax(np.where(np.tri(tokens, dtype=bool), scores, -np.inf))
    mixed = (a @ v).transpose(0, 2, 1, 3).reshape(n.shape)
    return affine(p, f"{name}.output", mixed), (n, q, k, v, a, mixed)


def attend_back(p, name, kept, delta):
    """Return the gradients of the attention's weights and of its input."""
    n, q, k, v, a, mixed = kept
    (batch, heads, tokens, size), found = q.shape, linear_gradients(f"{name}.output", mixed, delta)
    d = (delta @ p[f"{name}.output.weight"]).reshape(batch, tokens, heads, size).transpose(0, 2, 1, 3)
    d_a = d @ v.swapaxes(2, 3)
    scores = a * (d_a - (d_a * a).sum(axis=-1, keepdims=True)) / np.sqrt(size)
    parts = np.stack([scores @ k, scores.swapaxes(2, 3) @ q, a.swapaxes(2, 3) @ d])  # (3, batch, heads, tokens, size)
    joined = parts.transpose(1, 3, 0, 2, 4).reshape(batch, tokens, -1)
    return found | linear_gradients(f"{name}.inputs", n, joined), joined @ p[f"{name}.inputs.weight"]


def perceive(p, name, n):
    """Two layers with a GELU, ``u Phi(u)``, between them."""
    u = affine(p, f"{name}.0", n)
    share = (1 + erf(u / np.sqrt(2))) / 2
    return affine(p, f"{name}.2", u * share), (n, u, share)


def perceive_back(p, name, kept, delta):
    n, u, share = kept
    slope = share + u * np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi)
    d = (delta @ p[f"{name}.2.weight"]) * slope
    found = linear_gradients(f"{name}.2", u * share, delta) | linear_gradients(f"{name}.0", n, d)
    return found, d @ p[f"{name}.0.weight"]


def test_char_transformer():
    """Signals enter at block outputs; inside a block the gradient is exact. Catches: a detachment inside a block."""
    heads, width, classes, tokens = 2, 8, 7, 5
    model = draw(char_transformer(classes, tokens, width, 2, heads))
    x = torch.arange(15).view(3, tokens) ** 2 % classes
    y = torch.arange(15).view(3, tokens) % classes
    learner = DirectFeedback(model, feedback=RandomFeedback(SEED))
    assert learner.names == ["layer1", "layer2", "output"]
    output = model(x)
    learner.backward(cross_entropy(output.flatten(0, 1), y.flatten()), output)

    p, layers = weights(model), []
    h = p["layer1.0.character.weight"][x.numpy()] + p["layer1.0.place.weight"]
    for place in ("layer1.1", "layer2"):
        kept = []
        for part, call in (("0", lambda *of: attend(*of, heads)), ("1", perceive)):
            n, norm = norm_forward(h, p[f"{place}.{part}.norm.weight"], p[f"{place}.{part}.norm.bias"])
            change, inside = call(p, f"{place}.{part}.layer", n)
            h = h + change
            kept.append((norm, inside))
        layers.append((place, kept))
    n, norm = norm_forward(h, p["output.0.weight"], p["output.0.bias"])
    e = (softmax(affine(p, "output.1", n)) - one_hot(y, classes)) / 15

    expected = linear_gradients("output.1", n, e)
    _, gain, shift = norm_backward(norm, p["output.0.weight"], e @ p["output.1.weight"])
    expected |= {"output.0.weight": gain, "output.0.bias": shift}
    for (place, kept), delta in reversed(list(zip(layers, signals(e, [width, width]), strict=True))):
        d = delta
        for part, back in (("1", perceive_back), ("0", attend_back)):
            norm, inside = kept[int(part)]
            found, d_n = back(p, f"{place}.{part}.layer", inside, d)
            d_h, gain, shift = norm_backward(norm, p[f"{place}.{part}.norm.weight"], d_n)
            expected |= found | {f"{place}.{part}.norm.weight": gain, f"{place}.{part}.norm.bias": shift}
            d = d + d_h
    expected["layer1.0.character.weight"] = np.zeros((classes, width))
    np.add.at(expected["layer1.0.character.weight"], x.numpy(), d)
    expected["layer1.0.place.weight"] = d.sum(axis=0)
    assert_gradients(model, expected)
