"""Computation of the points of a sweep: in this process, or on a cluster whose workers may be lost."""

import time
import warnings
from collections import Counter, deque
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dfa.sweeps.cluster.connection import connect, scheduler_error
from dfa.sweeps.cluster.worker import BATCH_S, compute_here, compute_in_worker, describe_exception, libraries
from dfa.sweeps.keys import Code
from dfa.sweeps.protocol import Outcome, Study
from dfa.sweeps.store import Job

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["outcomes"]

Results = Generator[tuple[Job, Outcome], None, None]
POLL_S = 0.02
"""Interval between checks whether a point has ended."""
REFRESH_S = 1.0
"""Interval between checks of the number of workers."""
MAX_BATCH = 64
"""Largest number of jobs of a task."""
OVERDUE_S = 10.0
"""Time in flight after which the jobs of a task are computed by other workers, too."""
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
        If the scheduler that the user named cannot be reached, or a worker has other code or libraries.
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
    """Compute jobs on a cluster, one task in flight for each thread.

    A task has one job, or several short ones. A worker gets its next task when the outcomes of the last one are here,
    so that its death costs no job of another task. The jobs of a task whose worker died are added to `suspects`: one of
    them may have killed the worker. So are all jobs in flight if the user's cluster has lost all its workers, since the
    scheduler does not give them to workers that come later.
    """
    from distributed import Future, as_completed

    left = {job.key: job for job in jobs}  # without an outcome yet
    waiting, flying, places = Waiting(left.values()), dict[Future, Task](), Places(client)
    ended = as_completed(loop=client.loop)

    def suspect(tasks: Iterable[Task]) -> None:
        suspects.extend(left.pop(job.key) for task in tasks for job in task.jobs if job.key in left)

    while left:
        while (free := places.find_free(task.place for task in flying.values())) and (batch := waiting.take(left)):
            # pure=False gives each task a new key: the scheduler remembers a task that killed its workers.
            # Another worker may take the points if this one is lost meanwhile.
            future = client.submit(
                compute_in_worker, pickled, [(job.settings, job.seed) for job in batch], code, libraries(), pure=False,
                workers=free, allow_other_workers=True,
            )  # fmt: skip
            flying[future] = Task(batch, free)
            ended.add(future)
        if not ended.has_ready():
            places.refresh()
            if places.lost:
                suspect(flying.values())
                client.cancel(list(flying))
                flying.clear()
            waiting.repeat_overdue(flying.values())
            time.sleep(POLL_S)
            continue
        for future in ended.next_batch():
            if (task := flying.pop(future, None)) is None:  # cancelled here
                continue
            if (found := outcomes_of(future)) is None:
                suspect([task])
                places.due_s = 0.0  # there is a worker less
                continue
            future.release()  # a result that is stored must not be computed again if its worker dies now
            waiting.learn(task, found)
            for job, outcome in zip(task.jobs, found, strict=False):
                if left.pop(job.key, None):
                    yield job, outcome


def outcomes_of(future: "Future[list[Outcome]]") -> list[Outcome] | None:
    """Return the outcomes of the jobs of a task that a worker has computed; None if the worker died.

    Raises
    ------
    ConnectionError
        If the scheduler is lost, or the worker has other code or libraries.
    ValueError
        If the worker cannot load the study.
    """
    from distributed import CancelledError, KilledWorker

    try:
        return future.result()
    except KilledWorker:
        return None
    except (CancelledError, OSError, TimeoutError):
        if future.status == "error":  # raised in the worker
            raise
        raise scheduler_error() from None
    except ValueError:
        raise
    except Exception as error:  # of a worker that does not have this function, or has another one
        raise ConnectionError(
            f"a worker must have the same code of opu-sim as this process ({describe_exception(error)}): install the "
            "same files and restart both"
        ) from None


@dataclass
class Task:
    """Jobs that a worker computes one after another."""

    jobs: list[Job]
    place: str
    since_s: float = field(default_factory=time.monotonic)
    repeated: bool = False
    """Whether its jobs wait again, because one of them takes long."""


class Waiting:
    """Jobs that wait. Short ones share a task, since a task costs some 10 ms of processor time."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self.jobs, self.size = deque(jobs), 1

    def take(self, left: Mapping[str, Job]) -> list[Job]:
        """Remove and return the jobs of the next task; those not in `left` have ended."""
        batch: list[Job] = []
        while self.jobs and len(batch) < self.size:
            job = self.jobs.popleft()
            if job.key in left:
                batch.append(job)
        return batch

    def learn(self, task: Task, found: list[Outcome]) -> None:
        """Put back the jobs that a worker did not begin, and choose the size of the next tasks."""
        count = len(found)
        short = count == len(task.jobs) and sum(outcome.seconds for outcome in found) < BATCH_S / 2
        self.size = min(2 * count, MAX_BATCH) if short else count
        if not task.repeated:
            self.jobs.extendleft(reversed(task.jobs[count:]))

    def repeat_overdue(self, tasks: Iterable[Task]) -> None:
        """Let the jobs of a task with a long one wait again, for tasks of their own: the first outcome counts."""
        for task in tasks:
            if len(task.jobs) > 1 and not task.repeated and time.monotonic() > task.since_s + OVERDUE_S:
                task.repeated, self.size = True, 1
                self.jobs.extendleft(reversed(task.jobs))


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
