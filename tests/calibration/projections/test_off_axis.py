"""Projections by an off-axis reference: their figure, and optics that suit them or not."""

import dataclasses
import math

import numpy as np
import pytest

from calibration import measure_projection
from photonics import GaussianMedium, Imaging, presets
from photonics.parts.reference import Reference
from tests.calibration.benches import (
    SENSOR,
    bench,
    errors,
    expose_to_share,
    half_on,
    off_axis,
    table_bench,
)

LAMBDA_M, PIXEL_M = 532e-9, 5.5e-6


@pytest.mark.parametrize(("noise", "most"), [(0.0, 0.0135), (0.1, 0.022)])
def test_figure_of_off_axis(noise, most):
    """With m 1000, n 256, 1 frame per vector: 0.0125 (target 0.015), 0.019 with 10 % reference noise (target 0.028).

    A band of 0.08 cycles per pixel (grains of 6 pixels), a carrier of 0.25 along both axes, the beam at twice the
    speckle. Catches: the reference's own frame not subtracted, or no division by its amplitude (0.08 and more).
    """
    angle = math.asin(0.25 * LAMBDA_M / PIXEL_M)
    beam = Reference(angle_x_rad=angle, angle_y_rad=angle, intensity=2.0, noise=noise)
    imaging = Imaging(numerical_aperture=0.08 * LAMBDA_M / PIXEL_M, sensor=(25, 40), reference=beam)
    opu, share = table_bench(imaging, samples=2)
    expose_to_share(opu, share, half_on(48, 256, 9), reference_phase=0.0)
    projection = measure_projection(opu, "off-axis")
    assert np.median(errors(projection, half_on(128, 256))) < most


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"numerical_aperture": None}, r"imaging.numerical_aperture must be 0.0155 or less"),
        ({"numerical_aperture": 0.02}, r"imaging.numerical_aperture must be 0.0155 or less"),
        ({"reference": Reference()}, "angle_x_rad and angle_y_rad must put the sideband away"),
        ({"reference": Reference(angle_x_rad=0.012)}, "angle_x_rad and angle_y_rad must put the sideband away"),
    ],
)
def test_optics_without_room_for_a_sideband_are_refused(change, message):
    """The error names aperture or angle, and an angle that works. Catches: advice that fails."""
    opu = presets.lab_bench(32, 2000)
    imaging = dataclasses.replace(off_axis(opu.imaging, LAMBDA_M), **change)
    medium = GaussianMedium(32, math.prod(SENSOR) * imaging.samples_per_pixel**2)
    with pytest.raises(ValueError, match=message) as caught:
        measure_projection(opu.replace(imaging=imaging, medium=medium), "off-axis")
    assert "\n" not in str(caught.value)
    if "reference" in change:
        angle = float(str(caught.value).split("such as ")[1].split()[0])
        beam = Reference(angle_x_rad=angle, angle_y_rad=angle)
        imaging = dataclasses.replace(imaging, reference=beam)
        measure_projection(opu.replace(imaging=imaging, medium=medium), "off-axis")


def test_the_sideband_is_found_where_the_beam_is():
    """The data sheet's angle is wrong by 40 %, three bins: frames give the place, and the sheet the sign.

    Catches: the carrier of the sheet used without a look at the frames (error 1); the twin used, which gives the
    conjugate.
    """
    true = bench("ideal", "off-axis", seed=1)
    sheet = dataclasses.replace(true.imaging.reference, angle_x_rad=true.imaging.reference.angle_x_rad * 0.6)

    class Mislabelled:
        imaging = dataclasses.replace(true.imaging, reference=sheet)

        def __getattr__(self, name):
            return getattr(true, name)

    projection = measure_projection(Mislabelled(), "off-axis")
    assert abs(projection.sideband.center[0] + 0.26) < 0.03
    assert np.median(errors(dataclasses.replace(projection, opu=true), half_on(60, true.n_in))) < 0.15


def test_sensors_that_are_too_small_or_cropped_are_told():
    """A side under one over the band is refused; a region warns. Catches: errors 20 times the stated ones."""
    opu = bench("lab_bench", "off-axis")
    with pytest.raises(ValueError, match=r"imaging.sensor must have 13 rows and columns or more .* got 20 x 12"):
        cropped = dataclasses.replace(opu.imaging, region=(0, 20, 0, 12))
        measure_projection(opu.replace(imaging=cropped), "off-axis")
    cropped = dataclasses.replace(opu.imaging, region=(0, 18, 0, 18))
    with pytest.warns(UserWarning, match="wrap around the edges of a region"):
        measure_projection(opu.replace(imaging=cropped), "off-axis")
