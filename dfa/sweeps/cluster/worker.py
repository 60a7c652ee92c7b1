"""The code of a worker: points of a study."""

import copy
import functools
import os
import pickle
import reprlib
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from threadpoolctl import threadpool_limits

from dfa.sweeps.keys import PACKAGES_HASH, Code, code_of
from dfa.sweeps.protocol import RESERVED, Outcome, Settings, Study, is_name

__all__ = ["BATCH_S", "ONE_THREAD", "compute_here", "compute_in_worker", "dask_setup", "libraries"]

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}
"""Environment variables that numerical libraries read when they are loaded."""
MAX_MESSAGE, MAX_TRACEBACK, MAX_METRICS = 2000, 20_000, 1000
"""Longest error and traceback of a point, characters, and its largest number of metrics: the store keeps them all."""
LIBRARIES = ("opu-sim", "dask", "distributed", "numpy", "scipy", "numba", "torch")
BATCH_S = 0.5
"""Time after which a worker begins no other point of its task, seconds."""


def dask_setup(worker: object) -> None:
    """Ignore Ctrl-C, which the parent handles; dask calls this when it starts a worker of a local cluster."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def compute_in_worker(
    pickled: bytes, points: Sequence[tuple[Settings, int]], code: Code, made_with: str
) -> list[Outcome]:
    """Run points in a worker, which uses one thread from now on and keeps the study for the next points.

    Returns
    -------
    list of Outcome
        Outcomes of the points that began before `BATCH_S` had passed, the first one always.

    Raises
    ------
    ConnectionError
        If the worker has other code than `code`, or other libraries than `made_with`.
    ValueError
        If the worker cannot load the study.
    """
    if code.packages != PACKAGES_HASH:
        raise ConnectionError(
            "a worker must have the same code of opu-sim as this process: install the same files and restart both"
        )
    check_libraries(made_with)
    study = unpickle(pickled)
    check_study_code(study, code)
    os.environ.update(ONE_THREAD)  # for libraries that are loaded later, instead of loading torch here
    ended, end = list[Outcome](), time.monotonic() + BATCH_S
    for settings, seed in points:
        threadpool_limits(1)
        try:
            ended.append(compute(study, settings, seed))
        except KeyboardInterrupt as problem:  # raised by the study; it would end the worker
            ended.append(Outcome(metrics={}, error=describe_exception(problem), traceback=format_traceback()))
        if time.monotonic() >= end:
            break
    return ended


def check_libraries(made_with: str) -> None:
    """Raise a ``ConnectionError`` if this worker has other libraries than the parent process."""
    here, there = (dict(one.split() for one in text.split(", ")) for text in (libraries(), made_with))
    names = [name for name in there | here if here.get(name) != there.get(name)]
    if names:
        found = ", ".join(f"{name} {here.get(name, 'missing')} instead of {there.get(name, 'none')}" for name in names)
        raise ConnectionError(
            f"a worker must have the same libraries as this process, got {found}: install the same and restart both"
        )


def check_study_code(study: Study, code: Code) -> None:
    """Raise a ``ConnectionError`` if this worker has loaded another version of the study's module.

    The class of a script or notebook has no module here: it is pickled with its code.
    """
    module = type(study).__module__
    if module != "__main__" and module in sys.modules and code_of(study) != code:
        raise ConnectionError(
            f"a worker must have the same code of {module} as this process: copy the file there and restart the worker"
        )


def compute(study: Study, settings: Settings, seed: int) -> Outcome:
    """Run a point; an exception becomes the error of the point."""
    start = time.perf_counter()
    metrics, error, trace = {}, "", ""
    try:
        with warnings.catch_warnings():  # filters that the study sets end with the point
            metrics = check_metrics(study.run(copy.deepcopy(dict(settings)), seed), settings)
    except KeyboardInterrupt:
        raise
    except BaseException as problem:  # also SystemExit, and CancelledError of asyncio
        error, trace = describe_exception(problem), format_traceback()
    seconds = time.perf_counter() - start
    return Outcome(metrics=metrics, error=error, traceback=trace, seconds=seconds, made_with=libraries())


def compute_here(study: Study, settings: Settings, seed: int) -> Outcome:
    """Run a point in this process, on one thread like a worker, so that sums are the same to the last bit."""
    with suppress(ImportError):
        import torch  # noqa: F401 (the limit holds for libraries that are loaded)
    with threadpool_limits(1):
        return compute(study, settings, seed)


@functools.lru_cache(maxsize=2)
def unpickle(pickled: bytes) -> Study:
    """Load the study that this sweep's parent process has sent, or raise a ``ValueError``."""
    try:
        return pickle.loads(pickled)
    except Exception as problem:  # an import may raise errors of any type
        cause = describe_exception(problem)
        raise ValueError(f"a worker cannot load the study ({cause}): it needs the same modules") from None


def describe_exception(problem: BaseException) -> str:
    """Return the name and the message of an exception in one line."""
    try:
        text = " ".join(str(problem).split())
    except Exception:
        text = "(its message cannot be read)"
    return escape_surrogates(shorten(f"{type(problem).__name__}: {text}", MAX_MESSAGE))


def format_traceback() -> str:
    """Return the traceback of the exception that is handled; the middle of a very long one is left out."""
    return escape_surrogates(shorten(traceback.format_exc(), MAX_TRACEBACK))


def shorten(text: str, length: int) -> str:
    """Return a text of about `length` characters at most, without its middle if it is longer."""
    if len(text) <= length:
        return text
    return f"{text[: length // 2]} ... ({len(text) - length} characters left out) ... {text[-length // 2 :]}"


def escape_surrogates(text: str) -> str:
    """Return text that UTF-8 can encode: names of files may contain single surrogates."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def check_metrics(metrics: object, settings: Settings) -> dict[str, float]:
    """Return the metrics of a point as floats, or raise a ``ValueError``."""
    if not isinstance(metrics, Mapping):
        raise ValueError(f"metrics must be a mapping of names to numbers, got {type(metrics).__name__}")
    if len(metrics) > MAX_METRICS:
        raise ValueError(f"metrics must be {MAX_METRICS} numbers or less, got {len(metrics)}")
    for name in metrics:
        if not is_name(name) or name in settings:
            others = ", ".join((*RESERVED, *settings))
            raise ValueError(f"a metric must have a name other than {others}, without / and printable, got {name!r}")
    try:
        return {name: float(value) for name, value in metrics.items()}
    except (TypeError, ValueError):
        raise ValueError(f"metrics must be numbers, got {reprlib.repr(dict(metrics))}") from None


@functools.cache
def libraries() -> str:
    """Return versions of Python and libraries here; results are bit for bit the same only where these agree."""
    found = [f"python {sys.version_info.major}.{sys.version_info.minor}"]
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return ", ".join(found)
