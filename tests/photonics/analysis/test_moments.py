"""Mean and variance of the whole chain, against thousands of frames and against exact relations."""

from dataclasses import replace

import array_api_strict
import numpy as np
import pytest

from photonics import DMD, OPU, Camera, Drifting, GaussianMedium, Imaging, Laser, presets
from photonics.backend import Backend, to_host
from photonics.parts.reference import Reference

QUIET = Laser(rin_db_per_hz=None, drift_rms=0.0, pointing_rad=0.0)
FINE = Camera(bit_depth=12)
DEEP = Camera(bit_depth=16, full_well_e=1e6)
WIDE = DMD(macropixel=24)
"""Inputs over the whole chip, so that the beam's pointing matters."""
FRAMES = 4000


def device(n_in=64, n_out=100, **parts):
    """A bench with a steady laser and a 12-bit camera by default."""
    parts = {"laser": QUIET, "camera": FINE, "medium": GaussianMedium(n_in, n_out, seed=1)} | parts
    return presets.lab_bench(n_in, n_out, seed=5).replace(**parts)


def deep(**parts):
    """A bench on the whole chip with little shot noise (well of 1e6 electrons), so that laser noise dominates."""
    parts = {"camera": DEEP, "dmd": WIDE, "imaging": Imaging(throughput=5e-8), "exposure_s": 4e-4} | parts
    return device(400, 100, **parts)


def jittery(jitter=0.4, **more):
    return Imaging(reference=Reference(intensity=0.3, phase_jitter_rad=jitter, **more))


CASES = {
    "shot": (device, None),
    "strong-rin": (lambda: deep(laser=replace(QUIET, rin_db_per_hz=-60)), None),
    "pointing": (lambda: deep(laser=replace(QUIET, pointing_rad=2e-5)), None),
    "drift": (lambda: deep(laser=replace(QUIET, drift_rms=0.03, drift_time_s=1e-4)), None),
    "rin-and-reference": (
        lambda: deep(laser=replace(QUIET, rin_db_per_hz=-60), imaging=replace(jittery(0.0), throughput=5e-8)),
        0.5,
    ),
    "two-polarisations": (lambda: device(64, 200, imaging=Imaging(polarisations=2)), None),
    "pupil": (lambda: device(64, 400, imaging=Imaging(numerical_aperture=0.03)), None),
    "jitter-0.3": (lambda: device(imaging=jittery()), 0.3),
    "jitter-2": (lambda: device(imaging=jittery()), 2.0),
    "large-jitter": (lambda: device(imaging=jittery(1.5)), 1.0),
    "reference-drift": (lambda: device(imaging=jittery(0.0, phase_drift_rad=0.4, phase_drift_time_s=1e-4)), -1.0),
    "pupil-and-reference": (
        lambda: device(64, 400, imaging=replace(jittery(angle_x_rad=0.02), numerical_aperture=0.03)),
        0.7,
    ),
    "everything": (
        lambda: deep(
            laser=Laser(rin_db_per_hz=-65, drift_rms=0.01, drift_time_s=1e-4, pointing_rad=4e-5),
            imaging=Imaging(
                throughput=1.5e-5 / 400, polarisations=2, reference=Reference(intensity=0.3, phase_jitter_rad=1.0)
            ),
            medium=GaussianMedium(400, 200, seed=2),
        ),
        1.2,
    ),
}


def bright_enough(opu, mean, variance):
    """Pixels that do not saturate: six standard deviations under the last code."""
    return mean + 6.0 * np.sqrt(variance) < opu.camera.saturation_dn


@pytest.mark.parametrize("case", CASES)
def test_moments_are_those_of_frames(case):
    """4000 frames: each mean within 4.5 standard errors, each variance too (its error from the fourth moment).

    Noise that is common to the pixels has one draw per frame, so an average over pixels would not be more precise. The
    noise after which a case is named makes the mean variance more than 1.5 times that of the camera.

    Catches: a term of the light left out (RIN, drift, either axis of pointing, phase), pointing without the 2 of
    ``2 x / w^2``, QE forgotten, fringes that keep their strength under jitter, a case without the noise of its name.
    """
    make, phase = CASES[case]
    opu = make()
    pattern = np.random.default_rng(3).random((1, opu.n_in)) < 0.5
    mean = opu.mean(pattern, reference_phase=phase)[0]
    variance = opu.variance(pattern, reference_phase=phase)[0]
    steady = opu.replace(laser=QUIET, imaging=replace(opu.imaging, reference=Reference(intensity=0.3)))
    ratio = (variance / steady.variance(pattern, reference_phase=phase)[0]).mean()
    assert (ratio > 1.5) == (case not in ("shot", "two-polarisations", "pupil"))
    frames = opu.measure(np.repeat(pattern, FRAMES, axis=0), reference_phase=phase).astype(np.float64)
    ok = bright_enough(opu, mean, variance)
    assert ok.mean() > 0.6
    frames, mean, variance = frames[:, ok], mean[ok], variance[ok]
    off = frames - mean
    assert abs(off.mean(axis=0) / np.sqrt(variance / FRAMES)).max() < 4.5
    error = np.sqrt(((off**2 - variance) ** 2).mean(axis=0) / FRAMES)
    assert abs(((off**2).mean(axis=0) - variance) / error).max() < 4.5


def test_dark_pattern():
    """All OFF: the light is the leakage, 1/contrast, or none without leakage. Catches: OFF taken for no light."""
    opu, dark = device(dmd=DMD(contrast=50.0)), np.zeros((1, 64), bool)
    level = opu.camera.mean(np.zeros((1, 100)), opu.exposure_s)
    leaked, full = opu.mean(dark) - level, opu.mean(~dark) - level
    assert np.abs(leaked / full * opu.dmd.contrast - 1.0).max() < 1e-3
    frames = opu.measure(np.repeat(dark, FRAMES, axis=0)).astype(float)
    z = (frames.mean(axis=0) - opu.mean(dark)[0]) / np.sqrt(opu.variance(dark)[0] / FRAMES)
    assert abs(z).max() < 4.5
    tight = opu.replace(dmd=DMD(contrast=None))
    np.testing.assert_array_equal(tight.mean(dark), level)
    np.testing.assert_array_equal(tight.variance(dark), tight.camera.variance(np.zeros((1, 100)), opu.exposure_s))


def ideal_photons(opu, patterns, exposure_s):
    """``n_in throughput t efficiency |T (mirrors * field)|^2`` in double precision, from the parts."""
    off, on = opu.dmd.levels(opu.n_in)
    field = np.sqrt(opu.laser.photon_rate * opu.laser.power_share(opu.cells)) * np.where(patterns, on, off)
    speckle = field @ opu.medium.block(slice(None), slice(None)).astype(np.complex128).T
    efficiency = opu.dmd.efficiency(opu.laser.wavelength_m)
    return opu.n_in * opu.imaging.throughput * exposure_s * efficiency * np.abs(speckle) ** 2


@pytest.mark.parametrize("exposure_s", [None, 1e-4])
def test_moments_of_a_steady_bench_are_those_of_the_camera(half_on, exposure_s):
    """`camera.mean` and `camera.variance` of the ideal photons, to 1e-5. Catches: another exposure."""
    opu, patterns = device(), half_on(6, 64)
    seconds = exposure_s or opu.exposure_s
    photons = ideal_photons(opu, patterns, seconds)
    mean, variance = opu.mean(patterns, exposure_s), opu.variance(patterns, exposure_s)
    np.testing.assert_allclose(mean, opu.camera.mean(photons, seconds), rtol=1e-5)
    np.testing.assert_allclose(variance, opu.camera.variance(photons, seconds), rtol=1e-5)


def test_without_noise_only_rounding_is_left(half_on):
    """A well so deep that there is no shot noise: frames do not vary, and their code is the mean.

    Catches: rounding left out, the 1/12 of rounding where there is no noise to round.
    """
    camera = Camera(bit_depth=8, full_well_e=1e14, read_noise_e=0, dark_current_e_per_s=0)
    opu, patterns = device(camera=camera), half_on(4, 64)
    assert not opu.variance(patterns).any()
    np.testing.assert_array_equal(opu.mean(patterns), opu.measure(patterns))


def test_laser_noise_adds_its_share_exactly(half_on):
    """RIN and drift add ``(signal DN)^2 (drift^2 + RIN / 2t)`` and nothing to the mean, with a reference too.

    Catches: the offset taken for signal, drift left out, power noise of one arm alone.
    """
    laser = replace(QUIET, rin_db_per_hz=-70, drift_rms=0.02)
    noisy, still, patterns = device(laser=laser), device(), half_on(4, 64)
    for phase in (None, 0.4):
        mean = still.mean(patterns, reference_phase=phase)
        signal = mean - still.camera.mean(np.zeros((1, 100)), still.exposure_s)
        expected = signal**2 * (0.02**2 + 1e-7 / (2.0 * still.exposure_s))
        added = noisy.variance(patterns, reference_phase=phase) - still.variance(patterns, reference_phase=phase)
        np.testing.assert_allclose(added, expected, rtol=1e-5)
        np.testing.assert_allclose(noisy.mean(patterns, reference_phase=phase), mean, rtol=1e-12)


def test_power_noise_is_common_to_the_pixels_of_a_frame():
    """The covariance of strong RIN is rank one, ``s s^T RIN / 2t``; its diagonal is what the moments count.

    Largest |error| of 100 x 100 covariances of 4000 frames under 5 standard errors; the largest eigenvalue is that of
    the rank-one part within 10 %, the second under a hundredth of it. Catches: RIN drawn per pixel.
    """
    opu = deep(laser=replace(QUIET, rin_db_per_hz=-60))
    pattern = np.random.default_rng(3).random((1, 400)) < 0.5
    mean, variance = opu.mean(pattern)[0], opu.variance(pattern)[0]
    ok = bright_enough(opu, mean, variance)
    frames = opu.measure(np.repeat(pattern, FRAMES, axis=0)).astype(float)[:, ok]
    signal = (mean - opu.camera.mean(np.zeros((1, 100)), opu.exposure_s)[0])[ok]
    rin = 1e-6 / (2.0 * opu.exposure_s)
    expected = np.outer(signal, signal) * rin
    measured = np.cov(frames.T)
    shot = np.diag(variance[ok]) - np.diag(np.diag(expected))
    error = np.sqrt((np.outer(variance[ok], variance[ok]) + expected**2) / FRAMES)
    assert abs((measured - expected - shot) / error).max() < 5.0
    values = np.linalg.eigvalsh(measured)
    assert values[-1] == pytest.approx(rin * signal @ signal, rel=0.1)
    assert values[-2] < values[-1] / 100


def test_the_phase_average_is_the_integral_over_the_normal_law():
    """Gauss-Hermite over the phase gives mean and variance to 1e-4, small jitter and deep well included.

    Catches: a variance by a difference of squares, which float32 drowns (at 1e-3 rad and 1e9 electrons).
    """
    camera = Camera(bit_depth=16, full_well_e=1e10, read_noise_e=3e5, dark_current_e_per_s=0)  # 2 DN: linear means
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights /= weights.sum()
    pattern = np.random.default_rng(3).random((1, 64)) < 0.5
    for jitter in (1e-3, 0.4, 2.0):
        imaging = replace(jittery(jitter), throughput=0.01)
        opu = device(camera=camera, imaging=imaging)
        still = opu.replace(imaging=replace(imaging, reference=replace(imaging.reference, phase_jitter_rad=0.0)))
        at = still.mean(np.repeat(pattern, 40, 0), reference_phase=0.9 + jitter * nodes)
        mean = weights @ at
        spread = weights @ (at - mean) ** 2
        np.testing.assert_allclose(opu.mean(pattern, reference_phase=0.9)[0], mean, rtol=1e-5)
        shot = opu.camera.variance((mean - camera.offset)[None] / opu.camera.signal(np.ones((1, 100))), 4.4e-4)[0]
        found = opu.variance(pattern, reference_phase=0.9)[0]
        assert abs(found - spread - shot).max() < 1e-3 * (spread + shot).max()


def test_pointing_is_the_slope_of_the_mean():
    """Its term is the mean's change by an rms shift of the beam, both axes, within 1e-3 of the largest.

    The beam shifted by hand, by a moved grid of cells. Catches: one axis, or x for y.
    """
    opu = deep(laser=replace(QUIET, pointing_rad=1e-5))
    pattern = np.random.default_rng(3).random((1, 400)) < 0.5
    shift, expected = 1e-5, 0.0
    for axis in ("x_edges", "y_edges"):
        sides = []
        for sign in (-1, 1):
            moved = deep()
            moved.cells = replace(moved.cells, **{axis: getattr(moved.cells, axis) + sign * shift})
            sides.append(moved.mean(pattern))
        expected = expected + ((sides[1] - sides[0]) / 2.0) ** 2
    added = opu.variance(pattern) - deep().variance(pattern)
    assert abs(added - expected).max() < 2e-3 * expected.max()


def test_the_second_order_of_pointing_is_as_small_as_stated():
    """At 1e-4 rad the frames' mean differs from the moment by up to ``4 (shift / w)^2`` of the speckle's mean, no more.

    Catches: an error that is stated too small (it shows here, far beyond the standard error), or a first-order bias.
    """
    opu = deep(laser=replace(QUIET, pointing_rad=1e-4))
    pattern = np.random.default_rng(3).random((1, 400)) < 0.5
    mean, variance = opu.mean(pattern)[0], opu.variance(pattern)[0]
    frames = opu.measure(np.repeat(pattern, FRAMES, axis=0)).astype(float)
    ok = bright_enough(opu, mean, variance)
    bias = (frames.mean(axis=0) - mean)[ok] / (mean[ok] - opu.camera.offset).mean()
    stated, error = 4.0 * (1e-4 / 7e-3) ** 2, np.sqrt(variance[ok] / FRAMES) / mean[ok].mean()
    assert 0.3 * stated < abs(bias.mean()) < stated + 4.0 * error.max()


def test_the_clock_does_not_move(half_on):
    """The moments of a static medium do not depend on it; those of a drifting one are those of the next frame.

    Catches: `advance` called, the tick of a fixed frame.
    """
    opu = device(medium=Drifting(GaussianMedium(64, 100, seed=1), 5.0))
    patterns = half_on(2, 64)
    before = opu.mean(patterns)
    opu.variance(patterns)
    np.testing.assert_array_equal(opu.mean(patterns), before)
    assert opu.clock.frames == 0
    opu.measure(np.repeat(patterns, 25, axis=0))
    assert np.corrcoef(opu.mean(patterns).ravel(), before.ravel())[0, 1] < 0.3
    still = device()
    first = still.mean(patterns)
    still.measure(patterns)
    np.testing.assert_array_equal(still.mean(patterns), first)


def test_order_and_split_of_the_batch_are_irrelevant(half_on):
    """Bit for bit, with one phase per pattern. Catches: a phase that stays with its place in the batch."""
    opu = deep(laser=Laser(), imaging=jittery())
    patterns, phases = half_on(20, 400), np.linspace(0, 6, 20)
    order = np.random.default_rng(0).permutation(20)
    for moment in (opu.mean, opu.variance):
        whole = moment(patterns, reference_phase=phases)
        np.testing.assert_array_equal(moment(patterns[order], reference_phase=phases[order]), whole[order])
        parts = [moment(patterns[part], reference_phase=phases[part]) for part in (slice(0, 7), slice(7, 20))]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
        assert moment(patterns[:0], reference_phase=phases[:0]).shape == (0, 100)


def test_the_device_is_left_as_it_was(half_on):
    """Catches: the steady laser of the moments that replaces the laser of the device."""
    opu = device(laser=Laser(), imaging=jittery())
    before = opu.to_dict()
    opu.variance(half_on(1, 64), reference_phase=0.0)
    assert opu.to_dict() == before


def test_on_another_array_library(half_on):
    """The same to rounding, and the result stays on the device. Catches: numpy called on an array of a device."""
    imaging = Imaging(numerical_aperture=0.03, polarisations=2, reference=Reference(phase_jitter_rad=0.4))
    opu = device(64, 800, laser=Laser(), imaging=imaging, dmd=WIDE)
    patterns = half_on(3, 64)
    backend = Backend(array_api_strict, array_api_strict.Device("device1"))
    there = opu.replace()
    there.backend = backend
    for name in ("mean", "variance"):
        for phase in (None, 0.3):
            found = getattr(there, name)(backend.asarray(patterns), reference_phase=phase)
            assert found.device == backend.device
            here = getattr(opu, name)(patterns, reference_phase=phase)
            assert np.abs(to_host(found) - here).max() < 1e-4 * np.abs(here).max()


@pytest.mark.parametrize("moment", ["mean", "variance"])
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"patterns": np.zeros((1, 5))}, r"patterns must have shape \(batch, 64\), got \(1, 5\)"),
        ({"exposure_s": 0.0}, r"exposure_s must be 1e-06 to 0\.000987 .*, got 0\.0"),
        ({"reference_phase": [0.0, 1.0]}, r"reference_phase must have shape"),
    ],
)
def test_bad_arguments_are_refused_as_by_measure(moment, arguments, says):
    """With the same message. Catches: an exposure of zero that divides the RIN, one longer than a frame."""
    opu = device(laser=Laser())
    with pytest.raises(ValueError, match="^" + says):
        getattr(opu, moment)(**({"patterns": np.zeros((1, 64), bool)} | arguments))
    with pytest.raises(ValueError, match="^" + says):
        opu.measure(**({"patterns": np.zeros((1, 64), bool)} | arguments))


def test_seconds_scale_the_light():
    """Twice the exposure, twice the signal; the mean is what `OPU.unit_dn` predicts, within 4 standard errors of T.

    Catches: an exposure that reaches the camera and not the light.
    """
    opu = OPU(medium=GaussianMedium(64, 4000, seed=1), laser=QUIET, camera=replace(FINE, prnu=0.0, dsnu_e=0.0))
    on = np.ones((1, 64), bool)
    signal = [
        (opu.mean(on, t) - opu.camera.offset - opu.camera.gain * opu.camera.dark_electrons(t)) for t in (2e-4, 4e-4)
    ]
    np.testing.assert_allclose(signal[1], 2.0 * signal[0], rtol=1e-5)
    assert signal[1].mean() * opu.exposure_s / 4e-4 == pytest.approx(opu.unit_dn, rel=4.0 / np.sqrt(4000))
