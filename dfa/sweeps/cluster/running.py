"""Computation of the points of a sweep: in this process, or on a cluster whose workers may be lost."""

import time
import warnings
from collections import Counter, deque
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING

from dfa.sweeps.cluster.connection import connect, scheduler_error
from dfa.sweeps.cluster.worker import compute_here, compute_in_worker
from dfa.sweeps.keys import Code
from dfa.sweeps.protocol import Outcome, Study
from dfa.sweeps.store import Job

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["outcomes"]

Results = Generator[tuple[Job, Outcome], None, None]
POLL_S = 0.02
"""Interval between checks whether a point has ended."""
REFRESH_S = 1.0
"""Interval between checks of the number of workers."""
WORKER_DIED = "WorkerDied: the process that computed this point died both times (killed, crashed or out of memory)"


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
                yield from ((killer, Outcome(metrics={}, error=WORKER_DIED)) for killer in killers)


def pickle_study(study: Study) -> bytes:
    """Pickle a study for other processes, with its code if it is defined in a notebook or script."""
    from distributed.protocol.pickle import dumps

    try:
        return dumps(study)
    except Exception as error:  # pickle and cloudpickle raise errors of many types
        raise ValueError(
            f"study must be picklable for other processes, got a {type(study).__name__} "
            f"({' '.join(str(error).split())}): correct it or set workers=0"
        ) from None


def compute_on(client: "Client", pickled: bytes, jobs: Iterable[Job], code: Code, suspects: list[Job]) -> Results:
    """Compute jobs on a cluster, one in flight for each thread.

    A worker gets its next job when the result of the last one is here, so that its death costs no finished job. A job
    whose worker died is added to `suspects`: it may have killed the worker. So are all jobs in flight if the user's
    cluster has lost all its workers, since the scheduler does not give them to workers that come later.
    """
    from distributed import CancelledError, Future, KilledWorker, as_completed

    waiting, flying, places = deque(jobs), dict[Future, tuple[Job, str]](), Places(client)
    ended = as_completed(loop=client.loop)
    while waiting or flying:
        while waiting and (free := places.find_free(place for _, place in flying.values())):
            job = waiting.popleft()
            # pure=False gives each task a new key: the scheduler remembers a task that killed its workers.
            # Another worker may take the point if this one is lost meanwhile.
            future = client.submit(
                compute_in_worker, pickled, job.settings, job.seed, code, pure=False, workers=free,
                allow_other_workers=True,
            )  # fmt: skip
            flying[future] = (job, free)
            ended.add(future)
        if not ended.has_ready():
            places.refresh()
            if places.lost:
                suspects += [job for job, _ in flying.values()]
                client.cancel(list(flying))
                flying.clear()
            time.sleep(POLL_S)
            continue
        for future in ended.next_batch():
            if future not in flying:  # cancelled here
                continue
            job, _ = flying.pop(future)
            try:
                outcome = future.result()
            except KilledWorker:
                suspects.append(job)
                places.due_s = 0.0  # there is a worker less
                continue
            except (CancelledError, OSError, TimeoutError):
                if future.status == "error":  # raised in the worker
                    raise
                raise scheduler_error() from None
            future.release()  # a result that is stored must not be computed again if its worker dies now
            yield job, outcome


class Places:
    """Threads of a cluster whose size may change; each of them takes one point at a time."""

    def __init__(self, client: "Client") -> None:
        self.client, self.threads, self.due_s = client, dict[str, int](), 0.0

    @property
    def lost(self) -> bool:
        """Whether the user's cluster has no worker at the moment. A local cluster restarts its own."""
        return self.client.cluster is None and not self.threads

    def find_free(self, taken: Iterable[str]) -> str | None:
        """Return the address of a worker with a free thread, or None; `taken` has one for each point in flight."""
        self.refresh()
        count = Counter(taken)
        return next((worker for worker, threads in self.threads.items() if count[worker] < threads), None)

    def refresh(self) -> None:
        """Look up the workers if that is due; warn if the user's cluster has lost all of them.

        A local cluster restarts a lost worker, which may take a while on a busy machine. It gives up a worker that is
        lost while it starts, or that does not come back in time: such a worker is replaced.
        """
        if time.monotonic() < self.due_s:
            return
        try:
            found = self.client.nthreads()
        except (OSError, TimeoutError):
            raise scheduler_error() from None
        threads = dict(found) if isinstance(found, dict) else {}
        cluster = self.client.cluster
        if cluster is not None and len(cluster.workers) < (wanted := len(cluster.worker_spec)):
            cluster.scale(wanted)
        if not threads and self.threads and cluster is None:
            warnings.warn("the cluster has lost all its workers: waiting for workers", stacklevel=2)
        self.threads, self.due_s = threads, time.monotonic() + REFRESH_S
