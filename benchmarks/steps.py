"""A step of Direct Feedback Alignment against one of backpropagation: MLP 784-1024-1024-10, batch 128, CPU time."""

from collections.abc import Iterator

import torch

from benchmarks.timing import cpu_seconds
from dfa.data import Dataset
from dfa.learning import DirectFeedback
from dfa.models import mlp
from dfa.study import Plan, feedback
from dfa.training import step

TARGETS = {"dfa": "<= 0.92", "ternary": "<= 0.92", "optical": "<= 1.6"}
STEPS = 10


def rows() -> Iterator[tuple[str, str, str, str]]:
    """(what, measured, ratio, target) of each method; random images with random labels, so errors stay large."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(STEPS * 128, 784, generator=generator)
    y = torch.randint(0, 10, (STEPS * 128,), generator=generator)
    data = Dataset("random", (x, y), (x, y), (x, y), 10)
    plan = Plan(hidden=(1024, 1024), epochs=1)
    reference = 0.0
    for method in ("bp", *TARGETS):
        model = mlp([784, 1024, 1024, 10])
        learner = None if method == "bp" else DirectFeedback(model, feedback=feedback(method, plan, data, 0))
        optimiser = torch.optim.Adam(model.parameters())

        def steps(model=model, optimiser=optimiser, learner=learner) -> None:
            for a, b in zip(x.split(128), y.split(128), strict=True):
                step(model, a, b, optimiser, learner)

        took = cpu_seconds(steps, 5) / STEPS
        if method == "bp":
            reference = took
            continue
        name = f"step with {method} feedback over backpropagation"
        yield name, f"{took * 1e3:.1f} / {reference * 1e3:.1f} ms", f"{took / reference:.2f}", TARGETS[method]
