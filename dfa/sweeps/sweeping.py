"""The function `sweep`: compute every point of a design that is not stored yet, and return all points, labelled."""

import copy
import hashlib
import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

from dfa.sweeps.cluster.running import outcomes
from dfa.sweeps.designs import Design, design_of
from dfa.sweeps.keys import canonical_json, code_of, point_key, to_plain
from dfa.sweeps.labelled import check_labels, dataset
from dfa.sweeps.protocol import Outcome, Study
from dfa.sweeps.store import Job, Row, Store
from opu_sim import install_line
from photonics.component import integer

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["MAX_SEEDS", "sweep"]

log = logging.getLogger(__name__)

MAX_SEEDS = 1_000_000
"""Largest number of seeds of a sweep, whose points are all in memory."""


def sweep(
    study: Study,
    over: Mapping[str, Iterable[object]] | Sequence[Mapping[str, object]] | Design,
    seeds: Iterable[int] = (0,),
    store: str | Path | None = None,
    workers: int | None = None,
    progress: bool = True,
    retry_failed: bool = False,
) -> "Dataset":
    """Compute a study at every point of a design and for every seed.

    Parameters
    ----------
    study : Study
        Computes one point. It is pickled and sent with every point, so it should load its data where it runs.
    over : mapping, sequence of mappings or Design
        ``{"camera.read_noise_e": [1, 2, 4]}`` is a grid with one dimension for each name; a list of points is
        used unchanged; `LatinHypercube`, `Random`, `OneAtATime` are other designs.
    seeds : iterable of int
        Seeds of every point. Points share them, so that differences between points are not those of seeds.
    store : path, optional
        SQLite file for the results. A sweep that was interrupted continues from there. Several sweeps may share a
        file, one at a time; a point that two of them have in common is computed once. Without a file, results are
        lost with the process.
    workers : int, optional
        Processes on this machine, one thread each; default one for each core. 0 computes in this process. A cluster
        that DASK_SCHEDULER_ADDRESS names is used instead.
    progress : bool
        Show a progress bar with the time left.
    retry_failed : bool
        Compute points again that are stored as failed.

    Returns
    -------
    xarray.Dataset
        Each metric over the design's dimensions and ``seed``, NaN where a point failed, and ``error``, the exception in
        one line or "". Units and long names are attributes. Bit for bit the same for any number of workers, order or
        interruption, except for the attribute ``measured`` (dates, seconds, versions of libraries).

    Raises
    ------
    ValueError
        If `study` is not a Study, refuses a point (before any point runs), or has neither source nor ``version``; if
        a metric has the name of a parameter; if the store is damaged, of another format or in use.
    ModuleNotFoundError
        If xarray is not installed, before any point runs.
    ConnectionError
        If the named cluster cannot be reached, the local one does not start, or a worker has other code or libraries.
        Stored points are kept.
    """
    try:
        import xarray  # noqa: F401 (for the result: without it the sweep ends before the first point)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} is not installed: {install_line('cluster')}", name=error.name
        ) from None

    check_study(study)
    design, seeds = design_of(over), check_seeds(seeds)
    check_labels(design)
    workers = integer(cores() if workers is None else workers, "workers", 0)
    description = canonical_json(study.describe(), "description of the study")
    code = code_of(study)
    model = hashlib.sha256(f"{code.packages} {code.study}".encode()).hexdigest()[:16]
    points = [{name: to_plain(value, f"settings.{name}") for name, value in point.items()} for point in design.settings]
    jobs = [Job(point_key(description, point, seed, model), point, seed) for point in points for seed in seeds]
    with Store(store) as rows:
        found = rows.find(job.key for job in jobs)
        done = {key for key, row in found.items() if not (row.error and retry_failed)}
        todo = list({job.key: job for job in jobs if job.key not in done}.values())
        check_points(study, todo, found.values(), design)
        bar = tqdm(total=len(done) + len(todo), initial=len(done), unit=" points", desc="sweep", disable=not progress)
        with bar, closing(outcomes(study, todo, min(workers, len(todo)), code)) as results:
            put_outcomes(rows, rows.study(model, description), results, design, bar)
        found = rows.find(job.key for job in jobs)
    about = {
        "model": model,
        "study": description,
        "study_class": type(study).__name__,
        "design": canonical_json(design.describe(), "design"),
    }
    return dataset(design, seeds, [found[job.key] for job in jobs], study.units(), about)


def put_outcomes(
    rows: Store, study: int, results: Iterable[tuple[Job, Outcome]], design: Design, bar: "tqdm[NoReturn]"
) -> None:
    """Write each outcome when it is there, and count it in the progress bar and the log."""
    failed = 0
    for count, (job, outcome) in enumerate(results, bar.n + 1):
        rows.put(study, job, outcome)
        check_metric_names(outcome.metrics, design)
        failed += bool(outcome.error)
        if failed:
            bar.set_postfix(failed=failed, refresh=False)
        bar.update()
        point = ", ".join(f"{name}={value}" for name, value in job.settings.items()) or "no changes"
        score = outcome.error or ", ".join(f"{name} {value:.4g}" for name, value in [*outcome.metrics.items()][:1])
        log.info("%d of %s: %.150s, seed %d: %.150s", count, bar.total, point, job.seed, score)


def check_study(study: object) -> None:
    """Raise a ``ValueError`` if an object lacks a method of a study."""
    missing = [name for name in ("check", "run", "describe", "units") if not callable(getattr(study, name, None))]
    if missing or isinstance(study, type):
        raise ValueError(f"study must be an object with check, run, describe and units, got {study!r:.80}")


def check_points(study: Study, todo: Iterable[Job], found: Iterable[Row], design: Design) -> None:
    """Let the study check each point that is to be computed, and check the metrics of those that are stored."""
    for settings in {canonical_json(job.settings, "settings"): job.settings for job in todo}.values():
        study.check(copy.deepcopy(settings))
    for row in found:
        check_metric_names(row.metrics, design)


def check_metric_names(metrics: Iterable[str], design: Design) -> None:
    """Raise a ``ValueError`` if a metric of a point has the name of a parameter, which another point may set."""
    if both := sorted(set(metrics) & design.coordinates.keys()):
        raise ValueError(f"metrics must have other names than parameters, got {', '.join(both)}")


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def check_seeds(seeds: Iterable[int]) -> list[int]:
    """Return seeds as a list of different integers, or raise a ``ValueError``."""
    if not isinstance(seeds, Iterable):
        raise ValueError(f"seeds must be one or more different integers, got {seeds!r}")
    given = [integer(seed, "seeds", 0, 2**63 - 1) for seed in islice(seeds, MAX_SEEDS + 1)]
    if len(given) > MAX_SEEDS:
        raise ValueError(f"seeds must be {MAX_SEEDS} or less, got more")
    if not given or len(set(given)) < len(given):
        raise ValueError(f"seeds must be one or more different integers, got {given}")
    return given
