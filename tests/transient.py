"""A call with a known peak of memory, in a module that loads quickly in a new process."""

import numpy as np

from benchmarks.memory import peak_mb


def transient(megabytes):
    """Peak of an array that is freed at the end of the call."""
    return {"peak_mb": peak_mb(lambda: np.ones(megabytes * 10**6, np.uint8).sum())}
