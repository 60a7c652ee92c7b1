"""The loop under all training: steps, records, checkpoints, and an end with a clear message when nothing is learned."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dfa.errors import Diverged
from dfa.rules.blocks import whole
from dfa.rules.learner import Learner
from dfa.training.angles import alignment
from dfa.training.checkpoint import Checkpoint, random_state, restore_random_state
from dfa.training.diagnostics import Diagnostics, Watcher, events, write_metrics
from dfa.training.guards import Guards, check_weights
from dfa.training.steps import Rule, check_numbers, reproducible, take_step

__all__ = ["Options", "Outcome", "RunOptions", "Task", "run_loop"]

WATCH_EVERY = 20
"""Steps between those that are watched: what that costs is a step's share of this."""
CHECKPOINT_S = 60.0
"""Seconds after which a run with a folder is written down, whatever the step."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is learned. Steps count from 1; everything is a function of the step, so that a run can go on anywhere."""

    steps: int
    evaluate_every: int
    """Steps between evaluations; the last step has one, too."""
    record_every: int
    """Steps between records, with angles and files; a multiple of `evaluate_every`. The last step has one, too."""
    batch: Callable[[int], tuple[Tensor, Tensor]]
    """Input and target of a step."""
    loss: Callable[[Tensor, Tensor], Tensor]
    """Scalar loss of output and target, mean over the samples."""
    evaluate: Callable[[nn.Module], dict[str, float]]
    """Scores by name, of the model in evaluation mode."""
    probe: tuple[Tensor, Tensor] | None
    """Input and target on which angles are measured, if they are."""
    seed: int
    """Dropout is a function of it."""
    settings: Mapping[str, Any]
    """What a checkpoint must have been made with, in plain types."""
    best: str | None = None
    """The score by which the best weights are kept: the first of its highest values."""


class RunOptions(TypedDict, total=False):
    """Keywords that all training functions hand on to `Options`; `dfa.train` says what they mean."""

    folder: str | Path | None
    resume: bool
    progress: bool
    checkpoint_every: int
    diagnostics: bool
    tensorboard: bool
    optimiser: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None
    clip_norm: float | None
    settings: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a run learns, is kept and is watched."""

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
    settings: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_numbers(learning_rate=self.learning_rate)
        if self.clip_norm is not None:
            check_numbers(clip_norm=self.clip_norm)
        if self.checkpoint_every < 0:
            raise ValueError(f"checkpoint_every must be 0 or more steps, got {self.checkpoint_every!r}")
        if self.folder is None and (self.resume or self.tensorboard):
            raise ValueError("folder must be given for a run that is resumed or writes events")

    def make(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The user's optimiser, or Adam."""
        if self.optimiser is not None:
            made = self.optimiser(parameters)
            if isinstance(made, torch.optim.LBFGS):
                raise ValueError("optimiser must take one gradient for a step, got LBFGS, which searches along a line")
            return made
        return torch.optim.Adam(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)


@dataclass
class Outcome:
    """Where a run stands, and in the end what it gave."""

    step: int = 0
    history: list[Diagnostics] = field(default_factory=list)
    best: int = 0
    """Position in `history` of the best score."""
    weights: dict[str, Tensor] = field(default_factory=dict)
    """The model's state then, if the task asks for it."""
    loss: float = 0.0
    """Sum over samples since the last evaluation, of which there were so many:"""
    samples: int = 0
    seconds: float = 0.0


def run_loop(task: Task, model: nn.Module, learner: Rule | None, options: Options) -> Outcome:
    """Train a model; the weights of a run that was stopped and resumed are those of one that never was, bit for bit.

    Raises
    ------
    ValueError
        If the checkpoint is of another run, is there but not to be resumed, or cannot be written.
    Diverged
        If there is nothing to go on with (see `dfa.training.guards`). The last good checkpoint stays, and is named.
    """
    return Loop(task, model, learner, options).run()


class Loop:
    """The parts of a run."""

    def __init__(self, task: Task, model: nn.Module, learner: Rule | None, options: Options) -> None:
        if isinstance(learner, Learner) and whole(learner.model) is not whole(model):
            raise ValueError("learner must be made for the model that is trained, got one of another model")
        self.task, self.model, self.learner, self.options = task, model, learner, options
        self.optimiser = options.make(model.parameters())
        kind = {"optimiser": type(self.optimiser).__name__, "clip_norm": options.clip_norm}
        learns = {"learning_rate": options.learning_rate, "seed": task.seed, "feedback": learner is not None}
        self.checkpoint = Checkpoint(options.folder, {**(options.settings or {}), **task.settings, **learns, **kind})
        if not options.resume and self.checkpoint.path is not None and self.checkpoint.path.exists():
            raise ValueError(
                f"folder must hold no earlier run, got one with {self.checkpoint.path}: go on with it by resume=True, "
                "or name another folder"
            )
        self.watcher = Watcher(model, learner)
        directed = isinstance(learner, Learner) and learner.feedback is not None
        self.guards = Guards([name for name, own in list(self.watcher.parts.items())[:-1] if own] if directed else [])
        self.now = Outcome()
        self.at = 0
        """The step that is being taken."""
        self.saved_at = time.monotonic()

    def run(self) -> Outcome:
        """Take all steps that are left."""
        with reproducible(self.task.seed), self._says_where():
            if self.options.resume:
                self._resume()
            folder = Path(self.checkpoint.path.parent, "tensorboard") if self.options.tensorboard else None
            bar = tqdm(
                total=self.task.steps,
                initial=self.now.step,
                unit=" steps",
                leave=False,
                disable=not self.options.progress,
            )
            with events(folder, self.now.step) as write, bar:
                self.model.train()
                for step in range(self.now.step + 1, self.task.steps + 1):
                    self.at = step
                    self._step(step)
                    bar.update()
                    if self._due(step, self.task.evaluate_every):
                        self._evaluate(step)
                        bar.set_postfix_str(shown(self.now.history), refresh=False)
                    if self._due(step, self.task.record_every):
                        write(self.now.history[-1])
                    self._keep(step)
        return self.now

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
            self.guards.look(step, value, self.watcher.look())
        now.step, now.loss, now.samples = step, now.loss + value * len(target), now.samples + len(target)
        now.seconds += time.perf_counter() - start

    def _evaluate(self, step: int) -> None:
        now, task = self.now, self.task
        check_weights(self.model)
        self.model.eval()
        more: dict[str, Any] = {}
        if self.options.diagnostics and self._due(step, task.record_every):
            more = self.watcher.take() | {"angles": self._angles()}
        record = Diagnostics(
            step=step,
            loss=now.loss / now.samples,
            scores=task.evaluate(self.model),
            frames=feedback_state(self.learner).get("frames", 0),
            seconds=now.seconds,
            **more,
        )
        self.model.train()
        now.history.append(record)
        now.loss, now.samples, now.seconds = 0.0, 0, 0.0
        if task.best and (not now.weights or record.scores[task.best] > now.history[now.best].scores[task.best]):
            now.best = len(now.history) - 1
            now.weights = {name: value.clone() for name, value in self.model.state_dict().items()}

    def _angles(self) -> dict[str, float]:
        if not isinstance(self.learner, Learner) or self.task.probe is None:
            return {}
        return dict(zip(self.learner.names, alignment(self.learner, self.task.loss, *self.task.probe), strict=True))

    def _keep(self, step: int) -> None:
        """Write the checkpoint and the metrics if it is time."""
        if self.checkpoint.path is None:
            return
        record = self._due(step, self.task.record_every)
        asked = self.options.checkpoint_every and step % self.options.checkpoint_every == 0
        if not (record or asked or time.monotonic() - self.saved_at > CHECKPOINT_S):
            return
        check_weights(self.model)
        self.checkpoint.save(self._state())
        self.saved_at = time.monotonic()
        if record:
            self._write_metrics()

    def _write_metrics(self) -> None:
        write_metrics(self.checkpoint.path.parent, self.now.history, self.checkpoint.settings)

    def _state(self) -> dict[str, Any]:
        return {
            **vars(self.now),
            "history": [asdict(record) for record in self.now.history],
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "learner": getattr(self.learner, "state_dict", dict)(),
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
            found["history"] = [Diagnostics(**record) for record in state["history"]]
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
            raise ValueError(f"{self.checkpoint.path} is of a network with other layers") from None
        self.optimiser.load_state_dict(optimiser)
        if learner:
            self.learner.load_state_dict(learner)  # type: ignore[union-attr]
        restore_random_state(random)
        if self.now.history:
            self._write_metrics()  # the run may have been killed between its two files

    @contextmanager
    def _says_where(self) -> Iterator[None]:
        """A run that cannot go on says at which step, and where its last good state is."""
        try:
            yield
        except Diverged as error:
            kept = self.checkpoint
            where = f"; the last good checkpoint is {kept.path}, of step {kept.step}" if kept.step else ""
            raise Diverged(f"{error} (step {self.at}){where}") from error


def feedback_state(learner: Any) -> dict[str, Any]:
    """State of the feedback, if it has one."""
    return getattr(getattr(learner, "feedback", None), "state_dict", dict)()


def shown(history: list[Diagnostics]) -> str:
    """The newest figures, short enough for a progress bar."""
    last = history[-1]
    parts = [f"loss={last.loss:.3g}", *(f"{name}={value:.4g}" for name, value in last.scores.items())]
    full = next((record for record in reversed(history) if record.gradients), last)
    hidden = list(full.angles.values())[:-1]
    parts += [f"angle={fmean(hidden):.0f}°"] if hidden else []
    parts += [f"snr={full.snr_db:.0f}dB"] if full.snr_db is not None else []
    shares = {"nonzero": full.nonzero, "saturated": full.saturated}
    return " ".join(parts + [f"{name}={share:.1%}" for name, share in shares.items() if share is not None])
