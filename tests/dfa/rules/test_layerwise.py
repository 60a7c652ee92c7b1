"""Feedback alignment, sign-symmetric feedback and backpropagation with the learner's interface."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, conv_transpose2d, cross_entropy

from dfa import DirectFeedback, LayerFeedback, alignment
from dfa.models import mlp
from tests.dfa.networks import Transformer, draw, normal

SIZES = [6, 9, 8, 4]
X, Y = normal(12, 6), torch.arange(12) % 4


def step(learner, x=X, y=Y):
    output = learner.model(x)
    learner.model.zero_grad()
    learner.backward(cross_entropy(output, y), output)
    return [p.grad.clone() for p in learner.model.parameters()]


@pytest.mark.parametrize("weights", ["transposed", "random", "sign"])
def test_gradients_equal_hand_derived_ones(weights):
    """``delta_k = (delta_{k+1} B_{k+1}) f'(a_k)``. Catches: B transposed; a last layer without B."""
    model = draw(mlp(SIZES))
    learner = LayerFeedback(model, weights=weights, seed=3)
    found = step(learner)
    with torch.no_grad():
        w1, b1, w2, b2, w3, b3 = model.parameters()
        h1 = torch.tanh(X @ w1.T + b1)
        h2 = torch.tanh(h1 @ w2.T + b2)
        e = (torch.softmax(h2 @ w3.T + b3, 1) - nn.functional.one_hot(Y, 4)) / 12
        back = {
            "transposed": [w1, w2, w3],
            "random": [learner.matrix(k) for k in range(3)],
            "sign": [w.sign() / (3 * w.shape[1]) ** 0.5 for w in (w1, w2, w3)],
        }[weights]
        d2 = (e @ back[2]) * (1 - h2**2)
        d1 = (d2 @ back[1]) * (1 - h1**2)
    for a, b in zip(found, [d1.T @ X, d1.sum(0), d2.T @ h1, d2.sum(0), e.T @ h2, e.sum(0)], strict=True):
        assert (a - b).abs().max() <= 1e-6 * b.abs().max()


def test_random_matrices_have_the_variance_of_fresh_weights():
    """``1/(3 fan_in)``, 4 standard errors, and are functions of seed and layer. Catches: the fan-out instead."""
    model = mlp([300, 200, 200, 5])
    learner = LayerFeedback(model, seed=1)
    matrix = learner.matrix(0)
    assert matrix.shape == (200, 300)
    assert abs(float(matrix.var()) * 900 - 1) < 4 * (2 / 60_000) ** 0.5
    assert torch.equal(matrix, LayerFeedback(copy.deepcopy(model), seed=1).matrix(0))
    assert not torch.equal(matrix, LayerFeedback(copy.deepcopy(model), seed=2).matrix(0))
    first, second = (learner.matrix(k)[0, :200] * (3 * fan_in) ** 0.5 for k, fan_in in ((0, 300), (1, 200)))
    assert not torch.allclose(first, second)


def test_convolutions_with_stride_padding_and_their_transpose():
    """The input's gradient is the transposed convolution with B. Catches: another stride or padding."""
    first = nn.Conv2d(1, 2, 3)
    model = draw(nn.Sequential(first, nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.ConvTranspose2d(3, 2, 2, stride=2)))
    learner = LayerFeedback(model, seed=0, blocks=[[0], [1], [2]])
    x, target = normal(2, 1, 9, 9), normal(2, 2, 8, 8)
    output = model(x)
    learner.backward(0.5 * (output - target).square().sum(), output)
    with torch.no_grad():
        delta = conv2d(output - target, learner.matrix(2), stride=2)
        delta = conv_transpose2d(delta, learner.matrix(1), stride=2, padding=1)
    h = first(x)
    [wanted] = torch.autograd.grad(h, first.weight, delta)
    torch.testing.assert_close(first.weight.grad, wanted)


def test_transposed_is_backpropagation_on_any_network():
    model, plain = draw(Transformer()), draw(Transformer())
    tokens = torch.arange(10).view(2, 5) % 7
    learner = LayerFeedback(model, weights="transposed")
    for m, back in ((model, learner.backward), (plain, lambda loss, output: loss.backward())):
        output = m(tokens)
        back(cross_entropy(output.flatten(0, 1), tokens.flatten()), output)
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


def test_same_interface():
    """Angles, copies, removal, a state with its seed. Catches: hooks that are not removed."""
    learner = LayerFeedback(draw(mlp(SIZES)), weights="sign")
    angles = alignment(learner, cross_entropy, X, Y)
    assert angles[-1] == pytest.approx(0.0, abs=1e-4)
    assert all(0 < angle < 90 for angle in angles[:-1])  # signs agree
    assert alignment(LayerFeedback(draw(mlp(SIZES)), weights="transposed"), cross_entropy, X, Y) == pytest.approx(
        [0.0] * 3, abs=1e-4
    )
    twin, state = copy.deepcopy(learner), learner.state_dict()
    for a, b in zip(step(twin), step(learner), strict=True):
        assert torch.equal(a, b)
    assert state == {"rule": "layerwise", "blocks": ["0", "2", "4"], "weights": "sign", "seed": 0}
    with pytest.raises(ValueError, match="weights 'random', got one with 'sign'"):
        LayerFeedback(draw(mlp(SIZES)), seed=4).load_state_dict(state)
    learner.remove()
    with pytest.raises(ValueError, match="hooks, which were removed"):
        step(learner)
    plain = draw(mlp(SIZES))
    for model in (plain, learner.model):
        model.zero_grad()
        cross_entropy(model(X), Y).backward()
    for a, p in zip(learner.model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a.grad, p.grad)
    other = LayerFeedback(learner.model, seed=9)
    other.load_state_dict(LayerFeedback(mlp(SIZES), seed=5).state_dict())
    assert other.seed == 5
    assert isinstance(DirectFeedback(learner.model), DirectFeedback)


@pytest.mark.parametrize("weights", ["random", "sign"])
def test_a_layer_may_get_its_input_by_keyword(weights):
    """Catches: a hook that handles positional arguments only."""

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = draw(nn.Linear(6, 9)), draw(nn.Linear(9, 4))

        def forward(self, x):
            return self.second(input=torch.tanh(self.first(input=x)))

    named, found = Named(), []
    plain = nn.Sequential(named.first, nn.Tanh(), named.second)
    for model in (named, plain):
        found.append(step(LayerFeedback(model, weights)))
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_bad_arguments():
    with pytest.raises(ValueError, match="model must have linear or convolutional layers, got none in Embedding"):
        LayerFeedback(nn.Embedding(3, 4))
    with pytest.raises(ValueError, match="weights must be one of"):
        LayerFeedback(mlp(SIZES), weights="other")
    with pytest.raises(ValueError, match="dotted names"):
        LayerFeedback(mlp(SIZES), blocks=["nope"])
    learner = LayerFeedback(nn.Linear(6, 4))
    with pytest.raises(ValueError, match="loss must be finite"):
        learner.backward(learner.model(X.float()).sum() * float("inf"))
