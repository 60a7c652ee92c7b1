"""The tilt of the reference beam, from its fringes with the speckle behind a pupil."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.twin_devices import truth
from calibration.fields.sideband_place import find_sideband, mean_power
from calibration.twin.check import answer, draw_twin
from calibration.twin.evidence import read_evidence
from calibration.twin.fit import warn_of_contrast
from calibration.twin.matrix import beam_beside_rows
from calibration.twin.reference.interference import NEIGHBOURS, Optics
from calibration.twin.reference.tilt import CONTRAST, NO_PUPIL, TILT, tilt_parameters
from calibration.twin.sensor import read_sensor
from photonics import Imaging, Reference
from photonics.backend import HOST
from photonics.parts.pupil import transfer


def tilt_to(opu, carrier):
    """The device with fringes of so many cycles per pixel along a row and along a column."""
    angles = np.arcsin(np.array(carrier) * opu.laser.wavelength_m / opu.imaging.pixel_m)
    return opu.replace(**{name: float(angle) for name, angle in zip(TILT, angles, strict=True)})


class Arm:
    """What the reference arm is asked in a recording, and the tilt that the answers of a device give."""

    def __init__(self, recording):
        device, path, self.twin = recording
        seen = read_evidence(path)
        self.device, self.sensor = device, read_sensor(seen)
        beam = ~np.isnan(seen.phase)
        near = np.abs(seen.number - seen.number[beam].min()) < 4000
        groups = (seen.phase >= 0.0) & (seen.on > 0), beam & (seen.on == 0), ~beam & (seen.on == 0) & near
        dark = seen.dark()
        kept = [np.flatnonzero(group)[:many] for group, many in zip(groups, (120, 90, 12), strict=True)]
        index = np.sort(np.concatenate([dark[0][1][:20], dark[-1][1][:20], *kept]))
        columns = {n: getattr(seen, n)[index] for n in ("frames", "patterns", "exposure_s", "phase", "laser_on")}
        self.asked = replace(seen, **columns, number=seen.number[index])
        self.frames = truth(device)["medium.correlation_frames"]

    def ask(self, opu):
        """Frames of a device."""
        return answer(opu, self.asked)

    def fit(self, seen):
        """Parameters by name."""
        aperture, modes = self.twin["imaging.numerical_aperture"], self.twin["imaging.polarisations"]
        found = tilt_parameters(seen, self.sensor, self.frames, self.device.laser.drift_rms, aperture, modes)
        return {p.name: p for p in found}

    def sheet(self, seen, opu):
        """Frames with the data sheet of a device."""
        imaging = replace(seen.parts.imaging, reference=opu.imaging.reference)
        return replace(seen, parts=seen.parts.model_copy(update={"imaging": imaging}))


@pytest.fixture(scope="module")
def pupil(recordings):
    """The device with a pupil."""
    return Arm(recordings[5])


@pytest.mark.parametrize("carrier", [(0.3, -0.2), (-0.1, 0.4), (0.0, 0.0)], ids=str)
def test_the_tilt_is_that_of_the_bench(pupil, carrier):
    """Both angles, and the contrast, within 3 standard errors; the other sign of the phases gives the other tilt.

    Catches: axes in another order, a wrong sign, a pixel's average that pulls the angles to 0, the data sheet's angle.
    """
    bench = tilt_to(pupil.device, carrier)
    seen, true = pupil.ask(bench), truth(bench)
    found = pupil.fit(seen)
    for name in (*TILT, CONTRAST):
        assert abs(found[name].estimate.value - true[name]) < 3.0 * found[name].estimate.error, found[name]
    assert all(found[name].estimate.error < 0.1 * 0.04 for name in TILT)  # a cycle per pixel is 0.097 rad
    turned = pupil.fit(replace(seen, phase=-seen.phase))
    for name in TILT:
        assert turned[name].estimate.value == pytest.approx(-found[name].estimate.value, abs=1e-6)


def test_the_twin_has_the_carrier_of_the_bench(pupil):
    """Sidebands of 32 patterns of the bench and of its twin: within a bin. Catches: a twin with the sheet's tilt."""
    bench = tilt_to(pupil.device, (0.3, -0.25))
    found = pupil.fit(pupil.ask(bench))
    parameters = tuple(found.get(p.name, p) for p in pupil.twin.parameters)
    twin = replace(pupil.twin, parameters=parameters).device(seed=2)
    x = np.random.default_rng(0).random((32, bench.n_in)) < 0.5
    band, centres = bench.imaging.numerical_aperture * 5.5e-6 / 532e-9, []
    for opu in (bench, twin):
        still = opu.replace(**{"imaging.reference.phase_jitter_rad": 0.0, "imaging.reference.phase_drift_rad": 0.0})
        four = [still.mean(x, 1e-4, reference_phase=k * np.pi / 2.0) for k in range(4)]
        cross = (four[0] - four[2] + 1j * (four[1] - four[3])).astype(np.complex64)
        centres.append(find_sideband(mean_power(cross, (20, 20), False), band, (-0.3, 0.25)))
    assert np.abs(np.subtract(*centres)).max() <= 1.0 / 20.0 + 1e-9, centres


def test_fringes_beyond_half_a_cycle_per_pixel(pupil):
    """A carrier of 0.6 or -0.45: unknown, both are named, and the data sheet chooses; 0.9: never the alias.

    Catches: an angle of the other sign without a word.
    """
    bench = tilt_to(pupil.device, (0.55, 0.1))
    seen = pupil.ask(bench)
    for sheet in (bench, tilt_to(bench, (-0.45, 0.0))):
        found = pupil.fit(pupil.sheet(seen, sheet))[TILT[0]]
        assert not found.known
        assert " or " in found.how
        assert "known but for whole cycles per pixel" in found.how
        near = sheet.imaging.reference.angle_x_rad
        assert found.least - 0.01 < near < found.most + 0.01
        assert found.most - found.least < 0.02


def test_without_a_pupil_the_tilt_is_unknown(recordings):
    """Unknown with its reason; bounds contain the truth, and a contrast that is not the sheet's gives a warning.

    Catches: a tilt of the data sheet without a word, noise that is taken for a tilt.
    """
    arm = Arm(recordings[4])
    bench = tilt_to(arm.device, (0.3, -0.35))
    found, true = arm.fit(arm.ask(bench)), truth(bench)
    for name in TILT:
        assert not found[name].known
        assert found[name].how == NO_PUPIL
        assert found[name].least < true[name] < found[name].most
        assert abs(arm.twin[name].least) < 0.03  # the fringes of the upright beam have nearly all of their contrast
    assert abs(found[CONTRAST].estimate.value - true[CONTRAST]) < 3.0 * found[CONTRAST].estimate.error
    warn_of_contrast(arm.twin)
    twin = replace(arm.twin, parameters=tuple(found.get(p.name, p) for p in arm.twin.parameters))
    with pytest.warns(UserWarning, match=r"^fringes of the reference have a contrast of .*tilt in the data sheet"):
        warn_of_contrast(twin)


def test_phases_that_are_not_stepped_do_not_tell_the_tilt(pupil):
    """Frames at one phase, or hidden by noise. Catches: a tilt of any sign, or one of noise."""
    seen = pupil.ask(tilt_to(pupil.device, (0.2, 0.1)))
    one = pupil.fit(replace(seen, phase=np.where(np.isnan(seen.phase), np.nan, 0.0)))
    assert "three phases" in one[TILT[0]].how
    lit = ~np.isnan(seen.phase) & (seen.on > 0)
    noise = np.random.default_rng(1).normal(300.0, 30.0, seen.frames.shape)
    hidden = pupil.fit(replace(seen, frames=np.where(lit[:, None], noise, seen.frames)))
    assert "any tilt is possible" in hidden[TILT[0]].how
    assert not hidden[CONTRAST].known


def test_an_angle_near_zero_is_drawn_with_both_signs(pupil):
    """Draws of an angle within its error. Catches: a logarithm of a number that may have either sign."""
    angle = replace(pupil.twin[TILT[0]], estimate=replace(pupil.twin[TILT[0]].estimate, value=1e-4, error=1e-3))
    twin = replace(pupil.twin, parameters=tuple(angle if p.name == TILT[0] else p for p in pupil.twin.parameters))
    drawn = [draw_twin(twin, seed)[TILT[0]].estimate.value for seed in range(40)]
    assert np.std(drawn) == pytest.approx(1e-3, rel=0.35)  # 3 standard errors
    assert min(drawn) < 0.0 < max(drawn)


@pytest.mark.parametrize("band", [0.2, 0.4])
def test_the_error_of_a_phase_is_that_of_its_grains(band):
    """Correlations of 400 speckle fields on 32 x 32 pixels: phases right to 3 and errors to 15 %, 4 standard errors.

    Catches: an error that counts pixels for grains, or without the correlation that both ends have; a phase that is
    taken for the carrier, which a pixel's average pulls.
    """
    optics = Optics(Imaging(samples=2), 532e-9, band * 532e-9 / 5.5e-6, 1)
    carrier, rng = np.array([0.21875, -0.125]), np.random.default_rng(3)  # whole fringes on the sensor
    white = rng.standard_normal((400, 64, 64)) + 1j * rng.standard_normal((400, 64, 64))
    pupil = transfer("circular", (64, 64), (32 * band, 32 * band), HOST)
    places = np.arange(64) / 2.0
    ramp = np.exp(-2j * np.pi * (carrier[0] * places + carrier[1] * places[:, None]))
    term = np.fft.ifft2(np.fft.fft2(white) * pupil) * ramp
    term = term.reshape(400, 32, 2, 32, 2).mean(axis=(2, 4))
    products = [(term.conj() * np.roll(term, -1, axis=axis)).sum(axis=(1, 2)) for axis in (2, 1)]
    turns = np.angle(np.array(products)) / (-2.0 * np.pi)  # (2, 400)
    assert optics.turns(carrier)[0] < carrier[0] - 0.005  # a pixel's average pulls it
    assert optics.carrier(optics.turns(carrier), optics.turns(carrier)) == pytest.approx(carrier, abs=1e-6)
    expected = optics.turns_covariance(carrier, 0.0, 1024)
    error = np.sqrt(np.diag(expected))
    assert (np.abs(turns.mean(axis=1) - optics.turns(carrier)) < 3.0 * error / 20.0 + 1e-3).all()
    assert turns.std(axis=1) == pytest.approx(error, rel=0.15)
    assert NEIGHBOURS.tolist() == [[1, 0], [0, 1]]


def test_the_beam_beside_a_fitted_matrix():
    """Rows of stepped phases have the tilt in them, rows of a sideband do not. Catches: a tilt that counts twice."""
    far = Imaging(numerical_aperture=0.01, reference=Reference(angle_x_rad=0.0326, angle_y_rad=0.0326))
    near = replace(far, reference=Reference(angle_x_rad=0.01))
    assert beam_beside_rows(far, 532e-9) == far.reference
    assert beam_beside_rows(near, 532e-9) == Reference()
    assert beam_beside_rows(replace(far, numerical_aperture=None), 532e-9) == Reference()
