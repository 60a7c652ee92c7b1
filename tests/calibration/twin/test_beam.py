"""The beam on the mirrors: its pointing, its radius from saturated or rounded groups, and the area of a grain."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from calibration.twin.beam import beam_radius, pointing
from calibration.twin.evidence import Evidence
from calibration.twin.looks import noise_of
from calibration.twin.parameter import CannotTell
from calibration.twin.processes import Process
from calibration.twin.speckle import Lagged
from photonics import DMD, Laser
from photonics.description import PartTables


def groups(radius_m, ceiling=10**6, light=40.0, step=1e-6, noise=0.0) -> Evidence:
    """Frames of 64 inputs alone, twice, between frames of all OFF, on 900 pixels; codes are multiples of `step`."""
    rng, dmd, n = np.random.default_rng(3), DMD(macropixel=80), 16 + 128
    share = np.exp(-2.0 * (dmd.cells(64).centres ** 2).sum(axis=0) / radius_m**2)
    patterns, frames = np.zeros((n, 64), bool), np.zeros((n, 900))
    patterns[8:-8] = np.repeat(np.eye(64, dtype=bool), 2, axis=0)
    frames[8:-8] = np.repeat(light * (share / share.mean())[:, None] * rng.exponential(1.0, (64, 900)), 2, axis=0)
    frames += noise * rng.standard_normal((n, 900))
    frames = np.minimum(np.rint(frames / step) * step, ceiling)
    parts = cast(PartTables, SimpleNamespace(dmd=dmd, laser=Laser()))
    return Evidence(
        frames, patterns, np.ones(n, np.float32), np.full(n, np.nan, np.float32), np.ones(n, bool), np.arange(n), parts
    )


@pytest.mark.parametrize(
    ("seen", "rounding"),
    [({}, 0.0), ({"noise": 20.0}, 0.0), ({"ceiling": 150}, 0.0), ({"light": 6.0, "step": 1.0}, 0.29)],
    ids=["sound", "noise at the edge", "saturated", "rounded"],
)
def test_the_radius_of_a_beam(seen, rounding):
    """Within 3 standard errors. Catches: saturated groups or noise that make a beam wide, no rounding."""
    found = beam_radius(groups(6e-3, **seen), np.arange(900), seen.get("ceiling", 10**6), rounding)
    assert abs(found.value - 6e-3) < 3.0 * found.error, found


def test_a_beam_that_rounding_or_saturation_hides_is_unknown():
    """Catches: a radius from light that is less than a code, or from groups that are all saturated."""
    for seen, ceiling in ((groups(6e-3, light=0.5, step=1.0), 10**6), (groups(6e-3, ceiling=1), 1)):
        with pytest.raises(CannotTell):
            beam_radius(seen, np.arange(900), ceiling, 0.29)


def test_what_pointing_does_to_the_light():
    """Power and speckle of 4000 shifts of a beam, to 8 %, 4 standard errors. Catches: one axis, no square root."""
    dmd, radius = DMD(macropixel=40), 2e-3
    seen = cast(Evidence, SimpleNamespace(n_in=64, parts=SimpleNamespace(dmd=dmd, laser=Laser(pointing_rad=2e-5))))
    on = np.arange(64) % 8 < 4
    cells = dmd.cells(64)
    laser = Laser(pointing_rad=2e-5, beam_radius_m=radius, rin_db_per_hz=None, drift_rms=0.0)
    field = laser.field(cells, np.arange(4000), exposure_s=1e-3, frame_period_s=1e-3, seed=5)
    field = np.asarray(field).reshape(4000, -1)[:, on]
    power = (np.abs(field) ** 2).sum(axis=1)
    still = field.mean(axis=0)
    apart = field - np.outer(field @ still / (still @ still), still)
    found = pointing(seen, on, radius)
    assert found[0] == pytest.approx(power.var() / power.mean() ** 2, rel=0.08)
    assert found[1] == pytest.approx(2.0 * (apart**2).sum(axis=1).mean() / (still @ still), rel=0.08)
    assert pointing(seen, on, None) == (0.0, 0.0)


def test_the_area_of_a_grain_counts_all_lags():
    """Speckle smoothed over 2 x 2 pixels: an area of 4 variances of a pixel. Catches: lags above that are left out."""
    rng = np.random.default_rng(0)
    wide = rng.exponential(1.0, (200, 31, 31))
    smooth = (wide[:, :-1, :-1] + wide[:, 1:, :-1] + wide[:, :-1, 1:] + wide[:, 1:, 1:]) / 4.0 - 1.0
    lagged = Lagged(smooth.reshape(200, -1).astype(np.float32), np.ones(900, bool), (30, 30), 0.0)
    assert lagged.area(lagged.covariance(np.arange(30))) == pytest.approx(1.0, rel=0.05)  # 4 x 0.25, error 0.01


def test_intensity_noise_is_freed_of_pointing():
    """White noise of 1e-3 rms, 2e-7 of its variance by pointing. Catches: pointing in it, no error by drift."""
    axis = np.log(np.linspace(0.9e-3, 1.1e-3, 21))
    weight = np.exp(-0.5 * ((np.exp(axis) - 1e-3) / 2e-5) ** 2)[:, None, None] * np.array([0, 1.0, 0])[None, :, None]
    process = Process(axis, np.zeros(3), np.zeros(3), weight * np.array([0, 1.0, 0]))
    found = noise_of(process, "white", 0.5, 2e-7, 0.05)
    assert found.value == pytest.approx(10.0 * np.log10(8e-7), abs=0.01)
    assert found.error == pytest.approx(10.0 / np.log(10.0) * np.linalg.norm([4e-8, 2e-7, 0.8e-7]) / 8e-7, rel=0.05)
    with pytest.raises(CannotTell, match="pointing of the laser hides it"):
        noise_of(process, "white", 0.5, 7e-7, 0.0)
