"""Measurements on single steps of a training run, and the files that keep the records."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import nn
from torch.nn.utils import get_total_norm

from calibration.reports.findings import replace_nonfinite
from calibration.storage.files import replace_file
from dfa.rules.blocks import find_blocks, name_of, parameters_of
from dfa.rules.learner import Learner
from dfa.training.epoch import FEEDBACK, Epoch
from dfa.training.steps import Rule

__all__ = ["Watcher", "events", "write_metrics"]


class Watcher:
    """Measures watched steps and keeps the sums until the next record."""

    def __init__(self, model: nn.Module, learner: Rule | None) -> None:
        self.feedback = learner.feedback if isinstance(learner, Learner) else None
        self.parts = named_parameters(model, learner)
        self.sums: dict[str, list[float]] = {}
        """Sum and number of the measured values, by name."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Context in which the feedback measures saturation and noise. No signal changes."""
        if self.feedback is None:
            yield
            return
        before, self.feedback.watch = self.feedback.watch, True
        try:
            yield
        finally:
            self.feedback.watch = before

    def measure(self) -> dict[str, float]:
        """Measure the last step, add the values to the sums, and return them by name."""
        values = {f"gradient/{name}": gradient_norm(parameters) for name, parameters in self.parts.items()}
        found = self.feedback.statistics() if self.feedback is not None else {}
        if found.get("rows"):
            values["shown"] = found["shown"] / found["rows"]
        values |= {name: found[name] for name in FEEDBACK if name in found and name != "shown"}
        for name, value in values.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = [total + value, count + 1]
        return values

    def take_means(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return the means since the last call, and start again: gradients by block, and fields of an `Epoch`."""
        means = {name: total / count for name, (total, count) in self.sums.items()}
        self.sums = {}
        gradients = {name: means[f"gradient/{name}"] for name in self.parts if f"gradient/{name}" in means}
        return gradients, {name: means[name] for name in FEEDBACK if name in means}


def named_parameters(model: nn.Module, learner: Rule | None) -> dict[str, list[nn.Parameter]]:
    """Trainable parameters of each block by its name; all parameters as "model" if the model has no known blocks."""
    if isinstance(learner, Learner):
        return {name: learner.parameters(k) for k, name in enumerate(learner.names)}
    try:
        groups = find_blocks(model, None)
    except ValueError:
        return {"model": list(model.parameters())}
    names = [*(name_of(model, group) for group in groups), "head"]
    parts = zip(names, parameters_of(model, groups), strict=True)
    return {name: parameters for name, parameters in parts if parameters}


def gradient_norm(parameters: Sequence[nn.Parameter]) -> float:
    """Euclidean norm of the gradients of all parameters together."""
    return float(get_total_norm([p.grad for p in parameters if p.grad is not None]))


def write_metrics(folder: str | Path, records: Sequence[Epoch], settings: Mapping[str, object]) -> None:
    """Write ``metrics.csv`` and ``metrics.json``. Each file is replaced as a whole.

    The table has one column for each figure and one row for each record (`Epoch.row`).
    """
    rows = [record.row() for record in records]
    table = io.StringIO()
    writer = csv.DictWriter(table, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    document = {"settings": settings, "records": rows}
    replace_file(Path(folder) / "metrics.csv", table.getvalue())
    replace_file(Path(folder) / "metrics.json", json.dumps(replace_nonfinite(document), indent=1) + "\n")


@contextmanager
def events(folder: Path | None, step: int) -> Iterator[Callable[[Epoch], None]]:
    """Context that gives a function which writes a record as TensorBoard events into `folder`; None writes nothing.

    Events of an earlier run after `step` are hidden, so that a resumed run shows every record once.

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

    def write(record: Epoch) -> None:
        for name, value in record.row().items():
            if value is not None and name != "step":
                writer.add_scalar(name, value, record.step)
        writer.flush()

    with SummaryWriter(folder, purge_step=step + 1) as writer:
        yield write
