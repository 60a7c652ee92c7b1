"""Popoff's method: its error, rows in wrong minima, and the inputs that it needs.

Figures are for m = 1000 rows, n = 256 inputs, an 8-bit camera with a full well of 10 ke- and 3 e- of read noise,
exposed so that 0.1 % of the readings saturate.
"""

import dataclasses

import numpy as np
import pytest

from calibration.metrics import matrix_row_errors
from calibration.recovery.exposure import expose
from calibration.recovery.transmission import recover_transmission_matrix
from photonics import presets
from tests.calibration.benches import field_matrix
from tests.calibration.matrix_benches import N, bench, check_exact, error


def test_exact_on_the_ideal_device():
    """Error under 1e-3. Catches: a wrong unit, a lost row."""
    assert check_exact(presets.ideal(70, 200), "popoff", n_inputs=50).matrix.shape == (200, 50)


def test_meets_its_figure():
    """Error of 0.034 at 4 n + 8 frames, invalid rows counted as 1; the target is 0.035.

    Catches: probes of the second round with the signs of the first, random signs of the references' shares (either
    loses most rows), no further start of rows in a wrong minimum (8 % lost).
    """
    seed = 1
    opu = bench(seed, n=2 * N)
    expose(opu, "popoff", seed=seed)
    estimate = recover_transmission_matrix(opu, "popoff", seed=seed)
    assert estimate.frames == 4 * N + 8
    found = matrix_row_errors(estimate.matrix, field_matrix(opu)[:, :N], estimate.gauge)
    assert np.median(found) < 0.035
    assert estimate.valid.mean() > 0.97
    assert found[estimate.valid].max() < 0.2


@pytest.mark.parametrize(("n", "options"), [(128, {"brightness": 0.05}), (33, {"references": 2})])
def test_valid_rows_are_right(n, options):
    """With dim references or few inputs more rows are in a wrong minimum: they are not valid. Catches: a lax limit."""
    opu = bench(1, n=2 * n)
    expose(opu, "popoff", **options)
    estimate = recover_transmission_matrix(opu, "popoff", **options)
    assert estimate.valid.mean() > 0.85
    truth = opu.effective_matrix()[estimate.valid, :n]
    assert matrix_row_errors(estimate.matrix[estimate.valid], truth, estimate.gauge).max() < 0.3


def test_needs_inputs_for_its_references():
    """One for each reference; the error is one line. Catches: references without inputs."""
    with pytest.raises(ValueError, match="n_inputs must be 36 or less, which leaves an input for each of 4") as raised:
        recover_transmission_matrix(presets.lab_bench(40, 50), "popoff", n_inputs=37)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("n_in", "exposure_s"), [(256, 5e-4), (128, 2e-5)])
def test_without_noise_at_any_exposure(n_in, exposure_s):
    """At the exposure of `ideal`, and with a twentieth of the light, where rounding makes an error of 0.003, as stated.

    Catches: division by the variance of a reading in float32, which spans eight decades here.
    """
    opu = presets.ideal(n_in, 300)
    opu.exposure_s = exposure_s
    estimate = recover_transmission_matrix(opu, "popoff")
    assert estimate.valid.mean() > 0.95
    stated = np.median(estimate.relative_error[estimate.valid])
    assert error(estimate, opu) < max(1e-3, 1.15 * stated) < 4e-3


def test_no_row_is_valid_if_some_light_does_not_interfere():
    """Two polarisations. Catches: a limit of the misfit relative to the median alone."""
    opu = presets.lab_bench(64, 300)
    opu = opu.replace(imaging=dataclasses.replace(opu.imaging, polarisations=2))
    expose(opu, "popoff")
    with pytest.warns(UserWarning, match="frames do not fit the model"):
        assert recover_transmission_matrix(opu, "popoff").valid.mean() < 0.05
