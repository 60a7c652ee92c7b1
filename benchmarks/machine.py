"""The machine and the software of a run."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import TypedDict

import numpy  # noqa: F401 (loads its BLAS, so that it can be named)
import psutil
from threadpoolctl import threadpool_info

__all__ = ["machine", "versions"]

PACKAGES = (
    "opu-sim",
    "numpy",
    "scipy",
    "numba",
    "torch",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "lightonml",
    "scikit-learn",
    "deepinv",
)


class Machine(TypedDict):
    """Description of a machine."""

    system: str
    architecture: str
    processor: str
    cores: int | None
    memory_gb: float
    blas: list[str]
    load: float
    """Load average of the last minute."""


def machine() -> Machine:
    """Processor, memory, BLAS, and load of the machine."""
    blas = [info for info in threadpool_info() if info["user_api"] == "blas"]
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "blas": [f"{b['internal_api']} {b['version']} {b.get('architecture', '')}".strip() for b in blas],
        "load": round(psutil.getloadavg()[0], 2),
    }


def processor() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that matter."""
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
