"""A local cluster in a process of its own: ``python -m dfa.sweeps.cluster.nodes WORKERS FOLDER``.

A scheduler and workers apart from the parent need no ``if __name__ == "__main__"`` in a user's script, and the
scheduler may die without the parent. The parent holds the other end of standard input: whatever ends the parent closes
it, and the cluster ends, too.
"""

import logging
import os
import shutil
import signal
import sys
import threading
from contextlib import suppress

__all__ = ["main"]

SETTINGS = {
    # A point that kills its worker is tried twice; the sweep tries it once more, alone.
    "distributed.scheduler.allowed-failures": 1,
    # A study may hold the interpreter for long without being lost.
    "distributed.scheduler.worker-ttl": None,
    # On a machine with other work, processes of one machine may take minutes to meet; a dead one closes its socket.
    "distributed.comm.timeouts.connect": "300s",
    "distributed.comm.timeouts.tcp": "300s",
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
    # Before the imports, which take seconds on a busy machine: the parent may end meanwhile.
    watch = threading.Thread(target=end_with_parent, args=(folder,), daemon=True)
    watch.start()
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a study prints is no part of the answer
    from dask import config  # pyright: ignore[reportPrivateImportUsage]
    from distributed import LocalCluster
    from distributed.scheduler import DEFAULT_EXTENSIONS
    from distributed.spans import SpansSchedulerExtension

    class Spans(SpansSchedulerExtension):
        """Without the note that dask keeps of every submission for its dashboard: memory stays flat."""

        def observe_tasks(self, tss, code, span_metadata):
            return super().observe_tasks(tss, code, {})

    config.set(SETTINGS)
    try:
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            # No dashboard; the server that stays takes a free port of this machine, so that sweeps do not meet.
            scheduler_kwargs={
                "dashboard": False,
                "dashboard_address": "127.0.0.1:0",
                "extensions": DEFAULT_EXTENSIONS | {"spans": Spans},
            },
            local_directory=folder,
            silence_logs=logging.CRITICAL + 1,
        )
    except RuntimeError as error:  # a worker that died on its way, killed or out of memory; the parent starts another
        sys.stderr.write(f"the local cluster did not start: {error.__cause__ or error}\n")
        os._exit(1)
    with suppress(BrokenPipeError), answer:  # the parent may be gone already
        answer.write(cluster.scheduler_address + "\n")
    watch.join()


def end_with_parent(folder: str) -> None:
    """End this process and so its workers, in the middle of a point as well, once standard input closes."""
    while os.read(0, 1):  # nothing is ever written
        continue
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
