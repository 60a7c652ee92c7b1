"""Targets of feedback that learns, and signals that enter behind a norm."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, layer_norm, one_hot

from dfa import DirectFeedback, RandomFeedback
from dfa.feedback.learned import LearnedFeedback
from dfa.models import char_transformer, cnn, mlp
from dfa.rules.targets import pass_norm


class Keeper(LearnedFeedback):
    """Keeps what it is given, and teaches nothing."""

    variant = "keeper"

    def __init__(self, needs):
        super().__init__(RandomFeedback(0), pixels=3)
        self.needs, self.due_now, self.kept = needs, needs == "gradients", []

    @property
    def due(self):
        return self.due_now

    def _learn(self, error, targets):
        self.kept.append((error, targets))


class Strange(nn.Module):
    """A block that is called twice, another that changes its input in place, a sum around a third."""

    def __init__(self):
        super().__init__()
        self.twice = nn.Sequential(nn.Tanh(), nn.Linear(6, 6))
        self.inplace = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 6))
        self.third, self.head = nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x):
        h = self.inplace(self.twice(self.twice(x)))
        return self.head(h + self.third(h))


class Functional(nn.Module):
    """Layers as blocks, with activations that are functions: the learner teaches after the activation."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 8), nn.Linear(8, 7), nn.Linear(7, 4)

    def forward(self, x):
        h = torch.tanh(self.first(x))
        self.seen = [h, torch.relu(self.second(h))]
        return self.head(self.seen[1])


MODELS = {
    "functional": lambda: (Functional(), ["first", "second"], torch.randn(5, 6)),
    "mlp": lambda: (mlp([6, 8, 7, 4]), None, torch.randn(5, 6)),
    "strange": lambda: (Strange(), ["twice", "inplace", "third"], torch.randn(5, 6)),
    "cnn": lambda: (cnn(8, (3, 5), 6, 4), None, torch.randn(5, 64)),
    "transformer": lambda: (char_transformer(4, 6, 8, 2, 2), None, torch.randint(4, (5, 6))),
}


@pytest.mark.parametrize("name", MODELS)
def test_true_gradients_are_those_of_backpropagation(name):
    """Piece by piece, with one forward pass; the update of the blocks does not change.

    Catches: a second reader of a copy left out; gradients on another scale than the signals; a copy changed in place.
    """
    torch.manual_seed(0)
    model, blocks, x = MODELS[name]()
    y = torch.randint(4, (x.shape if name == "transformer" else (5,)))
    feedback = Keeper("gradients")
    learner = DirectFeedback(model, blocks, feedback)
    found = []
    for due in (True, False):
        feedback.due_now = due
        model.zero_grad()
        output = model(x)
        learner.backward(cross_entropy(output.flatten(0, -2), y.flatten()), output)
        found.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    ((error, targets),) = feedback.kept
    outputs = {}
    names = {id(g[-1]): k for k, g in enumerate(learner.blocks)}

    def keep(module, inputs, output):
        outputs.setdefault(names[id(module)], []).append(output)
        return output.clone()  # which the next block may change in place

    learner.remove()
    for module in model.modules():
        if id(module) in names:
            module.register_forward_hook(keep)
    output = model(x)
    inner = [h for k in sorted(outputs) for h in outputs[k]] if name != "functional" else model.seen
    for h in inner:
        h.retain_grad()
    cross_entropy(output.flatten(0, -2), y.flatten()).backward()
    true = [h.grad for h in inner][: len(targets)]
    for target, gradient in zip(targets, true, strict=True):
        torch.testing.assert_close(target, len(error) * gradient.reshape(target.shape), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("spread", "dims"),
    [("each", None), ("channels", (2, 3)), ("features", (1, 2))],
    ids=["each", "channels", "features"],
)
def test_outputs_come_in_rows(spread, dims):
    """The mean over the places that share a signal. Catches: the sum, or the wrong dimension."""
    torch.manual_seed(0)
    feedback, model = Keeper("outputs"), cnn(8, (3, 5), 6, 4)
    learner = DirectFeedback(model, feedback=feedback, spread=spread)
    output = model(torch.randn(5, 64))
    first = learner._call.taught[0].output
    learner.backward(cross_entropy(output, torch.arange(5) % 4), output)
    expected = first.flatten(1) if dims is None else first.mean(dims)
    torch.testing.assert_close(feedback.kept[0][1][0], expected.detach())


@pytest.mark.parametrize("shape", [(4, 7), (4, 3, 5, 5)])
def test_signals_behind_a_norm_pass_its_derivative(shape):
    """As autograd through `layer_norm`. Catches: the mean of a row left in; a missing division."""
    torch.manual_seed(0)
    h, signal = (2 * torch.randn(shape) + 1).requires_grad_(), torch.randn(shape)
    layer_norm(h, shape[1:]).backward(signal)
    torch.testing.assert_close(pass_norm(signal, h, 1, "norm"), h.grad, rtol=1e-4, atol=1e-5)
    assert pass_norm(signal, h, 1, None) is signal


def test_through_norm_teaches_behind_a_norm_of_every_token():
    """Gradients equal those of the sum of <LN(h), delta>. Catches: one norm over all tokens."""
    torch.manual_seed(0)
    model, x, y = char_transformer(4, 6, 8, 2, 2), torch.randint(4, (5, 6)), torch.randint(4, (5, 6))
    source = RandomFeedback(1)
    learner = DirectFeedback(model, feedback=source, through="norm", scale=1.0)
    output = model(x)
    hidden = [t.output for t in learner._call.taught][:-1]
    error = output.detach().softmax(-1) - one_hot(y, 4)
    signals = RandomFeedback(1)(error.flatten(0, 1), [8, 8])
    total = sum((layer_norm(h, (8,)) * (s / 30).view_as(h)).sum() for h, s in zip(hidden, signals, strict=True))
    parameters = [*model.layer1.parameters(), *model.layer2.parameters()]
    expected = torch.autograd.grad(total, parameters, retain_graph=True)
    learner.backward(cross_entropy(output.flatten(0, 1), y.flatten()), output)
    for p, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-3, atol=1e-6)
    with pytest.raises(ValueError, match="through must be 'norm' or None, got 'batch'"):
        DirectFeedback(model, through="batch")


def test_deep_convolutions_without_a_norm_are_warned_of():
    """Three convolutions, but not two, not with a norm, and not behind `through`. Catches: a false alarm."""
    deep = cnn(8, (2, 2, 2), 4)
    with pytest.warns(UserWarning, match="3 blocks of convolutions without a norm"):
        DirectFeedback(deep, feedback=RandomFeedback(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DirectFeedback(deep, feedback=RandomFeedback(0), through="norm")
        DirectFeedback(deep)
        DirectFeedback(cnn(8, (2, 2, 2), 4, norm=True), feedback=RandomFeedback(0))
        DirectFeedback(cnn(8, (2, 2), 4), feedback=RandomFeedback(0))
