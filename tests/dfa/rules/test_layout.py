"""Blocks keep their slices of B if others are skipped, called more often, or called at another length."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from dfa import DirectFeedback, RandomFeedback
from tests.dfa.networks import draw, normal

X, Y = normal(12, 4, 6), torch.arange(12) % 3


class Net(nn.Module):
    """Blocks that are named in `order`, on sequences (batch, tokens, 6); logits of the mean over tokens."""

    def __init__(self, order):
        super().__init__()
        self.order = order
        self.a, self.b, self.c = (nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(3))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        for name in self.order:
            x = self.get_submodule(name)(x)
        return self.head(x.mean(dim=1))


def signals(learner, order, x=X):
    """Return the signal at each call of a block, in the order of the calls, for the same error."""
    learner.model.order = order
    output = learner.model(x)
    given = [t.output for t in learner._call.taught]
    found = [None] * len(given)
    for k, one in enumerate(given):
        one.register_hook(lambda g, k=k: found.__setitem__(k, g))
    error = normal(12, 3, seed=1)
    learner.backward((output * error).sum(), output)
    return found


def learner(feedback=None):
    return DirectFeedback(draw(Net("abc")), ["a", "b", "c"], feedback or RandomFeedback(0))


@pytest.mark.parametrize("shared", [True, False])
def test_a_skipped_block_does_not_move_the_others(shared):
    """Catches: slices in the order of this call, so that every block after the skipped one gets another B."""
    dfa = learner(RandomFeedback(0, shared=shared))
    whole = signals(dfa, "abc")
    for order, kept in (("bc", (1, 2)), ("ac", (0, 2)), ("c", (2,)), ("abc", (0, 1, 2))):
        for found, k in zip(signals(dfa, order), kept, strict=True):
            torch.testing.assert_close(found, whole[k], msg=f"{order} {k}")


def test_a_block_called_more_often_does_not_move_the_others():
    """The second call has a slice of its own. Catches: the second call's slice put between two others."""
    dfa = learner()
    a, b, c = signals(dfa, "abc")
    again = signals(dfa, "aabc")
    for found, wanted in zip([again[0], *again[2:]], (a, b, c), strict=True):
        torch.testing.assert_close(found, wanted)
    assert abs(float(cosine_similarity(again[1].flatten(), a.flatten(), dim=0))) < 0.2


@pytest.mark.parametrize("first", [4, 3])
def test_a_block_called_at_another_length_keeps_its_matrix(first):
    """Tokens keep their rows of B, at the same size. Catches: cosine 0.08 to 0.3 with the B of another length."""
    dfa = learner()
    lengths = {n: signals(dfa, "abc", X[:, :n]) for n in (first, 7 - first)}
    for short, long in zip(lengths[3], lengths[4], strict=True):
        torch.testing.assert_close(short, long[:, :3] * (4 / 3) ** 0.5)
    for again, wanted in zip(signals(dfa, "abc", X[:, :first]), lengths[first], strict=True):
        torch.testing.assert_close(again, wanted)


def test_the_order_of_the_slices_is_saved():
    """Catches: a resumed run whose first call skips a block, and which then has another B."""
    first = learner()
    signals(first, "bc")
    whole = signals(first, "abc")
    second = learner()
    second.load_state_dict(first.state_dict())
    for found, wanted in zip(signals(second, "abc"), whole, strict=True):
        torch.testing.assert_close(found, wanted)
    assert not torch.allclose(signals(learner(), "abc")[0], whole[0])
