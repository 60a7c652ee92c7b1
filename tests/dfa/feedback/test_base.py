"""Feedback that a user writes: a function, or a class with state."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from dfa import DirectFeedback, RandomFeedback
from dfa.feedback.base import Feedback
from dfa.models import mlp

X, Y = torch.linspace(-1, 1, 24).view(4, 6), torch.arange(4)


class Counted(Feedback):
    """Random feedback that counts its calls."""

    def __init__(self):
        self.calls, self.source = 0, RandomFeedback(0)

    def __call__(self, error, widths):
        self.calls += 1
        return self.source(error, widths)

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]


def gradients(feedback):
    learner = DirectFeedback(mlp([6, 9, 8, 4]), feedback=feedback, scale=1.0)
    output = learner.model(X)
    learner.backward(cross_entropy(output, Y), output)
    return learner, [p.grad for p in learner.model.parameters()]


def test_functions_and_classes_give_the_gradients_of_the_feedback_that_they_call():
    """Catches: a function that is refused, or whose signals are changed in place."""
    signals = {}

    def function(error, widths):
        signals["given"] = RandomFeedback(0)(error, widths)
        signals["kept"] = [signal.clone() for signal in signals["given"]]
        return signals["given"]

    _, wanted = gradients(RandomFeedback(0))
    for feedback in (function, Counted()):
        for found, gradient in zip(gradients(feedback)[1], wanted, strict=True):
            assert torch.equal(found, gradient)
    assert all(torch.equal(a, b) for a, b in zip(signals["given"], signals["kept"], strict=True))


def test_a_class_keeps_its_state_and_a_function_has_none():
    """Catches: a state that is not saved, or that a function accepts."""
    learner, _ = gradients(Counted())
    state = learner.state_dict()
    assert state["feedback"] == {"calls": 1}
    other = DirectFeedback(mlp([6, 9, 8, 4]), feedback=Counted())
    other.load_state_dict(state)
    assert other.feedback.calls == 1
    plain = DirectFeedback(mlp([6, 9, 8, 4]), feedback=RandomFeedback(0).__call__)
    assert plain.state_dict()["feedback"] == {}
    with pytest.raises(ValueError, match=r"state must be empty for this feedback, got \{'calls': 1\}"):
        plain.load_state_dict(state)


def test_other_objects_are_refused():
    with pytest.raises(ValueError, match="feedback must be Feedback, a function or None, got int"):
        DirectFeedback(mlp([6, 9, 4]), feedback=3)
