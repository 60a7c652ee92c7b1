"""Blocks named without their activation are taught after it, as if both were in one module."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.functional import cross_entropy

from dfa import DirectFeedback, RandomFeedback
from tests.dfa.networks import SEED, draw, normal

X, Y = normal(12, 6), torch.arange(12) % 4
IMAGES = normal(12, 1, 8, 8)


def gradients(model, blocks, x=X):
    """Return the gradients of two steps, parameter by parameter; the second step knows what follows each block."""
    learner = DirectFeedback(draw(model), blocks, RandomFeedback(SEED))
    for _ in range(2):
        model.zero_grad()
        output = model(x)
        learner.backward(cross_entropy(output, Y), output)
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, msg=name)


class Whole(nn.Module):
    """A function as a module, to be named as the end of a block."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Net(nn.Module):
    """Layers with functions after them. `named` makes the functions modules."""

    def __init__(self, layers, act, named):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.acts = nn.ModuleList(Whole(act) for _ in layers[:-1]) if named else [act] * (len(layers) - 1)

    def forward(self, x):
        for layer, act in zip(self.layers, [*self.acts, lambda x: x], strict=True):
            x = act(layer(x))
        return x


def linear():
    return [nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4)]


def convolutions():
    return [nn.Conv2d(1, 3, 3), nn.Conv2d(3, 2, 3), nn.Sequential(nn.Flatten(), nn.Linear(8, 4))]


@pytest.mark.parametrize(
    "act",
    [
        torch.tanh,
        F.relu,
        torch.Tensor.relu_,
        lambda x: F.relu(x, inplace=True),
        lambda x: F.gelu(x, approximate="tanh"),
        lambda x: F.leaky_relu(input=x, negative_slope=0.2),
        lambda x: F.dropout(x, 0.0).sigmoid(),
        lambda x: torch.sin(x),
        nn.ELU(),
        lambda x: F.relu(x + 0.1),
        lambda x: F.relu(F.layer_norm(x, (8,))),
        lambda x: F.relu(x.view(12, 2, 4)).flatten(1),
        lambda x: x.clip(min=0.0),
        F.logsigmoid,
        torch.atan,
        lambda x: torch.tanh(-x.nan_to_num()),
        lambda x: (x.detach().std(), torch.zeros_like(x), x.tanh())[2],
    ],
)
def test_the_activation_that_follows_belongs_to_the_block(act):
    """Catches: no derivative of the activation, with which hidden weights run away."""
    found = gradients(Net(linear(), act, False), ["layers.0", "layers.1"])
    assert_same(found, gradients(Net(linear(), act, True), ["acts.0", "acts.1"]))


@pytest.mark.parametrize(
    "act",
    [lambda x: F.relu(F.max_pool2d(x, 2)), lambda x: F.max_pool2d(F.relu(x), 2), lambda x: F.avg_pool2d(x, 2).tanh()],
)
def test_pooling_before_or_after_the_activation(act):
    """The block is taught at the activation. Catches: a CNN of PyTorch's examples that learns nothing."""
    layers = [nn.Conv2d(1, 3, 3), nn.Sequential(nn.Flatten(), nn.Linear(27, 4))]
    found = gradients(Net(layers, act, False), ["layers.0"], IMAGES)
    model = draw(Net(layers, act, False))
    model.zero_grad()
    seen = []
    model.layers[0].register_forward_hook(lambda m, i, o: seen.append(o))
    learner = DirectFeedback(model, ["layers.0"], RandomFeedback(SEED))
    output = model(IMAGES)
    h = learner._call.taught[0].output
    assert h.grad_fn.name() in ("ReluBackward0", "TanhBackward0")
    error = torch.autograd.grad(cross_entropy(output, Y), output, retain_graph=True)[0]
    [signal] = RandomFeedback(SEED)(error, [h[0].numel()])
    wanted = torch.autograd.grad(h, list(layers[0].parameters()), signal.view_as(h) * learner.scale)
    torch.testing.assert_close([found["layers.0.weight"], found["layers.0.bias"]], list(wanted))


class Normed(nn.Module):
    """``relu(norm(layer(x)))`` with the norm as a module of its own."""

    def __init__(self):
        super().__init__()
        self.a, self.norm, self.act, self.head = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.act(self.norm(self.a(x))))


def test_a_norm_between_layer_and_activation_joins_the_block():
    """Its parameters learn from the block's signal. Catches: a norm that learns without its activation."""
    assert_same(gradients(Normed(), ["a"]), gradients(Normed(), ["act"]))


class Cell(nn.Module):
    """``tanh(W x + U h)``, with a readable sum."""

    def __init__(self):
        super().__init__()
        self.w, self.u, self.act, self.head = nn.Linear(6, 8), nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.act(self.w(x) + self.u(x.flip(1))))


def test_layers_summed_before_an_activation_share_one_signal():
    """As in a recurrent cell. Catches: two signals, or none, for the two layers."""
    assert_same(gradients(Cell(), ["w", "u"]), gradients(Cell(), ["act"]))


class Branches(nn.Module):
    """A residual stream, and an activation at the start of the next block and of the head."""

    def __init__(self, first=nn.Identity):
        super().__init__()
        self.a = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
        self.b = nn.Sequential(nn.ReLU(), nn.Linear(6, 6), nn.Tanh())
        self.ends = nn.ModuleList([first(), first(), first()])
        self.norm, self.head = nn.LayerNorm(6), nn.Linear(6, 4)

    def forward(self, x):
        h = self.ends[0](self.a(x))
        h = h + self.ends[1](self.b(h))
        return self.head(self.norm(h))


def test_what_belongs_to_the_next_block_is_left_to_it():
    """An activation inside the next block, a residual sum and a norm end the search. Catches: a stem without a sum."""
    found = gradients(Branches(), ["a", "b"])
    assert_same(found, gradients(Branches(), ["ends.0", "ends.1"]))
    model = draw(Branches())
    learner = DirectFeedback(model, ["a", "b"], RandomFeedback(SEED))
    for _ in range(2):
        output = model(X)
        assert type(output) is torch.Tensor
        assert [t.output.grad_fn.name() for t in learner._call.taught] == ["TanhBackward0"] * 2
    assert set(learner._follows.values()) == {False}


def test_returned_outputs_are_plain_tensors():
    """Also if no activation was found. Catches: the internal type in a user's hands."""

    class Returns(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x):
            a = self.a(x)
            b = self.b(a)
            return self.head(b), a, b.flatten(), b

    learner = DirectFeedback(draw(Returns()), ["a", "b"], RandomFeedback(SEED))
    for _ in range(2):
        output = learner.model(X)
        assert {type(t) for t in output} == {torch.Tensor}
        learner.backward(cross_entropy(output[0], Y), output)
    assert all(p.grad.any() for p in learner.model.parameters())


@pytest.mark.parametrize(
    ("act", "reader"),
    [
        (lambda x: x * x.sigmoid(), "mul"),
        (lambda x: x.exp(), "exp"),
        (lambda x: torch.where(x > 0, x, 0.1 * x), "gt"),
        (lambda x: torch.cat([part.tanh() for part in x.chunk(2, 1)], 1), "chunk"),
        (lambda x: x.softmax(1), "softmax"),
    ],
)
def test_an_activation_made_by_hand_is_told(act, reader):
    """Once for each block, also if it ends with a layer inside an ``nn.Sequential``.

    Catches: a block that is taught before its activation, silently.
    """
    layers = [nn.Linear(6, 8), nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8)), nn.Linear(8, 4)]
    with pytest.warns(UserWarning, match=f"may follow '[^ ]*', but it cannot be found, because '{reader}'") as seen:
        gradients(Net(layers, act, False), ["layers.0", "layers.1"])
    assert len(seen) == 2


def test_a_layer_without_an_activation_is_not_told():
    """The next layer reads it, or a residual sum. Catches: a warning for every deep linear or residual network."""

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.a, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4)
            self.b = nn.Sequential(nn.Tanh(), nn.Linear(8, 8))

        def forward(self, x):
            x = self.a(self.stem(x))
            return self.head(x.tanh() + self.b(x))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradients(Residual(), ["stem", "b"])
