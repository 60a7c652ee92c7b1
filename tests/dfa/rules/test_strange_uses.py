"""Unusual uses of a learner: each works correctly, or is refused with a one-line error."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from calibration import measure_projection
from dfa import DirectFeedback, Graded, LayerFeedback, OpticalFeedback, RandomFeedback, Ternary, alignment, train
from dfa.data import Dataset
from dfa.models import mlp
from photonics import presets
from tests.dfa.networks import normal

X, Y = normal(12, 6).float(), torch.arange(12) % 4


def gradients(learner, x=X, y=Y, reduction="mean"):
    learner.model.zero_grad()
    output = learner.model(x)
    learner.backward(cross_entropy(output, y, reduction=reduction), output)
    return [p.grad for p in learner.model.parameters()]


def direct(model=None, **options):
    return DirectFeedback(model or mlp([6, 9, 8, 4]), **({"feedback": RandomFeedback(0)} | options))


def assert_equal(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0.0, atol=0.0)


# Frozen blocks


@pytest.mark.parametrize("owned", [False, True], ids=["head", "block"])
def test_training_with_a_frozen_end(owned):
    """The hidden blocks learn as if it were not frozen. Catches: an error that is lost with the gradient of the end."""
    model = mlp([6, 9, 8, 4])
    blocks = [[0, 1], [2, 3], [4]] if owned else ["1", "3"]
    wanted = gradients(direct(blocks=blocks))
    learner = direct(model, blocks=blocks)
    model[4].requires_grad_(False)
    found = gradients(learner)
    assert_equal(found[:4], wanted[:4])
    assert found[4] is None
    assert alignment(learner, cross_entropy, X, Y)[-1] == 90.0


@pytest.mark.parametrize("frozen", [0, 4])
def test_training_with_a_frozen_block(frozen):
    """It keeps its weights, the others change, and angles are measured. Catches: an angle of an empty gradient."""
    model, start = mlp([6, 9, 8, 4]), mlp([6, 9, 8, 4])
    model[frozen].requires_grad_(False)
    parts = ((X, Y),) * 3
    history = train(model, Dataset("few", *parts, classes=4), direct(model), epochs=2, batch_size=5, progress=False)
    for i in (0, 2, 4):
        assert torch.equal(model[i].weight, start[i].weight) == (i == frozen)
    assert [angle == 90.0 for angle in history[-1].angles.values()] == [i == frozen for i in (0, 2, 4)]


# Batches


@pytest.mark.parametrize("feedback", ["stochastic", "deviations", "graded"])
def test_a_batch_without_rows(feedback):
    """Gradients of zero, no frame. Catches: a mean over nothing."""
    if feedback == "graded":
        opu = presets.lab_bench(8, 40)
        opu.autoexpose()
        source = OpticalFeedback(measure_projection(opu, n_inputs=4), Graded())
        frames = opu.clock.frames
    else:
        source = RandomFeedback(0, Ternary(stochastic=1.0) if feedback == "stochastic" else Ternary())
    learner = direct(feedback=source, reduction="sum")
    assert all(not g.any() for g in gradients(learner, X[:0], Y[:0], "sum"))
    if feedback == "graded":
        assert opu.clock.frames == frames


def test_an_input_may_require_its_gradient():
    """It gets the gradient of the first block, and no other gradient changes. Catches: a detached input."""
    learner = direct()
    wanted = gradients(learner)
    x = X.clone().requires_grad_()
    assert_equal(gradients(learner, x), wanted)
    assert x.grad.any()


# Calls that are not training


def test_a_block_called_alone_is_not_taught():
    """A separate call between forward and backward is not recorded. Catches: a signal for this call."""
    learner = direct()
    wanted = gradients(learner)
    learner.model.zero_grad()
    output = learner.model(X)
    learner.model[0](X[:3]), learner.model[:2](X[:3])
    assert learner.model[:2](X[:3]).requires_grad
    learner.backward(cross_entropy(output, Y), output)
    assert_equal([p.grad for p in learner.model.parameters()], wanted)


def test_a_failed_step_leaves_no_records():
    """Exceptions in the forward pass, in the feedback and in a layer. Catches: records of the failed call."""
    for make in (direct, lambda: LayerFeedback(mlp([6, 9, 8, 4]))):
        learner = make()
        wanted = gradients(learner)
        with pytest.raises(RuntimeError):
            learner.model(X[:, :5])
        handle = learner.model[3].register_forward_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            learner.model(X)
        handle.remove()
        assert_equal(gradients(learner), wanted)
    learner = direct(feedback=lambda e, widths: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        gradients(learner)
    learner.feedback = RandomFeedback(0)
    assert_equal(gradients(learner), gradients(direct()))


@pytest.mark.parametrize("train_mode", [True, False])
def test_a_model_in_evaluation_mode_learns(train_mode):
    """Without dropout. Catches: blocks that are detached in training mode only."""
    model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Dropout(0.0), nn.Linear(9, 4))
    learner = direct(model)
    wanted = gradients(learner)
    model.train(train_mode)
    assert_equal(gradients(learner), wanted)


# Several learners


def test_a_learner_of_a_part_replaces_that_of_the_whole_model():
    """The learner of the whole model then raises an error. Catches: a learner that has lost half of its hooks."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = mlp([6, 9, 8, 5]), nn.Linear(5, 4)

        def forward(self, x):
            return self.head(self.body(x))

    for rule in (DirectFeedback, LayerFeedback):
        model = Net()
        outer = rule(model)
        if rule is DirectFeedback:
            outer.feedback = RandomFeedback(0)
        DirectFeedback(model.body, feedback=RandomFeedback(0))
        output = model(X)
        with pytest.raises(ValueError, match=r"last call|were removed"):
            outer.backward(cross_entropy(output, Y), output)


def test_a_learner_of_another_model_is_refused():
    """Catches: a layerwise rule that trains by backpropagation, silently."""
    data = Dataset("few", (X, Y), (X, Y), (X, Y), classes=4)
    for learner in (direct(), LayerFeedback(mlp([6, 9, 8, 4]))):
        with pytest.raises(ValueError, match="learner must be that of the model to train"):
            train(mlp([6, 9, 8, 4]), data, learner, progress=False)


def test_an_optimiser_that_searches_along_a_line_is_refused():
    data = Dataset("few", (X, Y), (X, Y), (X, Y), classes=4)
    with pytest.raises(ValueError, match="optimiser must use one gradient per step, got LBFGS"):
        train(mlp([6, 9, 8, 4]), data, optimiser=torch.optim.LBFGS, progress=False)


def test_a_block_that_returns_an_object_is_refused():
    """The tensors inside cannot be detached. Catches: a graph that crosses the block."""

    @dataclasses.dataclass
    class State:
        h: torch.Tensor

    class Block(nn.Linear):
        def forward(self, x):
            return State(super().forward(x))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.head = Block(6, 5), nn.Linear(5, 4)

        def forward(self, x):
            return self.head(self.block(x).h)

    learner = direct(Net(), blocks=["block"])
    with pytest.raises(ValueError, match="a block's output must be a tensor, or a tuple, list or dict of tensors, got"):
        learner.model(X)
