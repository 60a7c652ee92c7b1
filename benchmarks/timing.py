"""Processor time of calls."""

import time
from collections.abc import Callable

__all__ = ["cpu_seconds"]


def cpu_seconds(*calls: Callable[[], object], repeats: int = 5) -> list[float]:
    """Smallest processor time of each call.

    It is processor time, because wall time would include other work of the machine. The calls take turns, so that a
    slow phase of the machine affects all of them. Each is called once before, to compile and to fill caches.
    """
    for call in calls:
        call()
    best = [float("inf")] * len(calls)
    for _ in range(repeats):
        for i, call in enumerate(calls):
            start = time.process_time()
            call()
            best[i] = min(best[i], time.process_time() - start)
    return best
