"""The training loop that all tasks share: steps, records, checkpoints, and a clear error if a run cannot continue."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TypedDict

import torch
from torch import Tensor, nn
from tqdm import tqdm

from calibration.storage.folders import claim_folder
from dfa.errors import Diverged
from dfa.feedback.base import State
from dfa.rules.blocks import unwrap
from dfa.rules.learner import Learner
from dfa.training.angles import alignment
from dfa.training.checkpoint import (
    Checkpoint,
    describe_learner,
    describe_optimiser,
    random_state,
    restore_random_state,
)
from dfa.training.diagnostics import Watcher, events, write_metrics
from dfa.training.epoch import Epoch
from dfa.training.guards import Guards, check_weights
from dfa.training.steps import Rule, check_numbers, reproducible, take_step

__all__ = ["Options", "Outcome", "RunOptions", "Task", "run_loop"]

WATCH_EVERY = 20
"""Interval between watched steps. Watching a step costs a fraction of a step."""
CHECKPOINT_S = 60.0
"""Seconds after which a run with a folder writes a checkpoint, at any step."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """The data, the loss and the scores of a run.

    Steps count from 1. Everything is a function of the step, so that a run can resume at any step.
    """

    steps: int
    """Number of steps of the whole run."""
    epoch_steps: int = 1
    """Steps in an epoch."""
    evaluate_every: int
    """Steps between evaluations; the last step also has one."""
    record_every: int
    """Steps between records with angles and files, a multiple of `evaluate_every`; the last step also has one."""
    batch: Callable[[int], tuple[Tensor, Tensor]]
    """Returns input and target of a step."""
    loss: Callable[[Tensor, Tensor], Tensor]
    """Scalar loss of output and target, mean over the samples."""
    evaluate: Callable[[nn.Module], tuple[float, float]]
    """Validation and test score of a model in evaluation mode."""
    probe: tuple[Tensor, Tensor] | None
    """Input and target on which angles are measured; None measures none."""
    seed: int
    """Dropout is a function of it."""
    settings: Mapping[str, object]
    """Settings that must agree with those of a checkpoint, in plain types."""
    keep_best: bool = False
    """Keep the weights of the first evaluation with the highest validation score."""


class RunOptions(TypedDict, total=False):
    """Keywords that every training function passes on to `Options`; `dfa.train` documents them."""

    folder: str | Path | None
    resume: bool
    progress: bool
    checkpoint_every: int
    diagnostics: bool
    tensorboard: bool
    optimiser: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None
    clip_norm: float | None
    settings: Mapping[str, object] | None


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a run is optimised, saved and watched; `dfa.train` documents the fields."""

    learning_rate: float
    weight_decay: float = 0.0
    folder: str | Path | None = None
    resume: bool = False
    progress: bool = True
    checkpoint_every: int = 0
    diagnostics: bool = True
    tensorboard: bool = False
    optimiser: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None
    clip_norm: float | None = None
    settings: Mapping[str, object] | None = None

    def __post_init__(self) -> None:
        check_numbers(learning_rate=self.learning_rate)
        if self.clip_norm is not None:
            check_numbers(clip_norm=self.clip_norm)
        if self.checkpoint_every < 0:
            raise ValueError(f"checkpoint_every must be 0 or more steps, got {self.checkpoint_every!r}")
        if self.folder is None and (self.resume or self.tensorboard):
            raise ValueError("folder must be given for a run that is resumed or writes events, got None")

    def build_optimiser(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the user's optimiser, or Adam."""
        if self.optimiser is not None:
            made = self.optimiser(parameters)
            if isinstance(made, torch.optim.LBFGS):
                raise ValueError("optimiser must use one gradient per step, got LBFGS, which searches along a line")
            return made
        return torch.optim.Adam(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)


@dataclass
class Outcome:
    """State of a run, and its result at the end."""

    step: int = 0
    history: list[Epoch] = field(default_factory=list)
    best: int = 0
    """Position in `history` of the best validation score."""
    weights: dict[str, Tensor] = field(default_factory=dict)
    """State of the model at that position, if `Task.keep_best` is set."""
    loss: float = 0.0
    """Sum of the loss over the samples since the last evaluation."""
    samples: int = 0
    """Number of samples since the last evaluation."""
    seconds: float = 0.0
    """Wall time of the steps since the last evaluation."""


def run_loop(task: Task, model: nn.Module, learner: Rule | None, options: Options) -> Outcome:
    """Train a model. A run that is stopped and resumed gives the same weights, bit for bit, as an unbroken run.

    Raises
    ------
    ValueError
        If the checkpoint belongs to another run, exists but `Options.resume` is not set, or cannot be written.
    Diverged
        If the run cannot continue (see `dfa.training.guards`). The last good checkpoint is kept, and the message names
        it.
    """
    return Loop(task, model, learner, options).run()


class Loop:
    """The parts of a run."""

    def __init__(self, task: Task, model: nn.Module, learner: Rule | None, options: Options) -> None:
        if isinstance(learner, Learner) and unwrap(learner.model) is not unwrap(model):
            raise ValueError("learner must be that of the model to train, got the learner of another model")
        self.task, self.model, self.learner, self.options = task, model, learner, options
        self.optimiser = options.build_optimiser(model.parameters())
        kind = {**describe_optimiser(self.optimiser), "clip_norm": options.clip_norm}
        learns = {"learning_rate": options.learning_rate, "seed": task.seed, "feedback": learner is not None}
        learns["learner"] = describe_learner(learner) if isinstance(learner, Learner) else None
        self.checkpoint = Checkpoint(options.folder, {**(options.settings or {}), **task.settings, **learns, **kind})
        self.watcher = Watcher(model, learner)
        directed = isinstance(learner, Learner) and learner.feedback is not None
        self.guards = Guards([name for name, own in list(self.watcher.parts.items())[:-1] if own] if directed else [])
        self.now = Outcome()
        self.at = 0
        """Number of the current step."""
        self.saved_at = time.monotonic()

    def run(self) -> Outcome:
        """Take all remaining steps."""
        with self._own_folder(), reproducible(self.task.seed), self._locate_errors():
            if self.options.resume:
                self._resume()
            folder = self.checkpoint.folder if self.options.tensorboard else None
            bar = tqdm(
                total=self.task.steps,
                initial=self.now.step,
                unit=" steps",
                leave=False,
                disable=not self.options.progress,
            )
            with events(folder and folder / "tensorboard", self.now.step) as write, bar:
                self.model.train()
                for step in range(self.now.step + 1, self.task.steps + 1):
                    self.at = step
                    self._step(step)
                    bar.update()
                    if self._due(step, self.task.evaluate_every):
                        self._evaluate(step)
                        bar.set_postfix_str(describe(self.now.history), refresh=False)
                    if self._due(step, self.task.record_every):
                        write(self.now.history[-1])
                        name, text = Path(self.options.folder or "run").name, describe(self.now.history)
                        logging.getLogger(__name__).info("%s: step %d of %d, %s", name, step, self.task.steps, text)
                    self._save(step)
        return self.now

    @contextmanager
    def _own_folder(self) -> Iterator[None]:
        """Context in which no other run uses the folder; a ``ValueError`` if it holds a run that is not resumed."""
        folder, path = self.checkpoint.folder, self.checkpoint.path
        with claim_folder(folder) if folder is not None else nullcontext():
            if path is not None and path.exists() and not self.options.resume:
                raise ValueError(
                    f"folder must not hold an earlier run, got one with {path}: set resume=True to continue it, or "
                    "name another folder"
                )
            yield

    def _due(self, step: int, every: int) -> bool:
        return step == self.task.steps or step % every == 0

    def _step(self, step: int) -> None:
        start, now = time.perf_counter(), self.now
        watched = self.options.diagnostics and (
            step == 1 or self._due(step, WATCH_EVERY) or self._due(step, self.task.record_every)
        )
        x, target = self.task.batch(step)
        with self.watcher.watching() if watched else nullcontext():
            output = self.model(x)
            loss = self.task.loss(output, target)
            value = take_step(loss, output, self.optimiser, self.learner, self.options.clip_norm)
        if watched:
            self.guards.check(step, value, self.watcher.measure())
        now.step, now.loss, now.samples = step, now.loss + value * len(target), now.samples + len(target)
        now.seconds += time.perf_counter() - start

    def _evaluate(self, step: int) -> None:
        now, task = self.now, self.task
        check_weights(self.model)
        self.model.eval()
        gradients, figures, angles = dict[str, float](), dict[str, float](), dict[str, float]()
        if self.options.diagnostics and self._due(step, task.record_every):
            (gradients, figures), angles = self.watcher.take_means(), self._angles()
        validation, test = task.evaluate(self.model)
        record = Epoch(
            epoch=step // task.epoch_steps,
            step=step,
            loss=now.loss / now.samples,
            validation=validation,
            test=test,
            frames=self.watcher.feedback.frames if self.watcher.feedback else 0,
            seconds=now.seconds,
            angles=angles,
            gradients=gradients,
            **figures,
        )
        self.model.train()
        now.history.append(record)
        now.loss, now.samples, now.seconds = 0.0, 0, 0.0
        if task.keep_best and (not now.weights or record.validation > now.history[now.best].validation):
            now.best = len(now.history) - 1
            now.weights = {name: value.clone() for name, value in self.model.state_dict().items()}

    def _angles(self) -> dict[str, float]:
        if not isinstance(self.learner, Learner) or self.task.probe is None:
            return {}
        return dict(zip(self.learner.names, alignment(self.learner, self.task.loss, *self.task.probe), strict=True))

    def _save(self, step: int) -> None:
        """Write the checkpoint and the metrics if they are due."""
        if self.checkpoint.path is None:
            return
        record = self._due(step, self.task.record_every)
        requested = self.options.checkpoint_every and step % self.options.checkpoint_every == 0
        if not (record or requested or time.monotonic() - self.saved_at > CHECKPOINT_S):
            return
        check_weights(self.model)
        self.checkpoint.save(self._state())
        self.saved_at = time.monotonic()
        if record:
            self._write_metrics()

    def _write_metrics(self) -> None:
        if self.checkpoint.folder is not None:
            write_metrics(self.checkpoint.folder, self.now.history, self.checkpoint.settings)

    def _state(self) -> State:
        return {
            **vars(self.now),
            "history": [asdict(record) for record in self.now.history],
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "learner": self.learner.state_dict() if isinstance(self.learner, Learner) else {},
            "random": random_state(),
            "watched": self.watcher.sums,
            "guards": self.guards.state,
        }

    def _resume(self) -> None:
        state = self.checkpoint.load()
        if state is None:
            return
        try:
            found = {name: state[name] for name in vars(self.now)}
            found["history"] = [Epoch(**record) for record in state["history"]]
            self.now = Outcome(**found)
            self.watcher.sums, self.guards.state, random = state["watched"], state["guards"], state["random"]
            model, optimiser, learner = state["model"], state["optimiser"], state["learner"]
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{self.checkpoint.path} must be a checkpoint of this version, got one without {error}"
            ) from None
        try:
            self.model.load_state_dict(model)
        except RuntimeError:
            raise ValueError(
                f"{self.checkpoint.path} must be a checkpoint of this network, got one with other layers"
            ) from None
        self.optimiser.load_state_dict(optimiser)
        if isinstance(self.learner, Learner):
            self.learner.load_state_dict(learner)
        restore_random_state(random)
        if self.now.history:
            self._write_metrics()  # the run may have been killed between its two files

    @contextmanager
    def _locate_errors(self) -> Iterator[None]:
        """Context that adds the step and the last good checkpoint to the message of `Diverged`."""
        try:
            yield
        except Diverged as error:
            kept = self.checkpoint
            where = f"; the last good checkpoint is {kept.path}, of step {kept.step}" if kept.step else ""
            raise Diverged(f"{error} (step {self.at}){where}") from error


def describe(history: list[Epoch]) -> str:
    """The latest figures, short enough for a progress bar."""
    last = history[-1]
    parts = [f"loss={last.loss:.3g}", f"validation={last.validation:.4g}", f"test={last.test:.4g}"]
    full = next((record for record in reversed(history) if record.gradients), last)
    hidden = list(full.angles.values())[:-1]
    parts += [f"angle={fmean(hidden):.0f}°"] if hidden else []
    if full.snr_db is not None:
        infinite = "no signal" if full.snr_db < 0 else "no noise"
        parts.append(infinite if math.isinf(full.snr_db) else f"snr={full.snr_db:.0f}dB")
    parts += [f"tau={full.correlation_frames:.2g}"] if full.correlation_frames is not None else []
    parts += [f"kept={full.correlation:.2f}"] if full.correlation is not None else []
    parts += [f"rate={full.hidden_rate:.2g}"] if full.hidden_rate is not None else []
    shares = {"nonzero": full.nonzero, "saturated": full.saturated}
    return " ".join(parts + [f"{name}={share:.1%}" for name, share in shares.items() if share is not None])
