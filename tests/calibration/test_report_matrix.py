"""How a report judges a matrix behind a pupil, where neighbouring pixels share light and rows are not independent."""

import numpy as np
import pytest

from calibration.sections.common import noise_model
from calibration.sections.matrix import held_out, row_quality
from photonics import OPU, GaussianMedium, Imaging
from tests.calibration.benches import field_matrix


def pupil_bench(n_in, n_pixels, aperture, sensor=None, seed=1):
    """Wide grains, two field samples along a pixel's side."""
    imaging = Imaging(numerical_aperture=aperture, sensor=sensor)
    opu = OPU(medium=GaussianMedium(n_in, 4 * n_pixels, seed=seed), imaging=imaging)
    opu.autoexpose()
    return opu


@pytest.mark.parametrize("unknown", [0.0, 0.1])
@pytest.mark.parametrize(
    ("n_pixels", "sensor", "aperture"),
    [(1024, None, 0.005), (1023, None, 0.005), (450, (18, 25), 0.01), (450, (18, 25), 0.02)],
)
def test_a_true_matrix_predicts_frames_behind_a_pupil(n_pixels, sensor, aperture, unknown):
    """Within the camera's PRNU of 1 % and the laser's drift, also where one row in ten is not known and was set to 0.

    Catches: pixels counted as field samples (0.1 or an exception), light that pixels get from neighbours whose rows are
    unknown taken for dark (0.03).
    """
    opu = pupil_bench(32, n_pixels, aperture, sensor)
    valid = np.random.default_rng(1).random(n_pixels) >= unknown
    matrix = np.where(valid[:, None], field_matrix(opu), 0.0)
    error, _ = row_quality(held_out(opu, matrix, valid, noise_model(opu, opu.camera.gain), 0))
    assert np.sqrt(np.mean(error[valid] ** 2)) < 0.015
