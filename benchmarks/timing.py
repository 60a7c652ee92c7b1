"""How long a call takes."""

import time
from collections.abc import Callable
from typing import Any

__all__ = ["cpu_seconds", "seconds"]


def measured(clock: Callable[[], float], call: Callable[[], Any], repeats: int) -> float:
    """Smallest reading of `clock` over several calls, after one that is not counted (compilation, caches)."""
    call()
    best = float("inf")
    for _ in range(repeats):
        start = clock()
        call()
        best = min(best, clock() - start)
    return best


def seconds(call: Callable[[], Any], repeats: int = 5) -> float:
    """Wall time of a call."""
    return measured(time.perf_counter, call, repeats)


def cpu_seconds(call: Callable[[], Any], repeats: int = 5) -> float:
    """Processor time of a call, over all threads."""
    return measured(time.process_time, call, repeats)
