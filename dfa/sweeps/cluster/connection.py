"""The connection of a sweep to a dask cluster: one on this machine, or the one that DASK_SCHEDULER_ADDRESS names."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dfa.sweeps.cluster.worker import ONE_THREAD

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

__all__ = ["connect", "outside_address", "scheduler_error"]

START_S = 60.0
"""Time within which a cluster must have a worker."""
MAX_STARTS = 3
"""Attempts to start a local cluster. An attempt fails if a worker is killed."""
SETTINGS = {
    # A point that kills its worker is returned at once; it is tried once more, alone.
    "distributed.scheduler.allowed-failures": 0,
    # Points stay where they were sent: each thread has at most one.
    "distributed.scheduler.work-stealing": False,
    # A study may block the interpreter for a long time; this does not mean that its worker is dead.
    "distributed.scheduler.worker-ttl": None,
    # On a busy machine, processes may take minutes to connect. A dead process closes its socket at once.
    "distributed.comm.timeouts.connect": "300s",
    "distributed.comm.timeouts.tcp": "300s",
    # A worker over its memory limit is restarted. A paused worker would stop the sweep.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    # Logs grow with the number of points.
    "distributed.admin.low-level-log-length": 0,
    "distributed.admin.system-monitor.log-length": 60,
    "distributed.worker.profile.enabled": False,
    # The variables of this process stay as they are; workers get ONE_THREAD.
    "distributed.nanny.pre-spawn-environ": {},
}


def outside_address() -> str | None:
    """Return the address of the scheduler that the user named in the environment or in dask's configuration."""
    from dask import config  # pyright: ignore[reportPrivateImportUsage]

    return os.environ.get("DASK_SCHEDULER_ADDRESS") or config.get("scheduler-address", None)


@contextmanager
def connect(workers: int) -> "Iterator[Client]":
    """Connect to the user's cluster, or to one of `workers` processes on this machine that ends with the context.

    Raises
    ------
    ConnectionError
        If the cluster cannot be reached or has no workers.
    """
    from dask import config  # pyright: ignore[reportPrivateImportUsage]
    from distributed import Client

    address = outside_address()
    with quiet_logs():
        if address:
            with client_of(address) as client:
                yield client
            return
        with (
            config.set(SETTINGS),
            hide_main(),
            start_cluster(workers) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield client


@contextmanager
def client_of(address: str) -> "Iterator[Client]":
    """Connect to a scheduler; points in flight are cancelled at the end."""
    from distributed import Client
    from distributed.comm.addressing import get_address_host_port

    try:
        get_address_host_port(address)  # with a malformed address, a client would never return
        client = Client(address, timeout=START_S / 2, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConnectionError(f"no dask scheduler answers at {address} ({error})") from None
    try:
        try:
            client.wait_for_workers(1, timeout=START_S)
        except TimeoutError:
            raise ConnectionError(f"the dask scheduler at {address} has no workers") from None
        except OSError:
            raise scheduler_error() from None
        yield client
    finally:
        client.close(timeout=5)


def scheduler_error() -> ConnectionError:
    """Return the error for a scheduler that no longer answers."""
    place = outside_address() or "of this machine"
    return ConnectionError(
        f"the dask scheduler {place} is lost; if the sweep has a store, run it again to continue where it stopped"
    )


def start_cluster(workers: int) -> "LocalCluster":
    """Start processes of one thread on this machine; connections are encrypted with a key for this cluster only."""
    from distributed import LocalCluster

    cause = None
    for _ in range(MAX_STARTS):
        try:
            return LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                preload="dfa.sweeps.cluster.worker",
                security=True,
                # The scheduler has an HTTP server even without a dashboard. Port 0 is any port that is free.
                scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
                env=ONE_THREAD | {"NUMBA_NUM_THREADS": "1"},
                silence_logs=logging.CRITICAL + 1,
            )
        except RuntimeError as error:  # a worker was killed, or there is no memory for it
            cause = error.__cause__ or error
    raise ConnectionError(f"the local cluster did not start ({cause})")


@contextmanager
def hide_main() -> Iterator[None]:
    """Keep multiprocessing from running the user's script again in each worker.

    It finds the script by two attributes of ``__main__``. Without them, a script needs no ``if __name__ ==
    "__main__"``; the study has been pickled before, with its code if it comes from the script.
    """
    main = vars(sys.modules["__main__"])
    kept = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main.pop("__file__", None)
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(kept)


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Silence dask's logs: this module reports what happened in one line."""
    import distributed  # noqa: F401 (sets the levels of its loggers, which change here)

    names = ("distributed", "distributed.client", "distributed.core", "distributed.comm", "asyncio")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
