"""What a camera may have beyond the linear model is fitted: noise of lines, hot pixels, a curved response."""

from dataclasses import replace

import numpy as np
import pytest

from calibration.twin.evidence import read_evidence
from calibration.twin.fit import fit_evidence
from calibration.twin.pixels import CURVE, take_out_curve
from calibration.twin.sensor import read_sensor
from calibration.twin.speckle import layout

FLAWS = ("camera.row_noise_e", "camera.column_noise_e", "camera.hot_pixels", CURVE)


@pytest.fixture(scope="module")
def sound(recordings):
    """Frames of a sound device, and its twin's parameters."""
    seen = read_evidence(recordings[5][1])
    return seen, fitted(seen)


def fitted(seen):
    """Parameters by name, curve taken out."""
    twin = fit_evidence(*take_out_curve(seen, read_sensor(seen)), {})
    return {p.name: p for p in twin.parameters}, twin


def flawed(seen, codes):
    """Evidence with other codes, rounded and clipped as a camera does."""
    frames = np.clip(np.rint(codes.reshape(seen.frames.shape)), 0.0, float(seen.top)).astype(seen.frames.dtype)
    return replace(seen, frames=frames)


def test_sound_cameras_have_no_flaw(recordings):
    """No flaw is known of sound devices, and no curve is taken out.

    Catches: read noise given to rows, dim pixels taken for hot ones, a curve made of speckle that moves.
    """
    for seed in recordings:
        seen = read_evidence(recordings[seed][1])
        found, twin = fitted(seen)
        assert not any(found[name].known for name in FLAWS)
        camera = twin.device().camera
        assert camera.nonlinearity == camera.hot_pixels == 0.0


@pytest.mark.parametrize("axis", [0, 1])
def test_noise_of_lines(sound, axis):
    """Noise of whole rows or columns, 6 DN rms, within 3 standard errors; read noise as without it, within 3.

    Catches: a read noise twice that of a pixel; rows taken for columns.
    """
    (seen, (before, _)), random = sound, np.random.default_rng(0)
    images = seen.frames.astype(float).reshape(-1, *layout(seen))
    shape = [len(images), *layout(seen)]
    shape[2 - axis] = 1
    found, twin = fitted(flawed(seen, images + random.normal(0.0, 6.0, shape)))
    name, other = FLAWS[axis], FLAWS[1 - axis]
    wanted, lines = 6.0 / found["camera.gain_dn_per_e"].estimate.value, found[name].estimate
    assert abs(lines.value - wanted) < 3.0 * lines.error < 0.3 * wanted
    assert not found[other].known
    read, was = found["camera.read_noise_e"].estimate, before["camera.read_noise_e"].estimate
    assert abs(read.value - was.value) < 3.0 * np.hypot(read.error, was.error)
    assert getattr(twin.device().camera, name.removeprefix("camera.")) == lines.value


def test_hot_pixels(sound):
    """Twenty hot pixels with an exponential law: share and current within 3 standard errors, other parameters kept.

    Catches: hot pixels counted as dead, or in dark current and DSNU.
    """
    (seen, (before, _)), random = sound, np.random.default_rng(1)
    hot = random.choice(seen.n_out, 20, replace=False)
    gain, longest = before["camera.gain_dn_per_e"].estimate.value, seen.exposure_s[~seen.laser_on].max()
    dn = np.zeros(seen.n_out)
    dn[hot] = random.exponential(60.0, 20)
    found, twin = fitted(flawed(seen, seen.frames + dn * seen.exposure_s[:, None] / longest))
    share, current = found["camera.hot_pixels"].estimate, found["camera.hot_current_e_per_s"].estimate
    assert abs(share.value - 20 / seen.n_out) < 3.0 * share.error
    assert abs(current.value - 60.0 / gain / longest) < 3.0 * current.error
    dead = found["camera.dead_pixels"].estimate
    assert dead.value == pytest.approx(before["camera.dead_pixels"].estimate.value, abs=1.5 / seen.n_out)
    assert twin.device().camera.hot_pixels == share.value


def test_rounding_makes_no_hot_pixel(sound):
    """Dark levels that grow by 0.12 DN pass a step of the converter in 2 of 10 pixels, with noise of 0.005 DN.

    Catches: an error of rounding for its largest one, which took 51 of 1024 pixels for hot.
    """
    (seen, _), random = sound, np.random.default_rng(2)
    dark = ~seen.laser_on[:, None]
    grown = 0.12 * seen.exposure_s[:, None] / seen.exposure_s[~seen.laser_on].max()
    level = 10.3 + random.uniform(0.0, 0.1, seen.n_out) + grown + random.normal(0.0, 0.005, seen.frames.shape)
    sensor = read_sensor(flawed(seen, np.where(dark, level, seen.frames)))
    assert not sensor.dithered and not sensor.hot.any()


@pytest.mark.parametrize("bend", [-0.1, 0.08])
def test_curved_response(sound, bend):
    """A response that bends: the curve within 3 standard errors; gain as without it, within 3.

    Catches: a gain several standard errors off, a full well that contains the curve.
    """
    seen, (before, _) = sound
    dark, top = before["camera.offset_dn"].estimate.value, float(seen.top)
    signal = seen.frames - dark
    found, twin = fitted(flawed(seen, dark + signal * (1.0 + bend * signal / (top - dark))))
    gain, was = found["camera.gain_dn_per_e"].estimate, before["camera.gain_dn_per_e"].estimate
    wanted = bend / (top - dark) * was.value
    curve = found[CURVE].estimate
    assert abs(curve.value - wanted) < 3.0 * curve.error < 0.5 * abs(wanted)
    assert abs(gain.value - was.value) < 3.0 * np.hypot(gain.error, was.error)
    camera = twin.device().camera
    assert camera.nonlinearity / camera.full_well_e == pytest.approx(curve.value)
