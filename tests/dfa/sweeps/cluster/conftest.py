"""One cluster that the command line of dask has started, for all tests of this folder."""

import dask.config  # noqa: F401  (reads DASK_SCHEDULER_ADDRESS when it is imported: before a test sets it)
import pytest

from benchmarks.sweeps import outside_cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """Address of the cluster, and a folder in which its worker finds modules."""
    folder = tmp_path_factory.mktemp("cluster")
    with outside_cluster(folder) as (_, address):
        yield address, folder
