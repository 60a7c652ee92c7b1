"""A stand-in for `dask_jobqueue.SLURMCluster`, with what docs/howto/cluster.md uses of it: one worker here."""

import os
from contextlib import contextmanager
from types import SimpleNamespace

from distributed import LocalCluster


@contextmanager
def SLURMCluster(*, cores, processes, **_):
    """Start a scheduler and a worker in this process; at the end, the environment is as before."""
    assert cores == processes
    kwargs = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}  # any port that is free
    cluster = LocalCluster(1, threads_per_worker=1, processes=False, protocol="tcp", scheduler_kwargs=kwargs)
    with cluster:

        def adapt(minimum_jobs, maximum_jobs):
            assert 1 <= minimum_jobs <= maximum_jobs

        yield SimpleNamespace(adapt=adapt, scheduler_address=cluster.scheduler_address)
    os.environ.pop("DASK_SCHEDULER_ADDRESS")
