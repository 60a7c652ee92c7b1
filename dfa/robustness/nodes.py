"""A local cluster in a process of its own: ``python -m dfa.robustness.nodes WORKERS FOLDER``.

A scheduler and workers apart from the parent need no ``if __name__ == "__main__"`` in a user's script, and the
scheduler may die without the parent. The parent holds the other end of standard input: whatever ends the parent closes
it, and the cluster ends, too.
"""

import logging
import os
import shutil
import signal
import sys
from contextlib import suppress

__all__ = ["main"]

SETTINGS = {
    # A point that kills its worker is tried twice; the sweep tries it once more, alone.
    "distributed.scheduler.allowed-failures": 1,
    # A study may hold the interpreter for long without being lost.
    "distributed.scheduler.worker-ttl": None,
    # Too much memory ends a worker; pausing it would end the sweep.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    # Memory stays flat over thousands of points.
    "distributed.admin.low-level-log-length": 0,
    "distributed.admin.system-monitor.log-length": 60,
    "distributed.worker.profile.enabled": False,
}


def main(workers: int, folder: str) -> None:
    """Start the cluster, write its address to standard output, and keep it until standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to deal with, who closes the input then
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a study prints is no part of the answer
    from dask import config  # pyright: ignore[reportPrivateImportUsage]
    from distributed import LocalCluster

    config.set(SETTINGS)
    cluster = LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=None,  # pyright: ignore[reportArgumentType] (dask's own way to say none)
        local_directory=folder,
        silence_logs=logging.CRITICAL + 1,
    )
    with suppress(BrokenPipeError), answer:  # the parent may be gone already
        answer.write(cluster.scheduler_address + "\n")
    while os.read(0, 1):  # nothing is ever written: this waits for the end of the parent
        continue
    # Workers end when this process does, in the middle of a point as well; closing in good order would wait for them.
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
