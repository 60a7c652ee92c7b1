"""A model in torch's wrapper for several processes, here with one process: correct, or refused."""

import pytest
import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from dfa import DirectFeedback, RandomFeedback
from dfa.models import mlp
from tests.dfa.networks import normal

X, Y = normal(12, 6).float(), torch.arange(12) % 4


@pytest.fixture(scope="module", autouse=True)
def process():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def gradients(inside, frozen=False, **options):
    """Return the gradients of the second step, of a learner that is created before the wrapper or for it."""
    model = mlp([6, 9, 8, 4])
    model[4].requires_grad_(not frozen)
    learner = DirectFeedback(model, ["1", "3"], RandomFeedback(0)) if inside else None
    wrapper = DistributedDataParallel(model, **options)
    learner = learner or DirectFeedback(wrapper, ["module.1", "module.3"], RandomFeedback(0))
    for _ in range(2):
        model.zero_grad()
        output = wrapper(X)
        learner.backward(cross_entropy(output, Y), output)
    return [p.grad for p in model.parameters()]


@pytest.mark.parametrize("inside", [True, False])
def test_the_plain_wrapper_changes_nothing(inside):
    learner = DirectFeedback(mlp([6, 9, 8, 4]), ["1", "3"], RandomFeedback(0))
    output = learner.model(X)
    learner.backward(cross_entropy(output, Y), output)
    for p, found in zip(learner.model.parameters(), gradients(inside), strict=True):
        torch.testing.assert_close(found, p.grad)


@pytest.mark.parametrize(
    ("inside", "frozen", "option"),
    [
        (True, False, "static_graph"),
        (False, True, "static_graph"),
        (True, True, "find_unused_parameters"),
        (False, False, "find_unused_parameters"),
    ],
)
def test_wrappers_that_look_for_parameters_are_refused(inside, frozen, option):
    """They would not sum the gradients of hidden blocks over processes. Catches: wrong gradients without an error."""
    with pytest.raises(
        ValueError, match="DistributedDataParallel without static_graph and find_unused_parameters, got"
    ):
        gradients(inside, frozen, **{option: True})
