"""The end of somebody's network: normalised, reshaped, cast or returned with other tensors."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits, cross_entropy, nll_loss, one_hot

from dfa import DirectFeedback, RandomFeedback, Ternary
from dfa.models import mlp
from dfa.rules.learner import tensors
from tests.dfa.networks import SEED, draw, normal

X, Y = normal(12, 6), torch.arange(12) % 4
ENCODER = Ternary(deviations=0.5)
"""Codes depend on the error, so that gradients are equal only if the errors are."""


class Net(nn.Module):
    """Two tanh blocks and a linear head; `end` maps the logits and the block outputs to what the model returns."""

    def __init__(self, end=lambda logits, *hidden: logits):
        super().__init__()
        self.a, self.b = (nn.Sequential(nn.Linear(i, 8), nn.Tanh()) for i in (6, 8))
        self.head, self.end = nn.Linear(8, 4), end

    def forward(self, x):
        a = self.a(x)
        b = self.b(a)
        return self.end(self.head(b), a, b)


def gradients(model, blocks, loss=cross_entropy, x=X, y=Y, give=lambda output, loss: output, **options):
    """Return the gradients of all parameters in order."""
    learner = DirectFeedback(draw(model), blocks, RandomFeedback(SEED, ENCODER), **options)
    output = learner.model(x)
    value = loss(output, y)
    learner.backward(value, give(output, value))
    return [p.grad for p in model.parameters()]


def assert_same(found, wanted, **tolerance):
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


@pytest.fixture
def wanted():
    return gradients(Net(), ["a", "b"])


def log_of_softmax(output, y):
    return nll_loss(output.log(), y)


def sigmoid_loss(output, y):
    return binary_cross_entropy(output, one_hot(y, 4).double())


def logits_loss(output, y):
    return binary_cross_entropy_with_logits(output, one_hot(y, 4).double())


@pytest.mark.parametrize(
    ("end", "loss", "plain"),
    [
        (lambda z, *h: z.log_softmax(1), nll_loss, cross_entropy),
        (lambda z, *h: z.softmax(1), log_of_softmax, cross_entropy),
        (lambda z, *h: z.softmax(1).clamp_min(1e-9).log(), nll_loss, cross_entropy),
        (lambda z, *h: z.sigmoid(), sigmoid_loss, logits_loss),
    ],
)
@pytest.mark.parametrize("blocks", [["a", "b"], ["a", "b", "head"]])
def test_the_error_is_taken_before_a_final_normalisation(end, loss, plain, blocks):
    """Also if the last layer is a block. Catches: the error at log-probabilities, whose size never falls."""
    assert_same(gradients(Net(end), blocks, loss), gradients(Net(), ["a", "b"], plain))


def test_a_probability_for_each_sample():
    """One sigmoid, squeezed to (batch,). Catches: the error at the probability; rows of one class lost."""

    class One(Net):
        def __init__(self, normal):
            super().__init__(lambda z, *h: (z[:, :1].sigmoid() if normal else z[:, :1]).squeeze(1))

    y = (Y > 1).double()
    found = gradients(One(True), ["a", "b"], binary_cross_entropy, y=y)
    assert_same(found, gradients(One(False), ["a", "b"], binary_cross_entropy_with_logits, y=y))


@pytest.mark.parametrize("blocks", [["a", "b"], ["a", "b", "head"]])
@pytest.mark.parametrize(
    "end",
    [
        lambda z, *h: z.view(12, 2, 2).flatten(1),
        lambda z, *h: z.view(12, 4, 1)[..., 0],
        lambda z, *h: z.float().double(),
        lambda z, *h: 1.0 * z,
    ],
)
def test_an_output_that_is_reshaped_or_cast_after_the_head(end, blocks, wanted):
    """Also with a last layer that is a block. Catches: an error about a block with the output, or none at all."""
    assert_same(gradients(Net(end), blocks), wanted, rtol=1e-5, atol=1e-7)


def test_a_tensor_computed_from_the_output(wanted):
    """A cast or a view outside of the model. Catches: an error for an output that is the last call's."""
    for give in (lambda o, loss: o.float(), lambda o, loss: [o.view(-1)], lambda o, loss: o[:3]):
        assert_same(gradients(Net(), ["a", "b"], give=give), wanted)


def test_tokens_flattened_by_the_model():
    """(tokens, batch, classes) returned as (tokens batch, classes), and the reverse. Catches: refused rows."""
    x, y = normal(5, 3, 6), torch.arange(15).view(5, 3) % 4

    class Rows(Net):
        def __init__(self, before, after):
            super().__init__(lambda z, *h: after(z))
            self.before = before

        def forward(self, x):
            return super().forward(self.before(x))

    def same(t):
        return t

    def flat(t):
        return t.flatten(0, 1)

    def loss(output, y):
        return cross_entropy(output.flatten(0, -2), y.flatten())

    plain = gradients(Rows(same, same), ["a", "b"], loss, x, y)
    for before, after in ((same, flat), (flat, same), (flat, lambda t: t.unflatten(0, (5, 3)))):
        assert_same(gradients(Rows(before, after), ["a", "b"], loss, x, y), plain)


@pytest.mark.parametrize(
    "end",
    [
        lambda z, a, b: (z, a, b),
        lambda z, a, b: (a, z),
        lambda z, a, b: {"hidden": [a, b], "logits": z},
        lambda z, a, b: (z, b.mean(dim=1), a.sum()),
    ],
)
def test_returned_features_that_the_loss_does_not_use(end, wanted):
    """Their blocks are taught all the same. Catches: blocks without a gradient; features counted as classes."""

    def loss(output, y):
        values = output.values() if isinstance(output, dict) else output
        return cross_entropy(next(v for v in values if isinstance(v, torch.Tensor) and v.shape == (12, 4)), y)

    assert_same(gradients(Net(end), ["a", "b"], loss), wanted)


def test_features_in_the_loss_have_both_gradients(wanted):
    """A penalty on features adds its own gradient. Catches: a block taught by the penalty only."""

    def loss(output, y):
        return cross_entropy(output[0], y) + 0.1 * output[1].square().sum()

    model = Net(lambda z, a, b: (z, a))
    found = gradients(model, ["a", "b"], loss)
    extra = copy.deepcopy(model)
    extra.zero_grad()
    (0.1 * extra.a(X).square().sum()).backward()
    assert_same(found[:2], [w + p.grad for w, p in zip(wanted[:2], extra.a.parameters(), strict=True)])
    assert_same(found[2:], wanted[2:])


def test_a_loss_among_the_outputs(wanted):
    """``(loss, logits)`` and ``out.loss``. Catches: `len() of a 0-d tensor`."""
    for end in (
        lambda z, *h: (cross_entropy(z, Y), z),
        lambda z, *h: {"loss": cross_entropy(z, Y), "logits": z, "hidden": h},
    ):
        assert_same(gradients(Net(end), ["a", "b"], lambda output, y: next(iter(tensors(output)))), wanted)


@pytest.mark.parametrize("end", [None, nn.LogSoftmax(1)])
def test_a_loss_that_the_model_computes_from_its_last_block(end, wanted):
    """The last layer is a block whose output the model returns. Catches: a loss that depends on no output."""

    class Own(Net):
        def __init__(self):
            super().__init__()
            self.head = self.head if end is None else nn.Sequential(self.head, end)

        def forward(self, x):
            logits = super().forward(x)
            return (cross_entropy if end is None else nll_loss)(logits, Y), logits

    assert_same(gradients(Own(), ["a", "b", "head"], lambda output, y: output[0]), wanted)


def test_a_model_that_returns_only_its_loss_is_refused():
    with pytest.raises(ValueError, match="got only a loss: return the logits, too"):
        gradients(Net(lambda z, *h: cross_entropy(z, Y)), ["a", "b"], lambda output, y: output)


def test_a_last_block_called_several_times_is_still_cut():
    """A model without a head whose steps are stacked: each call has its true gradient. Catches: no gradient."""

    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.Sequential(nn.Linear(6, 6), nn.Tanh())

        def forward(self, x):
            h = self.cell(x)
            return torch.stack([h, self.cell(h)], dim=1)

    model = draw(Steps())
    learner = DirectFeedback(model, ["cell"], RandomFeedback(SEED))
    output = model(X)
    learner.backward(output.square().sum(), output)
    found = [p.grad.clone() for p in model.parameters()]
    learner.remove()
    model.zero_grad()
    h = model.cell(X)
    (h.square().sum() + model.cell(h.detach()).square().sum()).backward()
    assert_same(found, [p.grad for p in model.parameters()])


def test_a_frozen_last_block_that_is_reshaped():
    """The hidden blocks learn as before. Catches: an error that asks for other blocks."""
    wanted = gradients(Net(), ["a", "b"])
    model = Net(lambda z, *h: z.view(12, 2, 2).flatten(1))
    model.head.requires_grad_(False)
    found = gradients(model, ["a", "b", "head"])
    assert_same(found[:4], wanted[:4])


def test_nothing_but_a_normalisation_after_the_last_block():
    """The last block has its true gradient. Catches: an error that asks for other blocks."""
    model = draw(nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.LogSoftmax(1)))
    output = model(X)
    wanted = torch.autograd.grad(nll_loss(output, Y), list(model.parameters()))
    assert_same(gradients(model, ["1"], nll_loss), wanted)


def test_the_usual_network_has_no_extra_products():
    """A model whose last block is its output keeps no leaf in the way. Catches: gradients for constants."""
    model = mlp([6, 8, 4]).double()
    learner = DirectFeedback(model, feedback=RandomFeedback(0))
    output = model(X)
    learner.backward(cross_entropy(output, Y), output)
    assert all(constant.grad is None for constant, _ in learner._call.constants)
