"""The function `tolerance`: how bad each part of a device may be until training loses a stated amount."""

import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dfa.experiments.plans import Plan
from dfa.robustness.prepared import SCORES
from dfa.robustness.studies import MNIST, bench_values
from dfa.robustness.tolerances.lines import LINES, Line, line
from dfa.robustness.tolerances.posterior import CAP, Posterior, posterior
from dfa.robustness.tolerances.results import LEVEL, Tolerances, Trial, summarise
from dfa.robustness.training_study import TrainingStudy
from dfa.sweeps.designs import Paired
from dfa.sweeps.keys import canonical_json
from dfa.sweeps.protocol import Settings
from dfa.sweeps.sweeping import check_seeds, sweep
from photonics.component import integer, number

__all__ = ["tolerance"]

log = logging.getLogger(__name__)

LEAST = 10
"""Trainings before a search may end: an interval that is narrow after fewer is often so by chance."""
QUANTILES = (0.5, 0.16, 0.84)
"""Of the posterior: places of the next trainings, in turn."""


@dataclass
class Search:
    """The search along one line."""

    name: str
    line: Line
    own: float | None
    limit: float
    width: float
    """Width of the interval at which the search ends, as a share of the line."""
    trials: list[Trial] = field(default_factory=list)
    references: dict[int, float] = field(default_factory=dict)
    verdict: str = ""
    found: Posterior = field(default_factory=lambda: posterior([], [], []))
    """Where the limit is lost, from the trainings so far."""

    def next_place(self) -> float:
        """Return the place of the next training, on a value that the parameter can have."""
        wanted = self.found.quantile(QUANTILES[len(self.trials) % 3]) if self.trials else 0.5
        name = next(iter(self.line.ends))
        place = self.line.place(name, self.line.value(name, min(max(wanted, 0.0), 1.0)))
        return min(max(place, 0.0), 1.0)

    def add(self, trial: Trial, most: int) -> None:
        """Learn from a training, and set the verdict if the search has ended."""
        self.trials.append(trial)
        losses = [CAP if one.loss is None else one.loss / self.limit for one in self.trials]
        self.found = posterior([one.place for one in self.trials], losses, [one.seed for one in self.trials])
        count = len(self.trials)
        if count < min(LEAST, most):
            return
        low, high = self.found.interval(LEVEL)
        if low >= 1.0:
            self.verdict = "at least"
        elif high <= 0.0:
            self.verdict = "at most"
        elif high - low <= self.width and low >= 0.0 and high <= 1.0:
            self.verdict = "found"
        elif count >= most:
            better, worse = low < 0.0, high > 1.0
            self.verdict = "wide" if better == worse else "at least" if worse else "at most"


def tolerance(
    plan: Plan = MNIST,
    lines: Iterable[str] | Mapping[str, Line] = tuple(LINES),
    loss: float | None = None,
    factor: float = 2.0,
    seeds: Iterable[int] = range(6),
    most: int = 30,
    store: str | Path | None = None,
    workers: int = 0,
    progress: bool = True,
    same_medium: bool = False,
) -> Tolerances:
    """Find the value of each flaw at which a training through the device loses a stated amount.

    A line goes from a good value to a bad one. Each training is placed where the earlier ones say that the limit is
    lost (a posterior probability, see `dfa.robustness.tolerances.posterior`). It is compared with one of the same seed
    on the device as it is, so that the difference is that of the flaw. Seeds are used in turn. A search ends when the
    95 % interval is no wider than `factor` to either side, or after `most` trainings.

    Parameters
    ----------
    plan : Plan
        What is trained, and the device. The default trains on 5000 digits of MNIST, some seconds each;
        `dfa.robustness.studies.SMALL` takes about a second.
    lines : iterable of str, or mapping of str to Line
        Names of `dfa.robustness.tolerances.LINES`, "everything" (all flaws of the device, worse by the same factor),
        or lines of your own. Default: all of `LINES`.
    loss : float, optional
        Loss that defines the tolerance, in points of accuracy (default 1) or bits per character (default 0.1).
    factor : float
        Precision of the tolerance, above 1.
    seeds : iterable of int
        Seeds of the trainings, two or more. Each needs a reference, once for all lines without changes of their own.
    most : int
        Largest number of trainings on a line, without references.
    store : path, optional
        SQLite file for the trainings, see `dfa.sweep`. A search that was interrupted continues from there.
    workers : int
        Processes on this machine for the trainings of different lines; 0 trains in this process.
    progress : bool
        Show a progress bar.
    same_medium : bool
        Whether a device from a file or a description, such as a twin, keeps its medium. By default each seed has
        another medium of the same law, as for a preset, so that the interval contains what differs from one medium to
        another. A medium that is a matrix is always kept.

    Returns
    -------
    Tolerances
        One row for each line, with its interval, the device's own value and the margin between them. The same for the
        same arguments, bit for bit.

    Raises
    ------
    ValueError
        If an argument is out of range, a line does not fit the plan, or the device as it is cannot be trained.

    Notes
    -----
    In 40 simulated searches along each of three measured curves (digits; read noise, full well, drift), the
    95 % interval covered the true value in 90 to 95 %, after a median of 10 to 12 trainings and 6 references.

    Examples
    --------
    Two minutes on one core:

    >>> from dfa import tolerance
    >>> from dfa.robustness import studies
    >>> tolerance(studies.SMALL, ["read_noise"], progress=False)  # doctest: +SKIP
    """
    seeds = check_seeds(seeds)
    if len(seeds) < 2:
        raise ValueError(f"seeds must be two or more, got {seeds}: the spread of the trainings decides the interval")
    most, workers = integer(most, "most", 4), integer(workers, "workers", 0)
    if not number(factor) > 1.0:
        raise ValueError(f"factor must be above 1, got {factor!r}")
    limit = number(loss) if loss is not None else 1.0 if plan.metric.higher_is_better else 0.1
    if not limit > 0.0:
        raise ValueError(f"loss must be above 0, got {loss!r}")
    study = TrainingStudy(plan)
    bench = bench_values(study.plan)
    media = {} if same_medium else seeds_of_medium(study.plan, bench)
    searches = [
        Search(name, one, one.own(bench), limit, 2.0 * float(np.log10(factor)) / one.decades)
        for name, one in lines_of(lines, study.plan).items()
    ]
    check_lines(study, searches)
    trained: set[str] = set()
    with tqdm(desc="tolerance", unit=" trainings", disable=not progress) as bar:
        for seed in itertools.cycle(seeds):
            if not (unfinished := [one for one in searches if not one.verdict]):
                break
            bar.set_postfix(lines=len(unfinished), refresh=False)
            before = len(trained)
            trials = train_round(study, unfinished, seed, media, trained, store, workers)
            for one, trial in zip(unfinished, trials, strict=True):
                one.add(trial, most)
            ended = [f"{one.name} ({one.verdict})" for one in unfinished if one.verdict]
            to_go = len(unfinished) - len(ended)
            log.info("%d trainings; ended: %s; lines to go: %d", len(trained), ", ".join(ended) or "none", to_go)
            bar.update(len(trained) - before)
    return Tolerances(
        rows=[summarise(s.name, s.line, s.own, s.found, s.trials, s.verdict) for s in searches],
        limit=limit,
        unit="points" if plan.metric.higher_is_better else plan.metric.unit,
        references={one.name: one.references for one in searches},
        trainings=len(trained),
        plan=study.describe()["plan"],
    )


def seeds_of_medium(plan: Plan, bench: Mapping[str, object]) -> dict[str, int]:
    """Seeds of a described device's medium and of the effects around it, by dotted name; none for a preset."""
    if plan.described_device() is None:
        return {}
    named = {name: seed for name, seed in bench.items() if name.startswith("medium.") and name.endswith(".seed")}
    return {name: seed for name, seed in named.items() if isinstance(seed, int)}


def lines_of(given: Iterable[str] | Mapping[str, Line], plan: Plan) -> dict[str, Line]:
    """Return lines by name, or raise a ``ValueError``."""
    if isinstance(given, str):
        raise ValueError(f"lines must be a list of names or map names to lines, got {given!r}")
    found = dict(given) if isinstance(given, Mapping) else {name: line(name, plan) for name in given}
    if not found or not all(isinstance(one, Line) for one in found.values()):
        raise ValueError(f"lines must be one or more names, or map names to lines, got {given!r:.80}")
    return found


def check_lines(study: TrainingStudy, searches: Sequence[Search]) -> None:
    """Raise a ``ValueError`` if an end of a line is not allowed for the plan's device."""
    for one in searches:
        for settings in (one.line.changes, one.line.settings(0.0), one.line.settings(1.0)):
            try:
                study.check(settings)
            except ValueError as error:
                raise ValueError(f"line {one.name}: {error}") from None


def train_round(
    study: TrainingStudy,
    searches: Sequence[Search],
    seed: int,
    media: Mapping[str, int],
    trained: set[str],
    store: str | Path | None,
    workers: int,
) -> list[Trial]:
    """Train once on each line with one seed, and its reference if it has none.

    The medium has the seeds `media` plus that of the training; `trained` collects the trainings.
    """
    points: list[Settings] = []
    places: list[float] = []
    for one in searches:
        points += [one.line.changes] * (seed not in one.references)
        places.append(one.next_place())
        points.append(one.line.settings(places[-1]))
    drawn = {name: (own + seed) % 2**64 for name, own in media.items()}
    points = [{**drawn, **point} for point in points]
    found = sweep(study, Paired(points), [seed], store, workers, progress=False)
    trained.update(f"{canonical_json(point, 'settings')} {seed}" for point in points)
    errors = [str(error) for error in found["error"].values[:, 0]]
    names = [name for name in SCORES if name in found]
    scores = found[names[0]].values[:, 0] if names else np.full(len(points), np.nan)
    sign = 1.0 if study.plan.metric.higher_is_better else -1.0
    row, trials = 0, []
    for one, place in zip(searches, places, strict=True):
        if seed not in one.references:
            if errors[row]:
                raise ValueError(f"the device as it is must be trainable (line {one.name}), got {errors[row]}")
            one.references[seed] = float(scores[row])
            row += 1
        lost = None if errors[row] else sign * (one.references[seed] - float(scores[row]))
        trials.append(Trial(place, seed, lost, errors[row]))
        row += 1
    return trials
