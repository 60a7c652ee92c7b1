"""What a training run tells about itself: a record at each evaluation, and the files that keep them."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.utils import get_total_norm

from calibration.reports.report import finite
from calibration.storage.files import replace_file
from dfa.rules.blocks import find_blocks, name_of, parameters_of
from dfa.rules.learner import Learner

__all__ = ["Diagnostics", "Watcher", "events", "write_metrics"]


@dataclass(frozen=True, kw_only=True)
class Diagnostics:
    """One record. What was not looked at is None or empty.

    Gradients and what the feedback sent and got back are means over the steps that were watched since the last record:
    the first step of a run, every 20th and the one before the record.
    """

    step: int
    """Steps of the optimiser so far."""
    loss: float
    """Training loss since the last evaluation, mean over the samples, nats."""
    scores: Mapping[str, float]
    """Figures of the evaluation by name: shares of samples classified rightly, or bits per character."""
    frames: int
    """Frames that the device has taken so far, calibration included."""
    seconds: float = field(compare=False)
    """Wall time of the steps since the last evaluation; the only entry that another run will not repeat."""
    angles: Mapping[str, float] = field(default_factory=dict)
    """Degrees between the update of each block and the true gradient, on the same samples each time."""
    gradients: Mapping[str, float] = field(default_factory=dict)
    """Norm of each block's gradient as the optimiser gets it."""
    nonzero: float | None = None
    """Share of the codes that are not zero, over all rows of the error."""
    shown: float | None = None
    """Share of the rows that have a code which is not empty, and so are sent."""
    saturated: float | None = None
    """Share of the feedback's values that a saturated pixel made wrong."""
    snr_db: float | None = None
    """Power of the optical feedback over the expected variance of its noise, mean of the decibels."""

    def row(self) -> dict[str, float | None]:
        """The record as one flat row; without wall time, so that a resumed run writes the same as an unbroken one."""
        named = {"angle": self.angles, "gradient": self.gradients}
        flat = {f"{kind}/{block}": value for kind, values in named.items() for block, value in values.items()}
        start = {"step": self.step, "loss": self.loss, **self.scores, "frames": self.frames}
        return start | {name: getattr(self, name) for name in FEEDBACK} | flat


FEEDBACK = ("nonzero", "shown", "saturated", "snr_db")


class Watcher:
    """Looks at single steps and keeps the sums until the next record."""

    def __init__(self, model: nn.Module, learner: Any) -> None:
        self.feedback = getattr(learner, "feedback", None)
        self.parts = named_parameters(model, learner)
        self.sums: dict[str, list[float]] = {}
        """Sum and number of what was seen, by name."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, the feedback notes saturation and noise if it can; that changes no signal."""
        if not hasattr(self.feedback, "watch"):
            yield
            return
        before, self.feedback.watch = self.feedback.watch, True
        try:
            yield
        finally:
            self.feedback.watch = before

    def look(self) -> dict[str, float]:
        """What the step just taken shows, added to the sums."""
        seen = {f"gradient/{name}": norm(parameters) for name, parameters in self.parts.items()}
        found = getattr(self.feedback, "statistics", dict)()
        if found.get("rows"):
            seen["shown"] = found["shown"] / found["rows"]
        seen |= {name: found[name] for name in FEEDBACK if name in found and name != "shown"}
        for name, value in seen.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = [total + value, count + 1]
        return seen

    def take(self) -> dict[str, Any]:
        """Means since the last call, as arguments of `Diagnostics`."""
        means = {name: total / count for name, (total, count) in self.sums.items()}
        self.sums = {}
        gradients = {name: means[f"gradient/{name}"] for name in self.parts if f"gradient/{name}" in means}
        return {"gradients": gradients} | {name: means.get(name) for name in FEEDBACK}


def named_parameters(model: nn.Module, learner: Any) -> dict[str, list[nn.Parameter]]:
    """Parameters of each block that learn, by its name; all of them as "model" where no blocks are known."""
    if isinstance(learner, Learner):
        return {name: learner.parameters(k) for k, name in enumerate(learner.names)}
    try:
        groups = find_blocks(model, None)
    except ValueError:
        return {"model": list(model.parameters())}
    names = [*(name_of(model, group) for group in groups), "head"]
    parts = zip(names, parameters_of(model, groups), strict=True)
    return {name: parameters for name, parameters in parts if parameters}


def norm(parameters: Sequence[nn.Parameter]) -> float:
    """Euclidean norm of the gradients together."""
    return float(get_total_norm([p.grad for p in parameters if p.grad is not None]))


def write_metrics(folder: str | Path, records: Sequence[Diagnostics], settings: Mapping[str, Any]) -> None:
    """Write ``metrics.csv`` and ``metrics.json``, each whole or not at all.

    A column of the table for each figure, a row for each record; blocks have ``angle/<name>``, ``gradient/<name>``.
    """
    rows = [record.row() for record in records]
    table = io.StringIO()
    writer = csv.DictWriter(table, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    document = {"settings": settings, "records": rows}
    replace_file(Path(folder) / "metrics.csv", table.getvalue())
    replace_file(Path(folder) / "metrics.json", json.dumps(finite(document), indent=1) + "\n")


@contextmanager
def events(folder: Path | None, step: int) -> Iterator[Callable[[Diagnostics], None]]:
    """Inside, the function that is given writes a record for TensorBoard, into `folder`; None writes nothing.

    What an earlier run wrote there after `step` is hidden, so that a resumed run shows every record once.

    Raises
    ------
    ValueError
        If TensorBoard is not installed.
    """
    if folder is None:
        yield lambda record: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter  # a heavy import
    except ImportError:
        raise ValueError("tensorboard must be installed to write events: pip install tensorboard") from None

    def write(record: Diagnostics) -> None:
        for name, value in record.row().items():
            if value is not None and name != "step":
                writer.add_scalar(name, value, record.step)
        writer.flush()

    with SummaryWriter(folder, purge_step=step + 1) as writer:
        yield write
