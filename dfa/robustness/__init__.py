"""Sweeps of the parameters of a device, its calibration or a training.

A :class:`Study` says what one point is; a design (:class:`Grid`, :class:`Random` ...) says which points there are;
:func:`dfa.sweep` computes them, on this machine or on a cluster, and returns an ``xarray.Dataset``.

Names are imported on first use: the scheduler of a local cluster needs none of them, a worker only some.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dfa.robustness.designs import Design, Grid, LatinHypercube, OneAtATime, Paired, Random, Range
    from dfa.robustness.protocol import Study
    from dfa.robustness.sweeping import sweep
    from dfa.robustness.trained import TrainingStudy

__all__ = [
    "Design",
    "Grid",
    "LatinHypercube",
    "OneAtATime",
    "Paired",
    "Random",
    "Range",
    "Study",
    "TrainingStudy",
    "sweep",
]

HOMES = {"Study": "protocol", "TrainingStudy": "trained", "sweep": "sweeping"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'dfa.robustness' has no attribute {name!r}")
    return getattr(import_module(f"dfa.robustness.{HOMES.get(name, 'designs')}"), name)
