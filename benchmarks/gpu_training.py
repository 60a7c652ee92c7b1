"""Training steps on a GPU, against backpropagation on the same card, and what comes back to the host in them."""

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.gpu_card import Card
from benchmarks.row import Row
from calibration import measure_projection
from dfa import OpticalFeedback, RandomFeedback
from dfa.feedback.base import Feedback
from dfa.feedback.encoding import Ternary
from dfa.models import char_transformer, cnn, mlp
from dfa.rules.direct import DirectFeedback
from dfa.training.steps import take_step
from photonics import presets

__all__ = ["training", "transfers"]

STEPS = 20, 2
"""Steps whose time is taken together, on a GPU and in a rehearsal."""


class Task(NamedTuple):
    """A network with random samples; labels are random, so that errors stay large."""

    name: str
    model: Callable[[], nn.Module]
    x: Tensor
    y: Tensor
    spread: str
    width: int
    """Entries of the signals of all hidden blocks."""
    encoder: Ternary

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.y.max()) + 1


def tasks(card: Card) -> Iterator[Task]:
    """A wide multilayer perceptron, a convolutional network and a transformer."""
    draw, wide = torch.Generator().manual_seed(0), card.size(4096, 64)
    x, y = torch.randn(128, 784, generator=draw), torch.arange(128) % 10
    name = f"MLP 784-{wide}-{wide}-10, batch 128"
    yield Task(name, lambda: mlp([784, wide, wide, 10]), x, y, "each", 2 * wide, Ternary())
    yield Task("CNN 16-32-128, batch 128", cnn, x, y, "channels", 16 + 32 + 128, Ternary())
    tokens = torch.arange(32 * 64).reshape(32, 64) % 65
    encoder = Ternary(stochastic=1.0, pairs=True)
    name = "transformer, 4 layers of 128, 32 x 64 characters"
    yield Task(name, lambda: char_transformer(65), tokens, tokens.flip(1), "features", 4 * 128, encoder)


def optical(task: Task, card: Card) -> OpticalFeedback:
    """Feedback through a calibrated device on the card."""
    opu = presets.lab_bench(2 * task.classes, int(task.width / 0.9) + 32).to(card.place)
    opu.autoexpose()
    return OpticalFeedback(measure_projection(opu, n_inputs=task.classes), task.encoder)


def steps(task: Task, feedback: Feedback | None, card: Card, count: int) -> Callable[[], None]:
    """Return the call that takes some steps; None is backpropagation."""
    model = task.model().to(card.torch_device)
    x, y = task.x.to(card.torch_device), task.y.to(card.torch_device)
    learner = None if feedback is None else DirectFeedback(model, feedback=feedback, spread=task.spread)
    optimiser = torch.optim.Adam(model.parameters())

    def call() -> None:
        for _ in range(count):
            output = model(x)
            take_step(cross_entropy(output.flatten(0, -2), y.flatten()), output, optimiser, learner)

    return call


def training(card: Card) -> Iterator[Row]:
    """Time of a step with digital and with optical feedback, over backpropagation."""
    count = card.size(*STEPS)
    for task in tasks(card):
        sources = {"bp": None, "dfa": RandomFeedback(0), "optical": optical(task, card)}
        took = card.seconds(*(steps(task, source, card, count) for source in sources.values()))
        times = {name: seconds * 1e3 / count for name, seconds in zip(sources, took, strict=True)}
        for name in ("dfa", "optical"):
            yield Row(
                name=f"GPU: {task.name}: step with {name} feedback over backpropagation",
                unit="ms",
                values={name: times[name], "bp": times["bp"]},
                ratio=times[name] / times["bp"],
            )


def transfers(card: Card) -> Iterator[Row]:
    """Largest copy to the host in steps with optical feedback, of all libraries, as CUDA's profiler sees it."""
    for task in tasks(card):
        call = steps(task, optical(task, card), card, 3)
        call()
        if card.rehearsal:
            yield Row(name=f"GPU: {task.name}: copies to the host", note="not measured: needs a GPU")
            continue
        activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profiler, tempfile.TemporaryDirectory() as folder:
            call()
            card.wait()
            path = Path(folder) / "trace.json"
            profiler.stop()
            profiler.export_chrome_trace(str(path))
            events = json.loads(path.read_text())["traceEvents"]
        found = [e["args"]["bytes"] for e in events if "DtoH" in e.get("name", "") and "bytes" in e.get("args", {})]
        yield Row(
            name=f"GPU: {task.name}, 3 optical steps: largest copy to the host over a number (16 bytes)",
            unit="bytes",
            values={"largest": float(max(found, default=0)), "copies": float(len(found))},
            ratio=max(found, default=0) / 16.0,
            target="<= 1",
        )
