"""Hidden blocks with fixed feedback have their own learning rate."""

import copy
from dataclasses import replace

import pytest
import torch

from dfa.data.text import split_text
from dfa.experiments.plans import Plan
from dfa.experiments.tasks import build_model, train_plan
from dfa.experiments.teachers import build_feedback, build_learner

PLAN = Plan(data="tiny-shakespeare", hidden=(16, 16), heads=2, context=12, steps=1, batch_size=4)


def largest_changes(method, plan):
    """Return the largest change of each block's parameters in one step of Adam, which moves each by its rate."""
    data = split_text("period", "abcdefgh" * 300)
    model = build_model(method, plan, data, 0)
    before = copy.deepcopy(model)
    learner = build_learner(method, plan, model, data, 0, build_feedback(method, plan, data, 0))
    train_plan(method, plan, model, data, learner, 0, progress=False)
    return [
        max(float((a - b).detach().abs().max()) for a, b in zip(new.parameters(), old.parameters(), strict=True))
        for new, old in zip(model.children(), before.children(), strict=True)
    ]


@pytest.mark.parametrize(("method", "share"), [("dfa", 1.0), ("ternary", 0.1), ("dfa", 0.02)])
def test_hidden_blocks_learn_at_their_share_of_the_rate(method, share):
    # The bound is Adam's for a first step; float32 weights of order 3 round a change of 1e-4 to 0.4 %.
    changes = largest_changes(method, replace(PLAN, learning_rate=5e-3, hidden_rate=share))
    torch.testing.assert_close(torch.tensor(changes), 5e-3 * torch.tensor([share, share, 1.0]), rtol=0.01, atol=0)


@pytest.mark.parametrize("method", ["bp", "last-layer"])
def test_backpropagation_and_the_last_layer_have_one_rate(method):
    changes = largest_changes(method, replace(PLAN, learning_rate=5e-3, hidden_rate=0.02))
    expected = [5e-3] * 3 if method == "bp" else [0.0, 0.0, 5e-3]
    torch.testing.assert_close(torch.tensor(changes), torch.tensor(expected), rtol=0.01, atol=0)


def test_a_rate_of_zero_is_refused():
    with pytest.raises(ValueError, match="hidden_rate must be greater than 0"):
        replace(PLAN, hidden_rate=-0.1)
