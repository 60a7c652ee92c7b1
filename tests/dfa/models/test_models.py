"""Networks: their outputs equal their formulas, their blocks, and their weights as a function of the seed."""

import copy
import math

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import nn

from dfa import DirectFeedback, RandomFeedback
from dfa.data.planetoid import normalised_adjacency
from dfa.models import char_transformer, cnn, gcn
from dfa.models.gcn import GraphConvolution

NODES = 30


def edges(seed=0):
    return np.random.default_rng(seed).integers(0, NODES, (50, 2))


def adjacency():
    return normalised_adjacency(edges(), NODES)


def pictures(batch=6, side=12, seed=0):
    return torch.randn(batch, side * side, generator=torch.Generator().manual_seed(seed))


def words(seed=0):
    return torch.randn(NODES, 9, generator=torch.Generator().manual_seed(seed))


def characters(batch=3, tokens=10, seed=0):
    return torch.randint(0, 20, (batch, tokens), generator=torch.Generator().manual_seed(seed))


MODELS = {
    "cnn": (lambda seed=0: cnn(12, (4, 6), 16, 5, seed=seed), pictures),
    "gcn": (lambda seed=0: gcn([9, 8, 8, 4], adjacency(), 0.0, seed), words),
    "transformer": (lambda seed=0: char_transformer(20, 12, 16, 2, 2, seed), characters),
}
every = pytest.mark.parametrize("name", MODELS)


@every
def test_the_blocks_in_order_are_the_network(name):
    """Applied one after the other they give the network's output. Catches: a part outside of every block."""
    make, inputs = MODELS[name]
    model, h = make(), inputs()
    output = model(h)
    blocks = [model.get_submodule(block) for block in model.blocks]
    for block in blocks:
        h = block(h)
    assert torch.equal(h, output)
    inside = [p for block in blocks for p in block.parameters()]
    assert [id(p) for p in inside] == [id(p) for p in model.parameters()]
    assert all(any(True for _ in block.parameters()) for block in blocks)


@every
def test_weights_are_a_function_of_the_seed(name):
    """The global generator of torch has no effect. Catches: weights drawn by torch."""
    make, _ = MODELS[name]
    torch.manual_seed(1)
    first = make(3)
    torch.manual_seed(2)
    second, other = make(3), make(4)
    for a, b, c in zip(first.parameters(), second.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        fixed = torch.equal(a, torch.zeros_like(a)) or torch.equal(a, torch.ones_like(a))  # norms, biases of the gcn
        assert fixed or not torch.equal(a, c)


@every
def test_copies_and_states(name):
    """A copy and a reloaded state give the same output; the state does not contain the graph.

    Catches: a buffer that is lost, or saved with the weights.
    """
    make, inputs = MODELS[name]
    model, x = make(), inputs()
    assert torch.equal(copy.deepcopy(model)(x), model(x))
    other = make(1)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))
    assert len(model.state_dict()) == len(list(model.parameters()))


@every
def test_autocast(name):
    """bfloat16 within its rounding, 2^-8 of the scale for each of a few products. Catches: a product of two types."""
    make, inputs = MODELS[name]
    model, x = make(), inputs()
    with torch.no_grad():
        exact = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(x)
    assert float((rounded.float() - exact).abs().max() / exact.abs().max()) < 0.05


@every
def test_every_parameter_learns_by_feedback(name):
    """The last block has the gradient of backpropagation, the others have another one.

    Catches: a block that is not named, a block whose output has no row for each row of the error.
    """
    make, inputs = MODELS[name]
    model, x = make(), inputs()
    learner = DirectFeedback(model, model.blocks, RandomFeedback(0))
    output = model(x)
    target = torch.zeros(output.shape[:-1], dtype=torch.int64).flatten()
    learner.backward(nn.functional.cross_entropy(output.flatten(0, -2), target), output)
    found = {p: v.grad for p, v in model.named_parameters()}
    learner.remove()
    model.zero_grad()
    nn.functional.cross_entropy(model(x).flatten(0, -2), target).backward()
    for p, v in model.named_parameters():
        assert found[p] is not None and v.grad is not None
        same = torch.allclose(found[p], v.grad, rtol=1e-4, atol=1e-7)
        assert same == p.startswith(model.blocks[-1]) or not v.grad.abs().max() > 1e-6, p


def test_uniform_weights():
    """Within 1/sqrt(fan_in), deviation 1/sqrt(3 fan_in). Catches: fan_out, or a fan_in without the kernel's size."""
    model = cnn(28, (16, 32), 128)
    fans = {"conv1.1": 9, "conv2.0": 16 * 9, "hidden.1": 32 * 49, "output": 128}
    for name, fan_in in fans.items():
        weight = model.get_submodule(name).weight
        assert float(weight.detach().abs().max()) <= 1 / math.sqrt(fan_in)
        expected = 1 / math.sqrt(3 * fan_in)
        assert abs(float(weight.detach().std()) / expected - 1) < 4 / math.sqrt(2 * weight.numel())


def test_glorot_weights():
    layer = gcn([1433, 16, 7], adjacency())[0]
    bound = math.sqrt(6 / (1433 + 16))
    assert 0.99 * bound < float(layer.weight.detach().abs().max()) <= bound
    assert not layer.bias.any()


def test_convolutions_are_equivariant_to_shifts():
    """A shift of two pixels in the image is a shift of one in the first block's output. Catches: exchanged pixels."""
    model = cnn(12, (4,), 16)
    picture = torch.zeros(1, 12, 12)
    picture[0, 3:7, 3:7] = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    moved = torch.roll(picture, (2, 4), (1, 2))
    block = model.get_submodule("conv1")
    still, shifted = block(picture.flatten(1)), block(moved.flatten(1))
    assert still.shape == (1, 4, 6, 6)
    torch.testing.assert_close(torch.roll(still, (1, 2), (2, 3))[..., 1:5, 2:6], shifted[..., 1:5, 2:6])


def test_graph_convolutions_equal_their_formula():
    """``A relu(A X W0 + b0) W1 + b1``, for dense and sparse features. Catches: an activation at the end, A left out."""
    model, x = gcn([9, 8, 4], adjacency(), 0.5).eval(), words().relu()
    for layer in model:
        nn.init.normal_(layer.bias)
    a = adjacency().to_dense()
    h = torch.relu(a @ x @ model[0].weight + model[0].bias)
    expected = a @ h @ model[1].weight + model[1].bias
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(x.to_sparse()), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("kind", ["csr_matrix", "coo_array", "torch csr", "torch double"])
def test_graphs_may_be_scipy_matrices(kind):
    """Adjacency and features of any layout and type give the same gradients. Catches: only torch's matrices allowed."""

    def converted(matrix):
        if kind == "torch csr":
            return matrix.to_sparse_csr()
        if kind == "torch double":
            return matrix.double() if matrix is a else matrix
        return getattr(scipy.sparse, kind)(matrix.to_dense().double().numpy())

    a, x = adjacency(), words().relu().to_sparse()
    found = []
    for graph, features in ((a, x), (converted(a), converted(x))):
        model = gcn([9, 8, 8, 4], graph, 0.0)
        learner = DirectFeedback(model, feedback=RandomFeedback(0), diffuse=graph)
        output = model(features)
        learner.backward(nn.functional.cross_entropy(output, torch.arange(NODES) % 4), output)
        found.append([output, *(p.grad for p in model.parameters())])
    for wanted, got in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted)


def test_outputs_follow_the_numbering_of_the_nodes():
    """A permutation of the nodes permutes the outputs. Catches: a transposed or misplaced adjacency."""
    order = torch.randperm(NODES, generator=torch.Generator().manual_seed(0))
    place = torch.argsort(order).numpy()
    straight = gcn([9, 8, 4], adjacency(), 0.0)
    mixed = gcn([9, 8, 4], normalised_adjacency(place[edges()], NODES), 0.0)
    torch.testing.assert_close(mixed(words()[order]), straight(words())[order], rtol=1e-4, atol=1e-5)


def test_two_layers_reach_two_steps():
    """On a line of nodes. Catches: a layer that multiplies by the adjacency twice, or not at all."""
    line = normalised_adjacency(np.stack([np.arange(9), np.arange(1, 10)], axis=1), 10)
    model = gcn([9, 8, 4], line, 0.0)
    x = torch.randn(10, 9, generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[5] += 1
    changed = (model(x) - model(other)).abs().amax(dim=1) > 0
    assert changed.nonzero().flatten().tolist() == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_dropout_keeps_the_mean(layout):
    """Over 2000 draws within 4.5 standard errors of the output without dropout; evaluation has no dropout.

    Catches: dropout of sparse entries without the scale 1 / (1 - p), or none at all.
    """
    layer = GraphConvolution(adjacency(), 9, 2, 0.5, nn.Identity(), torch.Generator().manual_seed(0))
    x = words() if layout == "dense" else words().to_sparse()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        draws = torch.stack([layer(x) for _ in range(2000)])
        exact = layer.eval()(x)
    error = draws.std(dim=0) / math.sqrt(len(draws))
    assert float(error.min()) > 0
    assert float(((draws.mean(dim=0) - exact).abs() / error).max()) < 4.5
    assert torch.equal(layer(x), exact)


def test_the_transformer_is_causal():
    """A character changes the outputs at its position and after it, not before. Catches: attention without a mask."""
    model = char_transformer(20, 12, 16, 2, 2)
    x = characters(1, 10)
    other = x.clone()
    other[0, 6] = (other[0, 6] + 1) % 20
    changed = (model(x) - model(other)).abs().amax(dim=(0, 2)) > 1e-6
    assert changed.tolist() == [False] * 6 + [True] * 4


def test_the_transformer_depends_on_positions():
    """With one repeated character only the position embedding differs. Catches: a missing position embedding."""
    model = char_transformer(20, 12, 16, 2, 2)
    output = model(torch.full((1, 10), 7)).detach()
    assert float((output[0, 1:] - output[0, :-1]).abs().amax(dim=1).min()) > 1e-3


def test_heads_attend_independently():
    """Attention equals an explicit sum over heads. Catches: heads and tokens exchanged in a reshape."""
    attention = char_transformer(20, 12, 16, 1, 4).get_submodule("layer1.1.0.layer")
    h = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    query, key, value = attention.inputs(h).split(16, dim=2)
    mask = torch.full((5, 5), -math.inf).triu(1)
    parts = []
    for head in range(4):
        part = slice(4 * head, 4 * head + 4)
        weights = torch.softmax(query[..., part] @ key[..., part].transpose(1, 2) / 2.0 + mask, dim=-1)
        parts.append(weights @ value[..., part])
    torch.testing.assert_close(attention(h), attention.output(torch.cat(parts, dim=2)), rtol=1e-4, atol=1e-5)


def test_the_reference_transformer_has_its_size():
    model = char_transformer(65)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(0.8e6, rel=0.05)
    assert len(model.blocks) == 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cnn(3, (4, 4)), "side must be at least 4"),
        (lambda: cnn(8, ()), "channels, hidden and classes must be positive"),
        (lambda: cnn(8, (4, 0)), "channels, hidden and classes must be positive"),
        (lambda: gcn([4], adjacency()), "sizes must be two or more"),
        (lambda: gcn([4, 2], adjacency(), 1.0), "dropout must be at least 0 and less than 1"),
        (lambda: gcn([4, 2], [[0, 1]]), "adjacency must be a sparse matrix of torch or scipy, got list"),
        (lambda: char_transformer(0), "characters must be positive"),
        (lambda: char_transformer(20, heads=3), "heads must divide the width 128, got 3"),
        (lambda: char_transformer(20, 4, 8, 1, 1)(characters(1, 5)), "at most 4 characters, got 5"),
    ],
)
def test_bad_sizes(call, message):
    with pytest.raises(ValueError, match=message):
        call()
