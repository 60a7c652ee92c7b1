"""Published codes of the rule, with their matrices in this package."""

import pytest
import torch

from benchmarks import published
from dfa import DirectFeedback, RandomFeedback

WARNED = "ignore:3 blocks of convolutions without a norm"


@pytest.mark.parametrize(
    ("build", "signals", "shape"),
    [
        (published.tinydfa_mlp, published.tinydfa_signals, (784,)),
        pytest.param(
            published.lenet, published.biotorch_signals, (1, 32, 32), marks=pytest.mark.filterwarnings(WARNED)
        ),
    ],
)
def test_with_their_matrix_the_weights_are_theirs(build, signals, shape):
    """After five steps with momentum, to rounding. TinyDFA, and BioTorch's LeNet, whose B is a transposed convolution.

    Catches: another place of the signal, another derivative, another scale, a sum over places where they have none.
    """
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(5, 16, *shape, generator=generator), torch.randint(10, (5, 16), generator=generator)
    parts = [signal.flatten(1).T for signal in signals(0)(torch.eye(10))]
    matrix = torch.cat([part * len(part) ** 0.5 for part in parts])  # which a scale of 1 divides by sqrt(width)
    theirs, ours = build(0), build(0)
    learner = DirectFeedback(ours, feedback=RandomFeedback(matrix=matrix), scale=1.0)
    steps = published.plain_step(published.layers_of(theirs), signals(0)), published.learner_step(ours, learner)
    for model, step in zip((theirs, ours), steps, strict=True):
        optimiser = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
        for a, b in zip(x, y, strict=True):
            optimiser.zero_grad()
            step(a, b)
            optimiser.step()
    for a, b in zip(theirs.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
