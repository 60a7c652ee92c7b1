"""Sweeps: designs, computation of the points on many processes, and storage of the results.

This package imports nothing else of `dfa`, so that a sweep of the device alone does not load torch.
"""

from dfa.sweeps.designs import Design, Grid, LatinHypercube, OneAtATime, Paired, Random, Range
from dfa.sweeps.protocol import Study
from dfa.sweeps.sweeping import sweep

__all__ = ["Design", "Grid", "LatinHypercube", "OneAtATime", "Paired", "Random", "Range", "Study", "sweep"]
