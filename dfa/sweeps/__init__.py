"""Sweeps: which points there are, how they are computed, and where their results are kept.

Imports nothing else of `dfa`, so that a worker of a sweep of the device alone does not load torch.
"""

from dfa.sweeps.designs import Design, Grid, LatinHypercube, OneAtATime, Paired, Random, Range
from dfa.sweeps.protocol import Study
from dfa.sweeps.sweeping import sweep

__all__ = ["Design", "Grid", "LatinHypercube", "OneAtATime", "Paired", "Random", "Range", "Study", "sweep"]
