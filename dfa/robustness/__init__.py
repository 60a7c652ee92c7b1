"""Sweeps over the parameters of a device, its calibration or a training.

A `Study` is one point; a design (`Grid`, `Random` ...) lists the points; `dfa.sweep` computes them, on this machine or
on a cluster, and returns an ``xarray.Dataset``.
"""

from dfa.robustness.training_study import TrainingStudy
from dfa.sweeps import Design, Grid, LatinHypercube, OneAtATime, Paired, Random, Range, Study, sweep

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
