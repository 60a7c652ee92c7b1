"""The grain area in a report, on sensors with few grains."""

import dataclasses
import math

import numpy as np
import pytest

from calibration.reports.chapters.common import measure_dark, signal_of
from calibration.reports.chapters.speckle import grain
from photonics import OPU, GaussianMedium, Imaging, Laser
from photonics.patterns.encoding import half_on


def found(side, band, seed, taken_for=None):
    """Line of the grain's area: the pupil's radius in cycles per pixel, and the one that the data sheet has."""
    laser, imaging = Laser(), Imaging()
    per_band = laser.wavelength_m / imaging.pixel_m
    imaging = dataclasses.replace(imaging, numerical_aperture=band * per_band)
    opu = OPU(medium=GaussianMedium(64, 4 * side * side, seed=seed), imaging=imaging, laser=laser)
    opu.exposure_s = 1e-4
    noise, frames = measure_dark(opu, opu.camera.gain)[0], opu.measure(half_on(16, 64, seed, 0))
    if taken_for is not None:
        opu = opu.replace(imaging=dataclasses.replace(imaging, numerical_aperture=taken_for * per_band))
    (line,) = grain(opu, signal_of(frames, noise), noise.variance(frames)).lines
    return line


@pytest.mark.parametrize(("side", "band"), [(16, 0.1), (32, 0.1), (32, 0.2), (48, 0.08)])
def test_a_small_sensor_has_the_same_grain(side, band):
    """The mean of 16 devices within 4 standard errors of the pupil's, and each within its own stated error's 4.

    Catches: what a frame's own mean takes off each lag (13.8 pixels for 31.8 on 32 x 32, -2 on 16 x 16).
    """
    lines = [found(side, band, seed) for seed in range(16)]
    area, expected = np.array([line.measured for line in lines]), lines[0].expected
    assert abs(area.mean() - expected) < 4.0 * area.std(ddof=1) / math.sqrt(16)
    assert all(abs(line.measured - expected) < 4.0 * line.uncertainty for line in lines)


def test_an_aperture_other_than_the_data_sheets_is_detected():
    """Grains of 8 pixels where 32 are expected. Catches: a correction that holds the expected area."""
    line = found(128, 0.2, 1, taken_for=0.1)
    assert line.measured < 0.5 * line.expected
    assert line.verdict == "failed"


def test_a_sensor_within_a_grain_gives_no_grain_area():
    """Catches: a number where the sensor holds a grain or two."""
    assert found(24, 0.03, 1).verdict == "not measurable"
