"""The connection of a sweep to a dask cluster: one of this machine, or the one that DASK_SCHEDULER_ADDRESS names."""

import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

__all__ = ["Link", "connected", "outside_address"]

THREADS = ("NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
AHEAD = 2
"""Points on their way for each thread of the cluster: the next one is there when one is done."""
REFRESH_S = 5.0
"""How often an outside cluster is asked for its size, which may change."""
START_S = 60.0
"""How long a cluster may take to have a worker."""


@dataclass
class Link:
    """A client, and the process of the cluster if it is this sweep's own."""

    client: Any
    process: "subprocess.Popen[str] | None" = None
    asked_s: float = 0.0
    threads: int = 1

    @property
    def alive(self) -> bool:
        """Whether the scheduler is there, or the client still tries to reach it again."""
        ended = self.process is not None and self.process.poll() is not None
        return not ended and self.client.status in ("running", "connecting")

    @property
    def running(self) -> bool:
        """Whether the scheduler can be talked to now."""
        return self.alive and self.client.status == "running"

    @property
    def width(self) -> int:
        """How many points to have on their way."""
        if time.monotonic() - self.asked_s > REFRESH_S:
            with suppress(OSError, TimeoutError):  # the scheduler has just died, which the next look at `alive` tells
                threads = sum(self.client.nthreads().values())
                if not threads and self.threads and self.process is None:
                    warnings.warn("the cluster has lost all its workers: waiting for workers", stacklevel=2)
                self.threads = threads
            self.asked_s = time.monotonic()
        return AHEAD * max(1, self.threads)


def outside_address() -> str | None:
    """Address of the scheduler that the user has named, in the environment or in dask's configuration."""
    from dask import config  # pyright: ignore[reportPrivateImportUsage]

    return os.environ.get("DASK_SCHEDULER_ADDRESS") or config.get("scheduler-address", None)


@contextmanager
def connected(workers: int) -> Iterator[Link]:
    """Connect to the user's cluster, or to one of `workers` processes on this machine that ends with the context.

    Raises
    ------
    ConnectionError
        If the cluster cannot be reached or has no workers.
    """
    import distributed  # noqa: F401 (sets the levels of its loggers, which `quiet` changes)

    address = outside_address()
    with quiet():
        if address:
            with client_of(address) as client:
                yield Link(client)
        else:
            with own_cluster(workers) as (process, address), client_of(address) as client:
                yield Link(client, process)


@contextmanager
def client_of(address: str) -> Iterator[Any]:
    """Connect to a scheduler; what is on its way is cancelled at the end."""
    from distributed import Client

    try:
        client = Client(address, timeout=START_S / 2, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConnectionError(f"no dask scheduler answers at {address} ({error})") from None
    try:
        try:
            client.wait_for_workers(1, timeout=START_S)
        except TimeoutError:
            raise ConnectionError(f"the dask scheduler at {address} has no workers") from None
        yield client
    finally:
        client.close(timeout=5)


@contextmanager
def own_cluster(workers: int) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Start a scheduler and workers of one thread each in processes of their own, and end them."""
    # Workers find what the parent finds, a module beside the user's notebook as well.
    paths = [path or os.getcwd() for path in sys.path]
    environment = os.environ | dict.fromkeys(THREADS, "1") | {"PYTHONPATH": os.pathsep.join(paths)}
    # The cluster ends at once, and Python's tracker of resources would tell that it cleans up after it.
    ignored = [os.environ.get("PYTHONWARNINGS", ""), "ignore:resource_tracker"]
    environment["PYTHONWARNINGS"] = ",".join(filter(None, ignored))
    with tempfile.TemporaryDirectory(prefix="opu-sweep-", ignore_cleanup_errors=True) as folder:
        command = [sys.executable, "-P", "-m", "dfa.sweeps.cluster.nodes", str(workers), folder]
        process = subprocess.Popen(
            command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert process.stdin and process.stdout
        try:
            address = process.stdout.readline().strip()
            if not address:
                raise ConnectionError("the local cluster did not start; its own message is above")
            yield process, address
        finally:
            process.stdin.close()
            process.stdout.close()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the client from telling in its own words what this module tells in one line."""
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
