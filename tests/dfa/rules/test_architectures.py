"""Other architectures: gradients equal hand-derived ones, and no graph crosses a boundary between blocks."""

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from dfa import DirectFeedback, RandomFeedback, Ternary, alignment
from tests.dfa.networks import (
    SEED,
    Heads,
    Tied,
    Transformer,
    assert_gradients,
    block_backward,
    block_forward,
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


def reached(tensor):
    """Return the identities of the parameters in the graph of a tensor."""
    found, seen, stack = set(), set(), [tensor.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        stack += [parent for parent, _ in node.next_functions]
    return found


def ids(module):
    return {id(parameter) for parameter in module.parameters()}


@pytest.mark.parametrize("spread", ["each", "channels"])
def test_convolutions(spread):
    """Two convolutions and a linear head. Catches: signals without the slope of tanh; channels on the last axis."""
    model = draw(
        nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Conv2d(3, 4, 2), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 3 * 2, 5)
        )
    )
    x, y = normal(7, 2, 6, 5), torch.arange(7) % 5
    learner = DirectFeedback(model, blocks=["1", "3"], feedback=RandomFeedback(SEED), spread=spread)
    output = model(x)
    learner.backward(cross_entropy(output, y), output)

    p = weights(model)
    h1 = np.tanh(convolve(x.numpy(), p["0.weight"], p["0.bias"]))
    h2 = np.tanh(convolve(h1, p["2.weight"], p["2.bias"]))
    flat = h2.reshape(7, -1)
    e = (softmax(flat @ p["5.weight"].T + p["5.bias"]) - one_hot(y, 5)) / 7
    sizes = [3, 4] if spread == "channels" else [h1[0].size, h2[0].size]
    delta1, delta2 = (
        s[:, :, None, None] if spread == "channels" else s.reshape(h.shape)
        for s, h in zip(signals(e, sizes), (h1, h2), strict=True)
    )
    expected = {"5.weight": e.T @ flat, "5.bias": e.sum(axis=0)}
    expected["0.weight"], expected["0.bias"] = convolution_gradients(x.numpy(), p["0.weight"], delta1 * (1 - h1**2))
    expected["2.weight"], expected["2.bias"] = convolution_gradients(h1, p["2.weight"], delta2 * (1 - h2**2))
    assert_gradients(model, expected)


class GCN(nn.Module):
    """``A relu(A X W1) W2``, with A from scipy: (nodes, features) -> (nodes, classes)."""

    def __init__(self, adjacency):
        super().__init__()
        self.register_buffer("adjacency", adjacency)
        self.first, self.second = nn.Linear(8, 6, bias=False), nn.Linear(6, 3, bias=False)
        self.relu = nn.ReLU()

    def forward(self, x):
        h = self.relu(self.adjacency @ self.first(x))
        return self.adjacency @ self.second(h)


def graph(nodes=12):
    """Return the symmetrically normalised adjacency of a random graph with loops."""
    edges = scipy.sparse.random(nodes, nodes, 0.2, random_state=0)
    adjacency = ((edges + edges.T) > 0).astype(float) + scipy.sparse.eye(nodes)
    root = scipy.sparse.diags(1 / np.sqrt(np.asarray(adjacency.sum(axis=1)).ravel()))
    return (root @ adjacency @ root).tocoo()


def sparse(matrix):
    where = torch.from_numpy(np.stack([matrix.row, matrix.col]).astype(np.int64))
    return torch.sparse_coo_tensor(where, torch.from_numpy(matrix.data), matrix.shape, check_invariants=True).coalesce()


@pytest.mark.parametrize(
    ("diffuse", "encoder"),
    [(None, Ternary(deviations=0.5)), ("scipy", Ternary(deviations=0.5)), ("torch", None), ("callable", None)],
)
def test_graph_convolution_with_some_nodes_in_the_loss(diffuse, encoder):
    """Errors of zero elsewhere; diffused feedback is ``A B e``. Catches: the mean over all nodes; A from the right."""
    matrix = graph()
    a, mask = matrix.toarray(), torch.tensor([0, 3, 4, 9])
    model = draw(GCN(sparse(matrix)))
    x, y = normal(12, 8), torch.arange(4) % 3
    kinds = {
        None: None,
        "scipy": matrix.tocsr(),
        "torch": sparse(matrix).float(),
        "callable": lambda s: sparse(matrix) @ s,
    }
    feedback = RandomFeedback(SEED, encoder)
    learner = DirectFeedback(model, blocks=["relu"], feedback=feedback, diffuse=kinds[diffuse])
    output = model(x)
    learner.backward(cross_entropy(output[mask], y), output)

    p = weights(model)
    received = a @ x.numpy() @ p["first.weight"].T
    h = np.maximum(received, 0.0)
    rows = softmax((a @ h @ p["second.weight"].T)[mask.numpy()]) - one_hot(y, 3)
    e, shown = np.zeros((12, 3)), np.zeros((12, 3))
    e[mask], shown[mask] = rows / 4, rows
    if encoder:  # the deviation is that of the nodes in the loss
        shown[mask] = np.sign(rows) * (np.abs(rows) > 0.5 * rows.std())
    [delta] = signals(shown / 4, [6])
    delta = (a @ delta if diffuse else delta) * (received > 0)
    tolerance = 1e-6 if diffuse != "torch" else 1e-6 + 1e-7  # here A is rounded to float32
    expected = {"first.weight": delta.T @ (a @ x.numpy()), "second.weight": e.T @ (a @ h)}
    for name, gradient in expected.items():
        found = dict(model.named_parameters())[name].grad.numpy()
        assert np.abs(found - gradient).max() <= tolerance * np.abs(gradient).max(), name


def test_transformer():
    """Embedding, two blocks, norm, head, with tokens as rows. Catches: tokens of a sample that share one error."""
    model = draw(Transformer())
    tokens, y = torch.arange(15).view(3, 5) ** 2 % 7, torch.arange(15).view(3, 5) % 7
    learner = DirectFeedback(model, feedback=RandomFeedback(SEED))
    assert learner.names == ["blocks.0", "blocks.1", "head"]
    output = model(tokens)
    learner.backward(cross_entropy(output.flatten(0, 1), y.flatten()), output)

    p = weights(model)
    blocks = [{name[9:]: w for name, w in weights(model, f"blocks.{k}.").items()} for k in (0, 1)]
    x = p["embed.weight"][tokens.numpy()]
    h1, kept1 = block_forward(blocks[0], x)
    h2, kept2 = block_forward(blocks[1], h1)
    n, kept = norm_forward(h2, p["norm.weight"], p["norm.bias"])
    e = (softmax(n @ p["head.weight"].T + p["head.bias"]) - one_hot(y, 7)) / 15
    expected = {"head.weight": np.einsum("bti,btj->ij", e, n), "head.bias": e.sum(axis=(0, 1))}
    _, expected["norm.weight"], expected["norm.bias"] = norm_backward(kept, p["norm.weight"], e @ p["head.weight"])
    delta1, delta2 = signals(e, [6, 6])
    first, back = block_backward(blocks[0], kept1, delta1)
    second, _ = block_backward(blocks[1], kept2, delta2)
    expected |= {f"blocks.0.{name}": g for name, g in first.items()}
    expected |= {f"blocks.1.{name}": g for name, g in second.items()}
    expected["embed.weight"] = np.zeros((7, 6))
    np.add.at(expected["embed.weight"], tokens.numpy(), back)
    assert_gradients(model, expected)


def test_skips_outside_a_block_that_is_called_twice_and_a_tied_head():
    """Each call has its own slice of B. Catches: one signal for both calls; an output detached for one reader only."""
    model = draw(Tied())
    x, target = normal(8, 5), normal(8, 5, seed=1)
    learner = DirectFeedback(model, blocks=["block"], feedback=RandomFeedback(SEED))
    output = model(x)
    learner.backward(0.5 * (output - target).square().sum(dim=1).mean(), output)

    p = weights(model)
    stem, w, b = p["stem.weight"], p["block.0.weight"], p["block.0.bias"]
    x = x.numpy()
    x0 = x @ stem.T
    h1 = np.tanh(x0 @ w.T + b)
    s = x0 + h1
    h2 = np.tanh(s @ w.T + b)
    e = ((s + h2) @ stem - target.numpy()) / 8
    delta1, delta2 = signals(e, [6, 6])
    g1, g2 = delta1 * (1 - h1**2), delta2 * (1 - h2**2)
    # The stem is read by both calls and, past them, by the head: h1 and h2 are constants.
    to_stem = g1 @ w + g2 @ w + e @ stem.T
    expected = {
        "block.0.weight": g1.T @ x0 + g2.T @ s,
        "block.0.bias": g1.sum(axis=0) + g2.sum(axis=0),
        "stem.weight": to_stem.T @ x + (s + h2).T @ e,
    }
    assert_gradients(model, expected)


@pytest.mark.parametrize("name", ["transformer", "heads", "tied"])
def test_no_graph_crosses_a_block_boundary(name):
    """The graph after a block contains no parameter of it or before it. Catches: an output that is not detached."""
    model, x, blocks = {
        "transformer": (Transformer(depth=3), torch.arange(10).view(2, 5) % 7, None),
        "heads": (Heads("tuple"), normal(3, 4), "trunk"),
        "tied": (Tied(), normal(3, 5), ["block"]),
    }[name]
    learner = DirectFeedback(draw(model), blocks=blocks, feedback=RandomFeedback(0))
    output = model(x)
    hidden = [model.get_submodule(n) for n in learner.names if n != "head"]
    for part in output if isinstance(output, tuple) else [output]:
        assert not reached(part) & set().union(*map(ids, hidden))
    for k, taught in enumerate(learner._call.taught):
        own = hidden[min(k, len(hidden) - 1)]
        others = set().union(*(ids(other) for other in hidden if other is not own))
        assert ids(own) <= reached(taught.output)
        assert not others & reached(taught.output)


def test_a_returned_output_has_its_true_gradient():
    """A block that computes the model's output is not hidden. Catches: an output that stays detached."""

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))

        def forward(self, x):
            return self.net(x)

    whole, cut = draw(Plain()), draw(Plain())
    x, y = normal(5, 4), torch.arange(5) % 3
    cross_entropy(whole(x), y).backward()
    learner = DirectFeedback(cut, feedback=RandomFeedback(0))
    assert learner.names == ["net.0", "net.2"]
    output = cut(x)
    learner.backward(cross_entropy(output, y), output)
    torch.testing.assert_close(cut.net[2].weight.grad, whole.net[2].weight.grad)
    assert alignment(learner, cross_entropy, x, y)[1] == pytest.approx(0.0, abs=1e-4)


def test_other_terms_of_the_loss_have_their_gradient():
    """Weight decay in the loss also reaches hidden blocks. Catches: a backward pass from the output only."""
    model = draw(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)))
    x, y = normal(5, 4), torch.arange(5) % 3
    grads = []
    for decay in (0.0, 0.3):
        learner = DirectFeedback(model, feedback=RandomFeedback(0))
        model.zero_grad()
        output = model(x)
        penalty = sum(p.square().sum() for p in model.parameters()) / 2
        learner.backward(cross_entropy(output, y) + decay * penalty, output)
        grads.append([p.grad.clone() for p in model.parameters()])
    for without, regularised, p in zip(*grads, model.parameters(), strict=True):
        torch.testing.assert_close(regularised, without + 0.3 * p)
