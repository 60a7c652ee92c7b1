"""Peak memory of a call."""

import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

__all__ = ["peak_mb"]


def peak_mb(call: Callable[[], object]) -> float:
    """Peak memory of the process during a call, less that before the call, MB (1e6 bytes).

    Call it in a fresh process (`benchmarks.child`). On Linux the peak is VmHWM: ``ru_maxrss`` would include the peak of
    the parent process.
    """
    with suppress(OSError):  # resets the peak; without it, the result can only be too high
        Path("/proc/self/clear_refs").write_text("5")
    before = read_memory("VmRSS:")
    result = call()
    peak = read_memory("VmHWM:")
    del result
    return (peak - before) / 1e6


def read_memory(name: str) -> float:
    """Memory by its name in Linux's /proc, bytes; on other systems the peak."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(1024.0 * int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1.0 if sys.platform == "darwin" else 1024.0)
