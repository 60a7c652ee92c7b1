"""Time of a step of Direct Feedback Alignment, relative to backpropagation: MLP 784-1024-1024-10, batch 128."""

from collections.abc import Callable, Iterator

import torch
from torch.nn.functional import cross_entropy

from benchmarks.row import Row
from benchmarks.timing import cpu_seconds
from dfa.data import Dataset
from dfa.experiments import Plan
from dfa.experiments.teachers import build_feedback
from dfa.feedback.encoding import Ternary
from dfa.models import mlp
from dfa.rules.direct import DirectFeedback
from dfa.training.steps import take_step

TARGETS = {"dfa": "<= 0.88", "ternary": "<= 0.88", "optical": "<= 1.25"}
BATCH = 128


def rows(quick: bool) -> Iterator[Row]:
    """Time of a step with each feedback over backpropagation's."""
    steps = 2 if quick else 10
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(steps * BATCH, 784, generator=generator)
    y = torch.randint(0, 10, (steps * BATCH,), generator=generator)  # random labels: errors stay large
    data = Dataset("random", (x, y), (x, y), (x, y), 10)
    methods = ("bp", *TARGETS)
    took = cpu_seconds(*(epoch(method, data) for method in methods))
    reference, *others = (seconds * 1e3 / steps for seconds in took)
    for method, other in zip(TARGETS, others, strict=True):
        yield Row(
            name=f"step with {method} feedback, 784-1024-1024-10, batch {BATCH}: time over backpropagation",
            unit="ms",
            values={method: other, "bp": reference},
            ratio=other / reference,
            target=TARGETS[method],
        )


def epoch(method: str, data: Dataset) -> Callable[[], None]:
    """Return the call that goes through the data once by one method."""
    model = mlp([784, 1024, 1024, 10])
    plan = Plan(hidden=(1024, 1024), epochs=1, encoder=Ternary(deviations=1.0))  # the code of the targets
    learner = None if method == "bp" else DirectFeedback(model, feedback=build_feedback(method, plan, data, 0))
    optimiser = torch.optim.Adam(model.parameters())

    def call() -> None:
        for a, b in zip(data.train[0].split(BATCH), data.train[1].split(BATCH), strict=True):
            output = model(a)
            take_step(cross_entropy(output, b), output, optimiser, learner)

    return call
