"""Peak memory of a call."""

import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["peak_mb"]


def peak_mb(call: Callable[[], Any]) -> float:
    """Most memory that the process held during the call, above what it held before, MB (1e6 bytes).

    Meant for a fresh process (`benchmarks.child`). On Linux the peak is VmHWM, which is ``ru_maxrss`` without what
    the kernel adds to the latter: a new process inherits its parent's peak.
    """
    with suppress(OSError):  # sets the peak back to what is held now; without it, the figure can only be too high
        Path("/proc/self/clear_refs").write_text("5")
    before = held("VmRSS:")
    result = call()
    peak = held("VmHWM:")
    del result
    return (peak - before) / 1e6


def held(name: str) -> float:
    """Memory in bytes by its name in Linux's /proc; elsewhere the peak, whatever the name."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(1024.0 * int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1.0 if sys.platform == "darwin" else 1024.0)
