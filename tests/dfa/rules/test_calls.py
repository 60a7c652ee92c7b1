"""A block may be called as a module or skipped. A block that is used in another way is refused."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, linear
from torch.utils.checkpoint import checkpoint

from dfa import DirectFeedback, RandomFeedback
from tests.dfa.networks import draw, normal

X, Y = normal(12, 5), torch.arange(12) % 3


class Net(nn.Module):
    """Two hidden layers and a head. The functions in `ways` call the parts with these names."""

    def __init__(self, **ways):
        super().__init__()
        self.ways = ways
        self.a, self.b, self.act = nn.Linear(5, 8), nn.Linear(8, 8), nn.Tanh()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        for name in ("a", "b", "attention", "act"):
            x = self.ways.get(name, lambda part, x: part(x))(getattr(self, name), x)
        return self.head(x)


def functional(part, x):
    return linear(x, part.weight, part.bias).tanh()


def skipped(part, x):
    return x


def attend(part, x):
    return part(x[:, None], x[:, None], x[:, None], need_weights=False)[0][:, 0]


def function_of_the_same_name(part, x):
    return x.tanh()


def without_gradient(part, x):
    with torch.no_grad():
        return part(x)


def gradients(learner, x=X):
    learner.model.zero_grad()
    output = learner.model(x)
    learner.backward(cross_entropy(output, Y), output)
    return {name: p.grad for name, p in learner.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("ways", "blocks", "missed", "feedback"),
    [
        ({"a": functional, "b": functional, "attention": skipped}, ["a", "b"], "a, b", None),
        ({"b": functional, "attention": skipped}, ["a", "b"], "b", RandomFeedback(0)),
        ({"attention": attend}, ["a", "attention.out_proj"], r"attention\.out_proj", RandomFeedback(0)),
        ({"attention": skipped, "act": function_of_the_same_name}, ["a", "act"], "act", None),
    ],
)
def test_a_block_that_is_used_without_a_call_is_refused(ways, blocks, missed, feedback):
    """The error comes before any gradient. Catches: backpropagation instead of direct feedback."""
    learner = DirectFeedback(draw(Net(**ways)), blocks, feedback)
    with pytest.raises(ValueError, match=f"blocks must be called as modules, got no call of {missed} though"):
        gradients(learner)
    assert all(p.grad is None for p in learner.model.parameters())


@pytest.mark.parametrize("skip", [["a"], ["a", "b"]])
def test_a_block_may_be_skipped(skip):
    """As in stochastic depth: it gets no gradient, the others the usual one. Catches: an error for a skipped block."""

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.a, self.b, self.head = (nn.Linear(i, j) for i, j in ((5, 8), (8, 8), (8, 8), (8, 3)))
            self.b.weight = self.a.weight  # tied: the skipped block contains parameters that are used

        def forward(self, x):
            x = self.stem(x)
            for name in ("a", "b"):
                x = x if name in skip else x + getattr(self, name)(x).tanh()
            return self.head(x)

    model = draw(Residual())
    left = [name for name in ("a", "b") if name not in skip]
    found = gradients(DirectFeedback(model, ["a", "b"], RandomFeedback(0)))
    if left:
        wanted = gradients(DirectFeedback(copy.deepcopy(model), left, RandomFeedback(0)))
        assert found.keys() == wanted.keys()
        for name, gradient in wanted.items():
            torch.testing.assert_close(found[name], gradient)
    assert not any(f"{name}.bias" in found for name in skip)


def test_a_block_may_be_called_without_recording_gradients():
    """Its output is a constant. Catches: an error for features that are not trained."""
    learner = DirectFeedback(draw(Net(a=without_gradient, attention=skipped)), ["a", "b"], RandomFeedback(0))
    assert not any(name.startswith("a.") for name in gradients(learner))


@pytest.mark.parametrize(("checked", "feedback"), [(["a"], RandomFeedback(0)), (["a", "b"], None)])
def test_reentrant_checkpoints_of_blocks_are_refused(checked, feedback):
    """They record only in the backward pass, too late to detach. Catches: backpropagation instead of DFA."""

    def again(part, x):
        return checkpoint(part, x, use_reentrant=True)

    learner = DirectFeedback(draw(Net(attention=skipped, **dict.fromkeys(checked, again))), ["a", "b"], feedback)
    with pytest.raises(ValueError, match=r"Linear recorded only in the backward pass: .* use_reentrant=False"):
        gradients(learner, X.clone().requires_grad_())


def test_reentrant_checkpoints_inside_a_block_are_right():
    """Catches: an error for every checkpoint."""

    class Checked(nn.Linear):
        def forward(self, x):
            return checkpoint(super().forward, x, use_reentrant=True)

    found = []
    for kind in (Checked, nn.Linear):
        model = draw(nn.Sequential(nn.Linear(5, 8), nn.Tanh(), kind(8, 8), nn.Tanh(), nn.Linear(8, 3)))
        found.append(gradients(DirectFeedback(model, [[0, 1, 2, 3], [4]], RandomFeedback(0))))
    for checked, plain in zip(*(part.values() for part in found), strict=True):
        torch.testing.assert_close(checked, plain)
