"""Computation of the points of a sweep: in this process, or on a cluster whose workers may be lost."""

import time
import warnings
from collections import deque
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING

from dfa.sweeps.cluster.connection import connect, scheduler_lost
from dfa.sweeps.cluster.worker import compute_here, compute_in_worker
from dfa.sweeps.keys import Code
from dfa.sweeps.protocol import Outcome, Study
from dfa.sweeps.store import Job

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["outcomes"]

Results = Generator[tuple[Job, Outcome], None, None]
AHEAD = 2
"""Points in flight for each thread of the cluster, so that a worker need not wait for the next one."""
LOOK_S = 0.02
"""Time between two looks whether a point has ended."""
REFRESH_S = 5.0
"""Time between two looks at the number of workers."""
KILLED = "WorkerDied: the process that computed this point died each time (killed, crashed or out of memory)"


def outcomes(study: Study, jobs: Iterable[Job], workers: int, code: Code) -> Results:
    """Compute jobs, and yield their outcomes in the order in which they end.

    Parameters
    ----------
    study : Study
        What to run.
    jobs : iterable of Job
        Points to compute.
    workers : int
        Processes of a local cluster; 0 computes in this process.
    code : Code
        Code that a worker must have.

    Raises
    ------
    ValueError
        If the study cannot be sent to another process.
    ConnectionError
        If the scheduler that the user named cannot be reached, or a worker has other code.
    """
    jobs = list(jobs)
    if workers == 0:
        for job in jobs:
            yield job, compute_here(study, job.settings, job.seed)
    elif jobs:
        pickled = pickle_study(study)
        with connect(workers) as client:
            suspects: list[Job] = []
            yield from compute_on(client, pickled, jobs, code, suspects)
            for job in suspects:  # alone, to see which one kills its worker
                killers: list[Job] = []
                yield from compute_on(client, pickled, [job], code, killers)
                yield from ((killer, Outcome(metrics={}, error=KILLED)) for killer in killers)


def pickle_study(study: Study) -> bytes:
    """Pickle a study for other processes; one that is defined in a notebook or script takes its code with it."""
    from distributed.protocol.pickle import dumps

    try:
        return dumps(study)
    except Exception as error:  # pickle and cloudpickle raise many
        raise ValueError(
            f"study must be one that pickle can send to other processes (or workers=0), got a {type(study).__name__} "
            f"({' '.join(str(error).split())})"
        ) from None


def compute_on(client: "Client", pickled: bytes, jobs: Iterable[Job], code: Code, suspects: list[Job]) -> Results:
    """Compute jobs on a cluster with a bounded number of them in flight.

    Jobs whose worker died twice are added to `suspects`: one of the jobs that it had then may have killed it.
    """
    from distributed import CancelledError, Future, KilledWorker, as_completed

    waiting, flying = deque(jobs), dict[Future, Job]()
    ended, width = as_completed(loop=client.loop), Width(client)
    while waiting or flying:
        while waiting and len(flying) < width.now():
            job = waiting.popleft()
            # pure=False gives each task a new key: the scheduler remembers a task that killed its workers.
            future = client.submit(compute_in_worker, pickled, job.settings, job.seed, code, pure=False)
            flying[future] = job
            ended.add(future)
        if not ended.has_ready():
            width.now()
            time.sleep(LOOK_S)
            continue
        for future in ended.next_batch():
            job = flying.pop(future)
            try:
                outcome = future.result()
            except KilledWorker:
                suspects.append(job)
                continue
            except (CancelledError, OSError, TimeoutError):
                if future.status == "error":  # raised in the worker
                    raise
                raise scheduler_lost() from None
            future.release()  # a result that is stored must not be computed again if its worker dies now
            yield job, outcome


class Width:
    """Number of points to have in flight on a cluster whose size may change."""

    def __init__(self, client: "Client") -> None:
        self.client, self.threads, self.due_s = client, 1, 0.0

    def now(self) -> int:
        """Return the number, at least that for one thread; warn if all workers of the user's cluster are lost.

        A local cluster starts a lost worker again, which may take a while on a busy machine.
        """
        if time.monotonic() >= self.due_s:
            try:
                found = self.client.nthreads()
            except (OSError, TimeoutError):
                raise scheduler_lost() from None
            threads = sum(found.values()) if isinstance(found, dict) else 0
            if not threads and self.threads and self.client.cluster is None:
                warnings.warn("the cluster has lost all its workers: waiting for workers", stacklevel=2)
            self.threads, self.due_s = threads, time.monotonic() + REFRESH_S
        return AHEAD * max(1, self.threads)
