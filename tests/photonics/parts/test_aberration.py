"""The surface of the chip: its polynomials, the effect of a fixed phase on speckle, and its drift."""

import math
from dataclasses import replace

import array_api_strict as strict
import numpy as np
import pytest

from photonics import DMD, GaussianMedium, Laser
from photonics.analysis.speckle import optical_kernel
from photonics.backend import to_host
from photonics.parts.aberration import coefficient_drift, phase_parts

BENT = DMD(astigmatism_waves=0.8, defocus_waves=-0.5)
DRIFTING = replace(BENT, aberration_drift_waves=0.05, aberration_drift_time_s=10.0)
PERIOD_S = 1e-3


def unit_phase(astigmatism, defocus, x, y):
    """Phase at points, in turns, from the two parts on the grid of all x and all y."""
    of_x, of_y = phase_parts(astigmatism, defocus, x, y)
    return (of_y[:, None] + of_x[None, :]) / (2 * np.pi)


def test_polynomials_are_orthonormal_over_the_circle():
    """Rms 1 each, mean 0, no overlap, by a sum over a disc. Catches: another normalisation, a piston in defocus."""
    x = (np.arange(2000) + 0.5) / 1000 - 1
    disc = x[:, None] ** 2 + x**2 < 1
    both = np.stack([unit_phase(*coefficients, x, x)[disc] for coefficients in [(1.0, 0.0), (0.0, 1.0)]])
    np.testing.assert_allclose(both.mean(axis=1), 0, atol=1e-3)
    np.testing.assert_allclose(both @ both.T / disc.sum(), np.eye(2), atol=2e-3)


def test_polynomials_in_polar_form():
    """``sqrt(6) r^2 cos(2 phi)`` and ``sqrt(3) (2 r^2 - 1)``, mixed. Catches: sine for cosine, a swapped pair."""
    x, y = np.linspace(-1, 1, 7), np.linspace(-0.6, 0.9, 5)
    r, phi = np.hypot(x, y[:, None]), np.arctan2(y[:, None], x)
    expected = 0.7 * math.sqrt(6) * r**2 * np.cos(2 * phi) - 0.4 * math.sqrt(3) * (2 * r**2 - 1)
    np.testing.assert_allclose(unit_phase(0.7, -0.4, x, y), expected, atol=1e-12)


def test_phase_lies_on_the_chip():
    """At the corners of the chip r = 1, in its middle 0, symmetric. Catches: the inscribed circle, x and y swapped."""
    dmd, n_in = DMD(macropixel=2, defocus_waves=1.0), 512 * 384
    grid = dmd.phase(n_in).reshape(384, 512) / (2 * np.pi)
    assert grid[0, 0] == pytest.approx(math.sqrt(3), rel=0.01)
    assert grid[191, 255] == pytest.approx(-math.sqrt(3), rel=0.01)
    np.testing.assert_allclose(grid, grid[::-1, ::-1], atol=1e-9)
    astigmatic = replace(dmd, defocus_waves=0.0, astigmatism_waves=1.0).phase(n_in).reshape(384, 512) / (2 * np.pi)
    assert astigmatic[192, 0] == pytest.approx(math.sqrt(6) * 1024**2 / (1024**2 + 768**2), rel=0.01)
    assert astigmatic[0, 256] == pytest.approx(-math.sqrt(6) * 768**2 / (1024**2 + 768**2), rel=0.01)


@pytest.mark.parametrize("n_in", [40, 64, 1])
def test_every_mirror_gets_its_phase(n_in):
    """The flat chip's field times ``exp(i phase)``, ON or OFF. Catches: a conjugate, a phase on ON mirrors alone."""
    patterns = np.arange(2 * n_in).reshape(2, n_in) % 3 == 0
    light = np.linspace(1, 2, 2 * n_in, dtype=np.float32).reshape(2, n_in)
    flat = replace(BENT, astigmatism_waves=0.0, defocus_waves=0.0)
    bent = BENT.modulate(patterns, light)
    assert bent.dtype == np.complex64
    np.testing.assert_allclose(bent, flat.modulate(patterns, light) * np.exp(1j * BENT.phase(n_in)), atol=1e-6)
    assert flat.modulate(patterns, light).dtype == np.float32
    off, on = BENT.levels(n_in)
    np.testing.assert_allclose(np.abs(off / on) ** 2, 1e-3, rtol=1e-5)


@pytest.mark.parametrize("part", ["phase", "profile"])
def test_phase_keeps_the_kernel_and_amplitude_changes_it(part):
    """``mean I(x) I(y) = |gx|^2 |gy|^2 + ((gx).(gy))^2``, ``g`` the light on the mirrors, within 4.5 SE.

    A fixed phase of the chip leaves the kernel that of the patterns, though the frames change; a narrow beam does not.
    Catches: an aberration that scales the amplitude, a phase that changes from frame to frame, a flat beam.
    """
    n_in, n_out = 32, 60_000
    x = np.pad(np.repeat(np.tri(5, dtype=bool), 6, axis=1), ((0, 0), (0, 2)))
    bent = part == "phase"
    laser = Laser(drift_rms=0.0, rin_db_per_hz=None, pointing_rad=0.0, beam_radius_m=None if bent else 3e-4)
    dmd = DMD(contrast=None, macropixel=8, defocus_waves=40.0 if bent else 0.0)
    light = laser.field(dmd.cells(n_in), np.arange(5), exposure_s=1e-4, frame_period_s=PERIOD_S, seed=0)
    light /= np.sqrt(np.mean(light.astype(np.float64) ** 2))
    medium = GaussianMedium(n_in, n_out, seed=10)
    intensity = np.abs(medium.propagate(dmd.modulate(x, light))).astype(np.float64) ** 2
    products = intensity[:, None] * intensity[None]
    error = products.std(axis=-1) / math.sqrt(n_out)

    def deviation(gx):
        return np.abs((products.mean(axis=-1) - optical_kernel(gx, gx, 1 / n_in)) / error).max()

    assert deviation(light * x) < 4.5
    assert (deviation(1.0 * x) < 4.5) == bent
    plain = np.abs(medium.propagate(1.0 * x)) ** 2
    assert np.abs(intensity - plain).max() > 1.0


@pytest.mark.parametrize("lag", [1, 700, 5000])
def test_drift_correlation(lag):
    """``exp(-lag step)``, variance 1, the two coefficients independent, over 4000 seeds to 4.5 SE.

    Catches: one process for both, a key that another seed has too (seed + 1), a time constant in frames.
    """
    seeds, step = 4000, 1e-3
    x = np.stack([coefficient_drift(np.array([11, 11 + lag]), step, seed) for seed in range(seeds)])  # seeds, 2, ticks
    exact, error = math.exp(-lag * step), 4.5 / math.sqrt(seeds)
    assert np.abs((x**2).mean(axis=0) - 1).max() < error * math.sqrt(2)
    assert np.abs((x[:, :, 0] * x[:, :, 1]).mean(axis=0) - exact).max() < error * math.sqrt(1 + exact**2)
    assert np.abs(np.einsum("sa,sb->ab", x[:, 0], x[:, 1]) / seeds).max() < error
    for shift in (1, 2):
        assert np.abs(np.einsum("ska,sla->kl", x[shift:], x[:-shift]) / seeds).max() / 2 < error


def test_drift_moves_the_phase():
    """The rms of each coefficient over seeds is that asked for, in waves, within 4 SE. Catches: waves for radians."""
    dmd, seeds = DMD(aberration_drift_waves=0.3, macropixel=64), 600
    phases = np.stack([dmd.phase(192, np.array([5]), PERIOD_S, seed)[0] for seed in range(seeds)]) / (2 * np.pi)
    shapes = [replace(dmd, **{name: 1.0}).phase(192) / (2 * np.pi) for name in ("astigmatism_waves", "defocus_waves")]
    coefficients, residual, *_ = np.linalg.lstsq(np.stack(shapes, axis=1), phases.T, rcond=None)
    assert np.abs(residual).max() < 1e-20
    assert np.abs((coefficients**2).mean(axis=1) / 0.09 - 1).max() < 4 * math.sqrt(2 / seeds)


def test_drift_on_the_field():
    """Each frame has the phase of its number, in any order and split. Catches: the fixed part twice."""
    n_in, ticks = 40, np.array([2**40, 3, 500, 3])
    rng = np.random.default_rng(0)
    patterns, light = rng.random((4, n_in)) < 0.5, rng.random((4, n_in), np.float32)
    whole = DRIFTING.modulate(patterns, light, ticks, PERIOD_S, 7)
    phase = DRIFTING.phase(n_in, ticks, PERIOD_S, 7)
    assert whole.dtype == np.complex64
    assert phase.shape == (4, n_in)
    flat = DMD().modulate(patterns, light)
    np.testing.assert_allclose(whole, flat * np.exp(1j * phase), atol=2e-6)
    for i in range(4):
        frame = slice(i, i + 1)
        one = DRIFTING.modulate(patterns[frame], light[frame], ticks[frame], PERIOD_S, 7)
        np.testing.assert_array_equal(whole[frame], one)
    assert np.abs(phase - BENT.phase(n_in)).max() > 0.05
    np.testing.assert_array_equal(phase[1], phase[3])
    np.testing.assert_array_equal(BENT.phase(n_in, ticks), np.broadcast_to(BENT.phase(n_in), (4, n_in)))
    assert DRIFTING.modulate(patterns[:0], light[:0], ticks[:0], PERIOD_S).shape == (0, n_in)


def test_a_drifting_surface_needs_frame_numbers():
    patterns, light = np.ones((1, 4), bool), np.ones((1, 4), np.float32)
    with pytest.raises(ValueError, match=r"^ticks must be given for a surface that drifts, got None$"):
        DRIFTING.modulate(patterns, light)
    with pytest.raises(ValueError, match=r"^frame_period_s must be above 0 for a surface that drifts, got None$"):
        DRIFTING.modulate(patterns, light, np.array([0]))


@pytest.mark.parametrize("dmd", [BENT, DRIFTING, replace(DRIFTING, stuck_fraction=0.1, leakage_phase_rad=1.0)])
def test_other_array_libraries(dmd):
    """A device that refuses implicit moves computes what numpy does. Catches: numpy called on the array."""
    device, n_in = strict.Device("device1"), 40
    rng = np.random.default_rng(1)
    patterns, light = rng.random((3, n_in)) < 0.5, rng.random((3, n_in), np.float32)
    there = dmd.modulate(*(strict.asarray(a, device=device) for a in (patterns, light)), np.arange(3), PERIOD_S, 2)
    assert there.device == device
    assert there.dtype == strict.complex64
    np.testing.assert_allclose(to_host(there), dmd.modulate(patterns, light, np.arange(3), PERIOD_S, 2), atol=1e-6)


def test_a_cold_chip_is_bent_and_straightens():
    """Defocus ``w exp(-t / t_w)`` besides the fixed part, on the field of each frame; a warm chip costs nothing.

    Catches: astigmatism for defocus, frames for seconds, a warm-up that waits for a drift.
    """
    dmd, ticks = replace(BENT, warm_up_waves=0.4, warm_up_time_s=2.0), np.array([0, 2000, 10**7])
    phase = dmd.phase(48, ticks, PERIOD_S) - BENT.phase(48)
    shape = DMD(defocus_waves=1.0).phase(48)
    np.testing.assert_allclose(phase, 0.4 * np.exp(-ticks / 2000.0)[:, None] * shape, atol=1e-9)
    patterns, light = np.ones((3, 48), bool), np.ones((3, 48), np.float32)
    field = dmd.modulate(patterns, light, ticks, PERIOD_S)
    np.testing.assert_allclose(field, BENT.modulate(patterns, light) * np.exp(1j * phase), atol=1e-5)
    with pytest.raises(ValueError, match=r"^frame_period_s must be above 0"):
        dmd.modulate(patterns, light, ticks)
