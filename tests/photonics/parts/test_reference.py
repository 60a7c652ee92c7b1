"""The reference beam: what it adds to a frame, how it is tilted and flawed, and how its phase wanders."""

import dataclasses
import math

import array_api_strict
import numpy as np
import pytest

from photonics import Imaging, draws
from photonics.backend import HOST, Backend, to_host
from photonics.parts.reference import Reference, as_phases, smooth_noise
from photonics.random import Stream

PIXEL_M, WAVELENGTH_M = 5.5e-6, 532e-9
BENCH = {
    "wavelength_m": WAVELENGTH_M,
    "pixel_m": PIXEL_M,
    "samples": 1,
    "frame_period_s": 1e-3,
    "seed": 0,
    "backend": HOST,
}
UNSTEADY = Reference(phase_jitter_rad=0.2, phase_drift_rad=1.0, phase_drift_time_s=0.05, noise=0.2, angle_x_rad=0.01)


def beam(reference, layout=(8, 12), phase=0.0, frames=1, unit_rate=1.0, **changes):
    """Field of the beam, (frames, rows * columns)."""
    return reference.field(layout, phase, np.arange(frames), unit_rate=unit_rate, **BENCH | changes)


def tilt(cycles_per_pixel):
    """Angle that makes that many fringes per pixel."""
    return math.asin(cycles_per_pixel * WAVELENGTH_M / PIXEL_M)


def test_amplitude():
    """``sqrt(intensity rate)``, in each frame its own rate, phase as set. Catches: an intensity for an amplitude."""
    field = beam(Reference(intensity=4.0), phase=[0.0, 0.3, -2.0], frames=3, unit_rate=[1e6, 4e6, 0.0])
    assert field.dtype == np.complex64
    assert field.shape == (3, 96)
    expected = np.array([2e3, 4e3 * np.exp(0.3j), 0.0])[:, None]
    np.testing.assert_allclose(field, np.broadcast_to(expected, field.shape), rtol=1e-6)
    assert not beam(Reference(intensity=0.0)).any()


@pytest.mark.parametrize("pupil", [None, 0.04])
def test_four_phases_recover_the_speckle(rng, pupil):
    """``[(I0 - I2) + i (I1 - I3)] / 4 = conj(R) y``, to float32, tilted flawed beam and all (Yamaguchi and Zhang).

    With a pupil y is the field behind it, a point per pixel. Catches: the sign of the phase, R added twice or to the
    intensity, a filter that acts on the reference too.
    """
    layout = (16, 24)
    optic = Imaging(throughput=0.3, sensor=layout, samples=1, numerical_aperture=pupil)
    parts = rng.normal(size=(5, 2 * 384)).astype(np.float32)
    reference = Reference(intensity=2.5, angle_x_rad=0.02, angle_y_rad=-0.01, noise=0.1)
    field = parts.view(np.complex64)
    r = beam(reference, layout)
    frames = []
    for phase in np.arange(4) * np.pi / 2:
        frames.append(optic.intensity(field, n_in=1, reference=beam(reference, layout, phase)).astype(np.float64))
    found = ((frames[0] - frames[2]) + 1j * (frames[1] - frames[3])) / 4 / 0.3
    y = field
    if pupil is not None:
        filter_ = optic.filter(layout, WAVELENGTH_M, HOST)
        y = np.fft.ifft2(np.fft.fft2(field.reshape(5, *layout)) * filter_).reshape(5, -1)
    assert np.abs(found - r.conj() * y).max() < 3e-6 * max(frame.max() for frame in frames) / 0.3


@pytest.mark.parametrize(("cycles_x", "cycles_y"), [(0.0, -0.125), (3 / 32, 5 / 16), (0.5, 0.0)])
def test_off_axis_fringes(cycles_x, cycles_y):
    """``sin(angle) pixel / lambda`` cycles per pixel, of full depth, x along a row, sign of the slope included.

    Catches: x and y swapped, tan or the angle itself for sin (at 0.5 cycles: 2.8 degrees), samples counted as pixels.
    """
    rows, columns = 16, 32
    reference = Reference(angle_x_rad=tilt(cycles_x), angle_y_rad=tilt(cycles_y))
    field = beam(reference, (rows, columns)).reshape(rows, columns)
    spectrum = np.abs(np.fft.fft2(field)) / field.size
    peak = round(cycles_y * rows) % rows, round(cycles_x * columns) % columns
    assert spectrum[peak] == pytest.approx(1.0, abs=1e-5)
    assert reference.carrier(WAVELENGTH_M, PIXEL_M) == pytest.approx((cycles_x, cycles_y))

    flat = np.ones((1, rows * columns), np.complex64)
    fringes = Imaging(throughput=1.0).intensity(flat, n_in=1, reference=field.reshape(1, -1)).reshape(rows, columns)
    depth = np.fft.fft2(fringes) / fringes.size
    assert depth[0, 0] == pytest.approx(2.0, rel=1e-5)
    nyquist = (2 * np.array(peak)) % (rows, columns) == 0
    assert abs(depth[peak]) == pytest.approx(1.0, rel=1e-5) or nyquist.all()


def test_samples_divide_the_pixel():
    """Two samples per pixel: half the phase step, same wave. Catches: a carrier per sample where it is per pixel."""
    reference = Reference(angle_x_rad=tilt(0.25))
    fine = beam(reference, (2, 64), samples=2).reshape(2, 64)
    np.testing.assert_allclose(fine[:, 1:] / fine[:, :-1], np.exp(2j * np.pi * 0.125), rtol=2e-6)
    coarse = beam(reference, (1, 32)).reshape(32)
    np.testing.assert_allclose((fine[0, ::2] * fine[0, 1::2]), coarse**2, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("axis", "xy")
def test_fringes_finer_than_two_samples_are_refused(axis):
    """At the limit they pass, above not; finer samples allow more. Catches: Nyquist per pixel."""
    name = f"angle_{axis}_rad"
    beam(Reference(**{name: tilt(0.5) * 0.9999}))
    steep = Reference(**{name: -tilt(0.501)})
    with pytest.raises(ValueError, match=rf"^reference.{name} must be -0.04838 to 0.04838, .*, got -0.0484") as error:
        beam(steep)
    assert "\n" not in str(error.value)
    beam(steep, samples=2)
    beam(Reference(**{name: 1.5}), pixel_m=0.2e-6)  # samples so fine that no angle is too steep


def test_drift_is_an_ornstein_uhlenbeck_process():
    """Mean 0, rms and ``exp(-t / tau)`` at all pairs of times within 4.5 SE. Catches: frames for seconds, rms lost."""
    reference = Reference(phase_drift_rad=0.7, phase_drift_time_s=0.02)
    ticks, runs = np.array([0, 1, 5, 20, 21, 60, 10**6]), 4000
    x = np.stack([reference.phases(0.0, ticks, frame_period_s=1e-3, seed=s) for s in range(runs)]) / 0.7
    exact = np.exp(-np.abs(ticks[:, None] - ticks[None, :]) * 1e-3 / 0.02)
    assert np.abs((x.T @ x / runs - exact) / np.sqrt((1 + exact**2) / runs)).max() < 4.5
    assert np.abs(x.mean(axis=0)).max() * math.sqrt(runs) < 4.5


def test_jitter_is_white():
    """Rms and correlations, with the drift too, within 4 SE; fringes fade. Catches: one stream for both, rms^2."""
    n = 2**15
    ticks, steady = np.arange(n), {"frame_period_s": 1e-3, "seed": 3}
    jitter = Reference(phase_jitter_rad=0.3).phases(0.0, ticks, **steady) / 0.3
    assert abs(jitter.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((jitter[1:] * jitter[:-1]).mean()) < 4 / math.sqrt(n)
    np.testing.assert_allclose(jitter, draws.normals(3, Stream.REFERENCE_PHASE, 0, ticks), rtol=1e-6)
    drift = Reference(phase_drift_rad=1.0, phase_drift_time_s=1e-5).phases(0.0, ticks, **steady)
    assert abs((jitter * drift).mean()) < 4 / math.sqrt(n)
    both = Reference(phase_jitter_rad=0.3, phase_drift_rad=1.0, phase_drift_time_s=1e-5)
    np.testing.assert_allclose(both.phases(1.0, ticks, **steady), 1 + 0.3 * jitter + drift, atol=1e-6)
    assert both.phase_variance == pytest.approx(1.09)
    # Fringes lose exp(-variance / 2).
    fringe = np.exp(1j * both.phases(0.0, ticks, **steady)).mean()
    assert abs(fringe - math.exp(-0.545)) < 4 / math.sqrt(n)


def test_fixed_errors_have_their_size():
    """Circular, unit variance, correlation ``exp(-(r/g)^2)`` within 4.5 SE. Catches: g for g/2, a real field, seeds."""
    grain, side, beams = 4.0, 64, 150
    x = np.stack([smooth_noise(seed, (side, 2 * side), grain) for seed in range(beams)])
    covariance = np.fft.ifft2(np.abs(np.fft.fft2(x)) ** 2)[:, :8, :8].real / (2 * side * side)
    y, r = np.mgrid[:8, :8]
    exact = np.exp(-(y**2 + r**2) / grain**2)
    error = covariance.std(axis=0, ddof=1) / math.sqrt(beams)
    assert np.abs((covariance.mean(axis=0) - exact) / error).max() < 4.5
    pseudo = (x**2).mean(axis=(1, 2))
    assert abs(pseudo.mean()) < 4.5 * pseudo.std() / math.sqrt(beams)
    assert np.abs(np.mean(x[0] * x[1].conj())) < 0.2


def test_fixed_errors_are_fixed_and_leave_the_power():
    """Same beam in every frame and run, mean square 1; rms as given. Catches: flaws by frame or by the run's seed.

    The rms over the mean amplitude is 0.2 within 4 SE: 64 x 64 pixels hold 4096 / (pi 16 / 2) = 163 grains.
    """
    reference = Reference(noise=0.2, noise_grain_px=4.0)
    field = beam(reference, (64, 64), frames=3)
    np.testing.assert_array_equal(field[0], field[2])
    np.testing.assert_array_equal(beam(reference, (64, 64), seed=9), field[:1])
    assert np.mean(np.abs(field[0].astype(complex)) ** 2) == pytest.approx(1.0, rel=1e-6)
    assert np.std(field[0]) / abs(field[0].mean()) == pytest.approx(0.2, rel=4 / math.sqrt(163))
    assert not np.any(beam(dataclasses.replace(reference, seed=1), (64, 64)) == field[0])


def test_fixed_errors_are_measured_in_pixels():
    """Two samples per pixel: correlation 1/e at ``2 g`` samples, within 4 SE of 40 beams. Catches: g in samples."""
    layout, shares = (64, 64), []
    for seed in range(40):
        reference = Reference(noise=0.01, noise_grain_px=2.0, seed=seed)
        error = beam(reference, layout, samples=2).reshape(layout) - 1.0
        error -= error.mean()
        shares.append((error * np.roll(error, 4, axis=1).conj()).real.mean() / (np.abs(error) ** 2).mean())
    assert abs(np.mean(shares) - math.exp(-1)) < 4 * np.std(shares) / math.sqrt(40)


def test_frames_in_any_order():
    """Bit for bit, any split and order. Catches: state from one frame to the next, a phase by place in the batch."""
    ticks, phases = np.arange(60), np.linspace(0, 9, 60)

    def field(order):
        return UNSTEADY.field((5, 7), phases[order], ticks[order], unit_rate=3.0, **BENCH)

    whole, order = field(slice(None)), np.random.default_rng(0).permutation(60)
    np.testing.assert_array_equal(field(order), whole[order])
    np.testing.assert_array_equal(np.concatenate([field(slice(0, 1)), field(slice(1, 60))]), whole)
    assert not np.array_equal(beam(UNSTEADY, seed=1), beam(UNSTEADY))


def test_other_libraries():
    """The same beam on a device that refuses numpy, bit for bit but products. Catches: numpy in the array's path."""
    strict = Backend(array_api_strict, array_api_strict.Device("device1"))
    here, there = beam(UNSTEADY, frames=4), beam(UNSTEADY, frames=4, backend=strict)
    assert there.device == strict.device
    assert there.dtype == array_api_strict.complex64
    np.testing.assert_allclose(to_host(there), here, rtol=1e-6)


@pytest.mark.parametrize(
    ("phase", "says"),
    [
        (np.nan, "be finite, got NaN or infinity"),
        ([0.0, 1.0], r"have shape \(\) or \(3,\), one per pattern, got \(2,\)"),
        (1j, "be a real number"),
        ("pi", "be a real number"),
        ([[1], [1, 2]], "be numbers on the host, got list"),
        (array_api_strict.zeros(3, device=array_api_strict.Device("device1")), "be numbers on the host, got Array"),
    ],
)
def test_bad_phases(phase, says):
    """One line names the argument. Catches: a lost check."""
    with pytest.raises(ValueError, match=rf"^reference_phase must {says}") as error:
        as_phases(phase, 3)
    assert "\n" not in str(error.value)


def test_bad_values_in_a_table_are_named():
    """Of the table inside `Imaging`, in one line. Catches: a table that is not checked."""
    for name, value in (("intensity", -1.0), ("angle_x_rad", 2.0), ("noise", math.nan), ("seed", "much")):
        with pytest.raises(ValueError, match=rf"^Imaging: reference.{name} must be ") as error:
            Imaging(reference={name: value})
        assert "\n" not in str(error.value)
    with pytest.raises(
        ValueError, match=r"^Imaging: reference.colour is not a parameter; those are intensity, .*, seed$"
    ):
        Imaging(reference={"colour": 1.0})


def test_nested_in_imaging():
    """A table makes the same part as the object, and it is a value. Catches: a dict kept as it came."""
    optic = Imaging(reference=UNSTEADY, sensor=(3, 4))
    again = Imaging(**dataclasses.asdict(optic))
    assert again == optic
    assert hash(again) == hash(optic)
    assert isinstance(again.reference, Reference)
    assert dataclasses.replace(optic, reference=Reference()) != optic
