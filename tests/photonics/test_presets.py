"""The named devices: their figures and their frames."""

import math
import subprocess
import sys

import numpy as np
import pytest

from photonics import presets

every_preset = pytest.mark.parametrize("name", presets.PRESETS)


@pytest.mark.parametrize(
    ("name", "n_in", "n_out"), [("ideal", 1, 2), ("lab_bench", 20_000, 3), ("lighton_aurora", 20_000, 3)]
)
def test_every_preset_takes_frames(name, n_in, n_out):
    """Any size that fits, with an exposure that fits in a frame. Catches: a chip that is too small for its inputs."""
    opu = presets.get(name)(n_in, n_out, seed=1)
    assert (opu.n_in, opu.n_out) == (n_in, n_out)
    assert opu.exposure_s <= opu.frame_period_s
    frames = opu.measure(np.ones((2, n_in), bool))
    assert frames.shape == (2, n_out)
    assert frames.dtype == opu.camera.dtype


def test_a_single_pixel_raises_no_warning():
    """A photodiode behind one mirror, in a new process. Catches: a view that numpy will make read-only."""
    code = "from photonics import presets; presets.ideal(1, 1).measure([[True]])"
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@every_preset
def test_frames_are_neither_dark_nor_saturated(name):
    """Half-ON patterns: a mean of 5 to 25 % of the range, under 1 % clipped. Catches: a power or exposure off by 4."""
    opu = presets.get(name)(1024, 2000)
    frames = opu.measure(np.random.default_rng(0).random((16, 1024)) < 0.5)
    mean = (frames.mean() - opu.camera.offset) / (opu.camera.top - opu.camera.offset)
    assert 0.05 < mean < 0.25
    assert (frames == opu.camera.top).mean() < 0.01


@pytest.mark.parametrize(
    ("name", "n_in", "low", "high"),
    [
        ("ideal", 64, 10, 11),
        ("ideal", 10_000, 10, 11),
        ("lab_bench", 64, 10, 11),
        ("lab_bench", 1000, 10, 11),
        ("lab_bench", 10_000, 5.4, 5.6),
        ("lighton_aurora", 64, 10, 11),
        ("lighton_aurora", 1000, 10, 11),
        ("lighton_aurora", 10_000, 3.5, 4.5),
    ],
)
def test_the_exposure_is_what_the_docstring_says(name, n_in, low, high):
    """Mean of half-ON patterns over the range, per cent: `OPU.unit_dn` times half the light and the leakage.

    Catches: an efficiency (blaze, fill factor) that a throughput was not chosen for.
    """
    opu = presets.get(name)(n_in, 1)
    share = (1.0 + abs(opu.dmd.leakage) ** 2) / 2.0
    assert low < 100.0 * share * opu.unit_dn / (opu.camera.top - opu.camera.offset) < high


def test_lab_bench_is_exposed_as_autoexpose_does():
    """Its exposure is that of `OPU.autoexpose` within 10 %. Catches: a stale figure."""
    opu = presets.lab_bench(1024, 4000)
    assert opu.exposure_s == pytest.approx(opu.replace().autoexpose(), rel=0.1)


def test_ideal_has_no_noise_or_errors():
    """Only shot noise, under 1e-4 of the mean signal, and rounding. Catches: a default that is not overridden."""
    opu = presets.ideal(100, 200)
    camera, mirrors = opu.camera, opu.dmd
    assert (camera.read_noise_e, camera.dark_current_e_per_s, camera.prnu, camera.dsnu_e) == (0, 0, 0, 0)
    assert (camera.bit_depth, camera.quantum_efficiency, mirrors.contrast, mirrors.stuck_fraction) == (16, 1, None, 0)
    assert opu.laser.power_variance(opu.exposure_s) == 0
    assert np.ptp(opu.laser.power_share(opu.cells)) == pytest.approx(0, abs=1e-12)
    pattern = np.ones((1, 100), bool)
    frames = opu.measure(np.repeat(pattern, 100, axis=0)).astype(float)
    assert frames.max() < camera.top
    signal = frames.mean(axis=0) - camera.offset
    shot = np.sqrt(np.maximum(frames.var(axis=0) - 0.25, 0))  # rounding of a constant gives at most 1/4
    assert shot.max() < 1e-4 * signal.mean()


def test_lighton_aurora_has_the_published_figures():
    """1140 x 912 mirrors, 2040 x 1088 pixels of 8 bits, 400 of 500 us exposed, 30 W. Catches: a typing error."""
    opu = presets.lighton_aurora(1000, 10)
    assert (opu.dmd.columns, opu.dmd.rows, opu.camera.bit_depth) == (1140, 912, 8)
    assert (opu.frame_period_s, opu.exposure_s, opu.electrical_power_w) == (pytest.approx(500e-6), 400e-6, 30.0)
    assert presets.lighton_aurora(1, 2040 * 1088).n_out == 2_219_520
    with pytest.raises(ValueError, match=r"^n_out must be an integer, 1 to 2219520, got 2219521"):
        presets.lighton_aurora(1, 2040 * 1088 + 1)


@pytest.mark.parametrize("n_in", [1, 12_288, 12_289, 786_432])
def test_the_largest_macropixel_that_fits(n_in):
    """Up to 8 x 8 mirrors; one size more would not fit. Catches: inputs that fall off the chip, wasted mirrors."""
    side = presets.lab_bench(n_in, 1).dmd.macropixel
    assert n_in <= (1024 // side) * (768 // side)
    assert side == 8 or n_in > (1024 // (side + 1)) * (768 // (side + 1))


@every_preset
def test_too_many_inputs_are_refused(name):
    with pytest.raises(ValueError, match=r"^n_in must be 1 to \d+ on a chip of"):
        presets.get(name)(1140 * 912 + 1, 1)


@pytest.mark.parametrize("wrong", [{"n_in": 0}, {"n_out": 0}, {"n_in": 2.5}, {"seed": -1}, {"seed": math.nan}])
@pytest.mark.parametrize("name", ["lighton_aurora"])
def test_bad_arguments_are_named(name, wrong):
    with pytest.raises(ValueError, match=rf"{next(iter(wrong))} must be"):
        presets.get(name)(**({"n_in": 4, "n_out": 4, "seed": 0} | wrong))


def test_unknown_preset():
    with pytest.raises(
        ValueError, match=r"^preset must be one of ideal, lab_bench, lighton_aurora, or .* \.toml, got 'bench'"
    ):
        presets.get("bench")
