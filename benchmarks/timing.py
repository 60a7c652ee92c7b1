"""How long calls take."""

import time
from collections.abc import Callable
from typing import Any

__all__ = ["cpu_seconds"]


def cpu_seconds(*calls: Callable[[], Any], repeats: int = 5) -> list[float]:
    """Smallest processor time of each call.

    Processor time, because other work on the machine would count in wall time; on one core they are the same. The
    calls take turns, so that what slows the processor for a while slows them all, and each is called once before
    (compilation, caches).
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
