"""The points of a sweep, computed one by one here or many at once on a cluster, whatever dies meanwhile."""

import queue
from collections import deque
from collections.abc import Generator, Iterable
from typing import Any

from dfa.sweeps.cluster.links import Link, connected, outside_address
from dfa.sweeps.memory import in_memory
from dfa.sweeps.protocol import Code, Outcome, Study, compute, compute_pickled, one_thread
from dfa.sweeps.store import Job
from dfa.sweeps.versions import project_version

__all__ = ["outcomes"]

Result = tuple[Job, Outcome]
LOOK_S = 0.5
"""How often to look whether the scheduler is alive while nothing comes."""
GATHER_S = 2.0
"""How long to wait for a result that is said to be there."""
DEATHS = 3
"""Local clusters in a row that may die without having finished a point."""
KILLED = "WorkerDied: the process that computed this point died each time (killed, crashed or out of memory)"


class SchedulerGone(Exception):
    """The connection to the scheduler is lost; points on their way are back among those to do."""


def outcomes(
    study: Study, jobs: Iterable[Job], workers: int, modules: Iterable[str] = ()
) -> Generator[Result, None, None]:
    """What becomes of each job, in the order in which they finish.

    Parameters
    ----------
    study : Study
        What to run.
    jobs : iterable of Job
        Points to compute.
    workers : int
        Processes of a local cluster; 0 computes in this process.
    modules : iterable of str
        What the study's code is in; a worker of another's cluster must have the same.

    Raises
    ------
    ValueError
        If the study cannot be sent to another process.
    ConnectionError
        If a cluster that the user has named is gone, or local ones die again and again.
    """
    if workers == 0:
        yield from here(study, jobs, modules)
        return
    pickled, waiting, deaths = pickled_study(study), Waiting(jobs), 0
    while waiting:
        try:
            with connected(workers) as link:
                for result in on_cluster(pickled, waiting, link, modules):
                    deaths = 0
                    yield result
        except (SchedulerGone, ConnectionError) as problem:  # or it died before it was there
            deaths += 1
            address = outside_address()
            if address and isinstance(problem, ConnectionError):
                raise
            if address or deaths == DEATHS:
                what = f"the dask scheduler at {address} is gone" if address else f"{DEATHS} local clusters died"
                raise ConnectionError(
                    f"{what} with {len(waiting)} points to do; with a store, the same sweep goes on where it stopped"
                ) from None


def here(study: Study, jobs: Iterable[Job], modules: Iterable[str]) -> Generator[Result, None, None]:
    """Compute in this process, on one thread as a worker does, so that results are the same."""
    try:
        for job in jobs:
            with one_thread():
                outcome = compute(study, job.settings, job.seed)
            yield job, outcome
    finally:
        in_memory(modules)  # some may be loaded only now


def pickled_study(study: Study) -> bytes:
    """A study for other processes; one that is defined in a notebook takes its code with it."""
    from distributed.protocol.pickle import dumps

    try:
        return dumps(study)
    except Exception as error:  # pickle and cloudpickle raise many
        raise ValueError(
            f"study must be one that pickle can send to other processes (or workers=0), got a {type(study).__name__} "
            f"({' '.join(str(error).split())})"
        ) from None


class Waiting:
    """Jobs to do, then those that were on a worker when it died, which are done once more and alone."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self.jobs, self.blamed = deque(jobs), deque()

    def __len__(self) -> int:
        return len(self.jobs) + len(self.blamed)

    def take(self, flying: int, width: int) -> tuple[Job, bool] | None:
        """Return the next job and whether it is alone, or None if as many as wanted are flying."""
        if self.jobs:
            return (self.jobs.popleft(), False) if flying < width else None
        return (self.blamed.popleft(), True) if self.blamed and not flying else None

    def put_back(self, job: Job, alone: bool) -> None:
        """Take a job again that was not finished, through no fault of its own."""
        (self.blamed if alone else self.jobs).appendleft(job)


def on_cluster(pickled: bytes, waiting: Waiting, link: Link, modules: Iterable[str]) -> Generator[Result, None, None]:
    """Compute on a cluster; a bounded number of points is on its way at any time."""
    from distributed import CancelledError, KilledWorker

    code = None if link.process else Code(project_version(), in_memory({*modules} - {"__main__"}))
    flying: dict[str, tuple[Any, Job, bool]] = {}
    finished: queue.SimpleQueue[str] = queue.SimpleQueue()
    try:
        while waiting or flying:
            while link.running and (following := waiting.take(len(flying), link.width)) is not None:
                job, alone = following
                # A new key each time (pure=False): the scheduler remembers a task that killed its workers.
                given = (pickled, job.settings, job.seed, code)
                future = link.client.submit(compute_pickled, *given, pure=False, retries=0)
                flying[future.key] = (future, job, alone)
                future.add_done_callback(lambda done: finished.put(done.key))
            try:
                key = finished.get(timeout=LOOK_S)
            except queue.Empty:
                if not link.alive:
                    raise SchedulerGone from None
                continue
            future, job, alone = flying[key]
            try:
                outcome = future.result(timeout=GATHER_S)
            except (CancelledError, TimeoutError):
                if link.running and future.status == "finished":
                    finished.put(key)  # a busy worker: ask again
                else:  # the scheduler died, or a worker with the result: a new task, since this one may stay lost
                    del flying[key]
                    waiting.put_back(job, alone)
            except KilledWorker:
                del flying[key]
                if alone:
                    yield job, Outcome(metrics={}, error=KILLED)
                else:
                    waiting.blamed.append(job)
            else:
                del flying[key]
                yield job, outcome
    except Exception as problem:
        if link.alive:
            raise
        raise SchedulerGone from problem  # whatever the client said first
    finally:
        for _, job, alone in flying.values():
            waiting.put_back(job, alone)
