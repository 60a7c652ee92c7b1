"""The likelihood fit on exact intensities."""

import numpy as np

from calibration.recovery.likelihood import Pixels, refine
from calibration.recovery.phase_retrieval import PhaseRetrieval
from tests.calibration.blind import gaussian, intensities

N, ROWS = 64, 100


def test_saturated_readings_are_lower_bounds():
    """Exact fields do not change although 5 % of the readings are cut off.

    Catches: a saturated reading taken at face value, which makes the brightest fields 10 % too small.
    """
    plan, matrix = PhaseRetrieval(n_in=N, n_inputs=N, frames_per_input=14), gaussian(ROWS, N)
    signal = intensities(matrix, plan.design.patterns(0, plan.frames)).astype(np.float32)
    ceiling = float(np.quantile(signal, 0.95))
    pixels = Pixels(np.minimum(signal, ceiling), 1e-6, 1e-6, ceiling)
    unknowns = np.concatenate([matrix.T, matrix.sum(axis=1)[None]]).astype(np.complex64) / 2
    moved = refine(plan.design, pixels, unknowns).unknowns - unknowns
    assert np.abs(moved).max() < 1e-3
