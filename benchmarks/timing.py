"""Time of calls."""

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["cpu_seconds", "timed"]

Result = TypeVar("Result")


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


def timed(call: Callable[[], Result]) -> tuple[Result, tuple[float, float]]:
    """Result of a call, and its wall and processor time, seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, (time.perf_counter() - wall, time.process_time() - cpu)
