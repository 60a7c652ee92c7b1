"""What a sweep needs to know about a study, and how one point of it is computed."""

import copy
import functools
import pickle
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

__all__ = ["RESERVED", "Code", "Outcome", "Study", "compute", "compute_pickled", "is_name", "one_thread"]

RESERVED = ("error", "point", "seed", "varied")
"""Names of the data set's own variables."""
LIBRARIES = ("opu-sim", "numpy", "scipy", "numba", "torch")


class Study(Protocol):
    """One point of a sweep: settings and a seed in, metrics out."""

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raise a ``ValueError`` for an unknown name or a bad value; called for every point before any runs."""

    def run(self, settings: Mapping[str, Any], seed: int) -> Mapping[str, float]:
        """Metrics of a point: a function of its arguments alone. The study is pickled and runs in another process."""
        ...

    def describe(self) -> dict[str, Any]:
        """Everything else that decides the result, in plain types: part of a point's key and of the provenance."""
        ...

    def units(self) -> Mapping[str, str]:
        """Unit of each metric and, by dotted name, of each parameter that it knows; "" for none."""
        ...


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a point."""

    metrics: dict[str, float]
    """Empty if the point failed."""
    error: str = ""
    """The exception in one line; empty if all went well."""
    traceback: str = ""
    seconds: float = 0.0
    """Wall time of the point."""
    made_with: str = ""
    """Versions of the libraries that computed it."""


@dataclass(frozen=True)
class Code:
    """What a worker of another's cluster must have loaded to compute a point."""

    project: str
    """Version of the project."""
    modules: dict[str, str]
    """Hash of the code of each module that the study comes from."""


def compute(study: Study, settings: Mapping[str, Any], seed: int) -> Outcome:
    """Run a point; an exception is an outcome, too."""
    start = time.perf_counter()
    metrics, error, trace = {}, "", ""
    try:
        metrics = numbers(study.run(copy.deepcopy(dict(settings)), seed), settings)  # a study may change its own
    except KeyboardInterrupt:
        raise
    except BaseException as problem:  # sys.exit as well, and what asyncio raises when it cancels
        error, trace = said(problem), writable(traceback.format_exc())
    seconds = time.perf_counter() - start
    return Outcome(metrics=metrics, error=error, traceback=trace, seconds=seconds, made_with=libraries())


def compute_pickled(pickled: bytes, settings: Mapping[str, Any], seed: int, code: Code | None = None) -> Outcome:
    """Run a point in a worker, which holds on to the study between points.

    `code` is what a worker of another's cluster must have; an error if it has not, or cannot load the study.
    """
    if code is None:  # a worker of this machine, which was started with one thread
        return compute(unpickled(pickled), settings, seed)
    if code.project != own_version():
        raise ConnectionError(
            f"a worker runs other code of opu-sim than this process ({own_version()}, not {code.project}): "
            "install the same there and start it again"
        )
    study = unpickled(pickled)
    check_worker(code)
    one_thread()
    outcome = compute(study, settings, seed)
    check_worker(code)  # a module may be loaded only when it is needed
    return outcome


def check_worker(code: Code) -> None:
    """Raise a ``ConnectionError`` if this worker has loaded other modules of the study than its parent."""
    from dfa.sweeps.memory import in_memory

    other = [name for name, loaded in in_memory(code.modules).items() if loaded != code.modules[name]]
    if other:
        raise ConnectionError(
            f"a worker has other code of {', '.join(sorted(other))} than this process: "
            "see that the file is the same there, and start the worker again"
        )


def one_thread() -> Any:
    """Hold libraries to one thread, as on a worker of this machine, so that sums are the same to the last bit.

    Returns
    -------
    threadpoolctl.threadpool_limits
        A context, which gives the threads back at its end.
    """
    from threadpoolctl import threadpool_limits

    with suppress(ImportError):
        import torch  # noqa: F401 (a library that is loaded later is not held)
    return threadpool_limits(1)


@functools.cache
def own_version() -> str:
    """Version of the project's code in this process, taken when it is first needed."""
    from dfa.sweeps.versions import project_version

    return project_version()


@functools.lru_cache(maxsize=2)
def unpickled(pickled: bytes) -> Study:
    """Return the study that the parent of this very sweep has sent; pickles of files are never loaded."""
    try:
        return pickle.loads(pickled)
    except Exception as problem:
        raise ValueError(f"a worker cannot load the study ({said(problem)}): it must find the same modules") from None


def said(problem: BaseException) -> str:
    """Name of an exception and what it says, in one line."""
    try:
        text = " ".join(str(problem).split())
    except Exception:
        text = "(it cannot say what)"
    return writable(f"{type(problem).__name__}: {text}")


def writable(text: str) -> str:
    """Text that UTF-8 can hold: names of files may bring single surrogates."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def is_name(name: Any) -> bool:
    """Whether the data set and its file can have a variable of this name."""
    return isinstance(name, str) and name not in ("", ".", *RESERVED) and "/" not in name and name.isprintable()


def numbers(metrics: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, float]:
    """Return metrics as floats, or raise a ``ValueError`` that says which one is none."""
    if not isinstance(metrics, Mapping):
        raise ValueError(f"metrics must be a mapping of names to numbers, got {type(metrics).__name__}")
    for name in metrics:
        if not is_name(name) or name in settings:
            others = ", ".join((*RESERVED, *settings))
            raise ValueError(f"a metric must have a name other than {others}, without / and printable, got {name!r}")
    try:
        return {name: float(value) for name, value in metrics.items()}
    except (TypeError, ValueError):
        raise ValueError(f"metrics must be numbers, got {dict(metrics)!r}") from None


@functools.cache
def libraries() -> str:
    """Names and versions of what computes here; results are the same bit for bit only where these are."""
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
