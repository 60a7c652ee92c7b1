"""Faults of a bench in the frames of projections: told by an error or a warning, with larger stated errors or none."""

import contextlib

import numpy as np
import pytest

from tests.calibration.benches import METHODS, bench, calibrate, errors, half_on
from tests.calibration.faults import FAULTS, with_fault

NAMES = [name for name in METHODS if "steps" not in name]
"""Phase stepping has tests of its own."""
HARMLESS = {
    *((name, "steps 5 % short") for name in NAMES),
    *((name, "a camera that clips at 240 DN") for name in NAMES),
    *((name, "a camera that is not linear") for name in NAMES),
    ("off-axis", "stray light that changes"),
}
"""Faults that leave the error within 1.3 of the stated one on these benches, if the camera is linear in the calibration
or the method has no reference beam; clipped readings are 1 in 3000."""


@pytest.mark.parametrize("fault", [None, *FAULTS])
@pytest.mark.parametrize("name", NAMES)
def test_a_planted_fault_is_told(fault, name):
    """After the calibration: a warning with numbers, or an error; nothing if the bench is sound.

    Not seen: a dropped frame by projections that take one frame per vector or entry. Catches: frames that are not
    checked (errors of 0.5 to 1.5, stated as 0.04 to 0.14); values of patterns that fit left out of the result.
    """
    if (name, fault) == ("off-axis", "a camera that is not linear"):
        pytest.skip("the camera is linear in the calibration, and not after it")
    opu = bench("lab_bench", name, seed=5)
    projection = calibrate(opu, name)
    x = half_on(40, projection.n_inputs, 5)
    with_fault(opu, fault)
    if fault == "doubled frames":
        with pytest.raises(ValueError, match=r"frames of different patterns must differ, but \d+% are equal"):
            projection(x)
        return
    single = fault == "a dropped frame" and name in ("off-axis", "reference pairs")
    quiet = fault is None or (name, fault) in HARMLESS or single
    with contextlib.nullcontext() if quiet else pytest.warns(UserWarning, match="frames do not fit the model"):
        found = projection.measure(x)
    fits = np.isfinite(found.standard_error[:, projection.valid]).any(axis=1)
    if quiet:
        assert fits.all()
    if fault == "a dropped frame" and not quiet:
        assert 0.15 < fits.mean() < 0.85
        if name != "anchor, disjoint":  # some patterns differ by a few mirrors from the next
            assert np.median(errors(projection, x[fits], found.values[fits])) < 0.3


def test_a_camera_that_is_not_linear_is_told_by_the_calibration_of_off_axis():
    """The error is 0.07 as stated, where noise gives 0.015. Catches: probes with and without beam not compared."""
    opu = with_fault(bench("lab_bench", "off-axis", seed=5), "a camera that is not linear")
    with pytest.warns(UserWarning, match="the beam changes the reading of the speckle by -8"):
        projection = calibrate(opu, "off-axis")
    x = half_on(40, projection.n_inputs, 5)
    found = projection.measure(x)
    size = np.sqrt(np.mean(np.abs(found.values) ** 2))
    stated = np.sqrt(2.0 * np.mean(found.standard_error**2)) / size
    assert stated / 1.6 < np.sqrt(np.mean(errors(projection, x, found.values) ** 2)) < 1.3 * stated
