"""Computes every point of a design that is not stored yet, and hands back all of them, labelled."""

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from dfa.sweeps.cluster.running import outcomes
from dfa.sweeps.designs import Design, design_of
from dfa.sweeps.keys import canonical, plain, point_key
from dfa.sweeps.labelled import check_labels, dataset
from dfa.sweeps.protocol import Study
from dfa.sweeps.store import Job, Store
from dfa.sweeps.versions import code_behind
from photonics.component import integer

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["sweep"]


def sweep(
    study: Study,
    over: Mapping[str, Iterable[Any]] | Sequence[Mapping[str, Any]] | Design,
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
        What one point is. It is pickled and sent with every point, so it loads its data where it runs.
    over : mapping, sequence of mappings or Design
        ``{"camera.read_noise_e": [1, 2, 4]}`` is a grid with one dimension for each name, a list of points is
        taken as it is; `LatinHypercube`, `Random`, `OneAtATime` are other designs.
    seeds : iterable of int
        Seeds of every point; the same ones everywhere, so that differences between points are not those of seeds.
    store : path, optional
        SQLite file for the results. A sweep that was stopped, however, goes on from there; sweeps may share a file, and
        a point that two of them have in common is computed once. Without one, results are lost with the process.
    workers : int, optional
        Processes on this machine, one thread each; default one for each core. 0 computes in this process. A cluster
        that DASK_SCHEDULER_ADDRESS names is taken in their place.
    progress : bool
        Show a progress bar with the time left.
    retry_failed : bool
        Compute points again that are stored as failed.

    Returns
    -------
    xarray.Dataset
        Each metric over the design's dimensions and ``seed``, NaN where a point failed, and ``error``, the exception in
        one line or "". Units and long names are attributes. Bit for bit the same for any number of workers, order or
        interruption, but for the attribute ``measured`` (dates, seconds, versions of libraries).

    Raises
    ------
    ValueError
        If the study is none, or refuses a point, before any runs; if its code was edited after it was loaded; if a
        metric has the name of a parameter; if the store is damaged, of another format or in use.
    ConnectionError
        If the cluster that was named is gone, or local ones die again and again. What is stored stays.
    """
    check_study(study)
    design, seeds = design_of(over), checked_seeds(seeds)
    check_labels(design)
    if workers is None:
        workers = cores()
    integer(workers, "workers", 0)
    points = [plain(settings, "settings") for settings in design.settings]
    description = canonical(study.describe(), "description of the study")
    model, modules = code_behind(study)
    about = {"model": model, "study": description, "study_class": type(study).__name__}
    about["design"] = canonical(design.describe(), "design")
    jobs = [Job(point_key(description, settings, seed, model), settings, seed) for settings in points for seed in seeds]
    with Store(store) as rows:
        found = rows.find(job.key for job in jobs)
        done = {key for key, row in found.items() if not (row.error and retry_failed)}
        todo = list({job.key: job for job in jobs if job.key not in done}.values())
        for settings in {canonical(job.settings, "settings"): job.settings for job in todo}.values():
            study.check(copy.deepcopy(settings))
        for row in found.values():
            check_metrics(row.metrics, design)
        number, failed = rows.study(model, description), 0
        total = len(done) + len(todo)
        with (
            tqdm(total=total, initial=len(done), unit=" points", desc="sweep", disable=not progress) as bar,
            closing(outcomes(study, todo, min(workers, len(todo)), modules)) as results,
        ):
            for job, outcome in results:
                rows.put(number, job, outcome)
                check_metrics(outcome.metrics, design)
                failed += bool(outcome.error)
                bar.set_postfix(failed=failed, refresh=False) if failed else None
                bar.update()
        found = rows.find(job.key for job in jobs)
    return dataset(design, seeds, [found[job.key] for job in jobs], study.units(), about)


def check_study(study: Any) -> None:
    """Raise a ``ValueError`` if an object lacks a method of a study."""
    lacking = [name for name in ("check", "run", "describe", "units") if not callable(getattr(study, name, None))]
    if lacking or isinstance(study, type):
        raise ValueError(f"study must be an object with check, run, describe and units, got {study!r:.80}")


def check_metrics(metrics: Iterable[str], design: Design) -> None:
    """Raise a ``ValueError`` if a metric of a point has the name of a parameter, which another point may set."""
    if both := sorted(set(metrics) & design.coordinates.keys()):
        raise ValueError(f"metrics must have other names than parameters, got {', '.join(both)}")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def checked_seeds(seeds: Iterable[int]) -> list[int]:
    """Seeds as a list of different integers, or a ``ValueError``."""
    if not isinstance(seeds, Iterable):
        raise ValueError(f"seeds must be one or more different integers, got {seeds!r}")
    given = [integer(seed, "seeds", 0, 2**63 - 1) for seed in seeds]
    if not given or len(set(given)) < len(given):
        raise ValueError(f"seeds must be one or more different integers, got {given}")
    return given
