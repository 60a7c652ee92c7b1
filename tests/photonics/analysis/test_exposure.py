"""Autoexposure: bright enough, not clipped, or a clear refusal."""

from dataclasses import replace

import numpy as np
import pytest

from photonics import DMD, Imaging, Laser, presets

PERIOD_S = 1e-3


def level(opu, patterns):
    """99th percentile of new frames, share of the range from offset to the last code."""
    span = opu.camera.top - opu.camera.offset
    return (np.percentile(opu.measure(patterns), 99) - opu.camera.offset) / span


def bench(n_in=1024, n_out=4000, **changes):
    """A bench with enough pixels for a percentile (8 x 4000: SE 1.2 %) and inputs for patterns of one power (1.1 %)."""
    return presets.lab_bench(n_in, n_out).replace(**changes)


@pytest.mark.parametrize(("target", "power_w"), [(0.1, 5.0), (0.5, 0.3), (0.5, 1.0), (0.9, 5.0)])
def test_target_is_reached(half_on, target, power_w):
    """On new patterns within 9 % (2 % of convergence, 4 SE of 1.7 %), from dim and from saturated starts.

    Catches: an offset that is not subtracted, a search that stops while saturated.
    """
    opu = bench(laser=Laser(power_w=power_w))
    exposure = opu.autoexpose(target)
    assert opu.exposure_s == exposure < opu.frame_period_s
    assert opu.clock.frames >= 8
    assert level(opu, half_on(8, 1024)) == pytest.approx(target, rel=0.09)


def test_a_target_just_within_reach():
    """Saturated at first, right at about 2 us: found, not refused. Catches: a step that leaves the range."""
    opu = bench(laser=Laser(power_w=40.0))
    assert opu.autoexpose(0.9) == pytest.approx(2e-6, rel=0.5)


@pytest.mark.parametrize("target", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_codes_too_coarse_to_read_the_target(half_on, bits, target):
    """Right to half a code, as measured by a finer camera (2 % and 4 SE as above); exact for 0.5, between two codes.

    Catches: a tolerance finer than the reading, a search that takes the first code that comes near.
    """
    opu = bench(**{"camera.bit_depth": bits})
    opu.autoexpose(target)
    assert opu.clock.frames <= 8 * 10
    half_code = 0.5 / (opu.camera.top - opu.camera.offset) if target != 0.5 else 0.0
    error = abs(level(opu.replace(**{"camera.bit_depth": 16}), half_on(8, 1024)) - target)
    assert error < 0.09 * target + half_code


def test_users_patterns_count():
    """Sparse patterns need a longer exposure, in proportion to the light. Catches: patterns that are not used."""
    sparse, dense = np.zeros((8, 1024), bool), np.ones((8, 1024), bool)
    sparse[:, ::4] = True
    bright = bench(laser=Laser(power_w=1.0), dmd=DMD(contrast=None, frame_rate_hz=1000.0))
    ratio = bright.autoexpose(0.5, patterns=sparse) / bright.autoexpose(0.5, patterns=dense)
    assert ratio == pytest.approx(4, rel=0.15)  # 8 equal frames each: 4 SE of the ratio of two percentiles


def test_frames_with_the_reference_beam():
    """They are at the target, and brighter than those without. Catches: a phase that is not passed on."""
    opu = presets.lab_bench(64, 400, seed=1)
    plain_s = opu.autoexpose()
    opu.autoexpose(target=0.5, patterns=np.tri(64) > 0, reference_phase=0.3)
    frames = opu.measure(np.tri(64) > 0, reference_phase=0.3)
    span = opu.camera.saturation_dn - opu.camera.offset
    assert abs((np.percentile(frames, 99) - opu.camera.offset) / span - 0.5) < 0.02
    assert opu.exposure_s < 0.8 * plain_s


def test_mean_speckle_sits_at_a_share_of_the_target(half_on):
    """At target 0.5 the mean is 0.5/4.6 of the range and few pixels clip. Catches: another percentile."""
    opu = bench(laser=Laser(power_w=1.0))
    opu.autoexpose(0.5)
    frames = opu.measure(half_on(64, 1024))
    span = opu.camera.top - opu.camera.offset
    assert (frames.mean() - opu.camera.offset) / span == pytest.approx(0.5 / np.log(100), rel=0.07)
    assert (frames == opu.camera.top).mean() < 4e-4


@pytest.mark.parametrize("bits", [1, 8])
def test_dim_light_takes_the_whole_frame(bits):
    """Not enough light for the target: the longest exposure, and no error. Catches: one longer than a frame."""
    opu = bench(laser=Laser(power_w=1e-6), **{"camera.bit_depth": bits})
    assert opu.autoexpose(0.5) == opu.longest_exposure_s == pytest.approx(PERIOD_S - 13e-6)


def test_no_light_at_all():
    opu = bench(dmd=replace(bench().dmd, contrast=None))
    assert opu.autoexpose(0.5, patterns=np.zeros((2, 1024), bool)) == opu.longest_exposure_s


@pytest.mark.parametrize("bits", [1, 8])
def test_too_much_light_is_refused(bits):
    """Saturated at the shortest exposure: one line names the laser's power; the exposure stays.

    Catches: a search that ends at its last step and calls it done.
    """
    opu = bench(laser=Laser(power_w=100.0), imaging=Imaging(throughput=1.0), **{"camera.bit_depth": bits})
    before = opu.exposure_s
    with pytest.raises(
        ValueError,
        match=r"^laser.power_w must be lower: frames are too bright at the shortest exposure of 1e-06 s, got 100 W$",
    ) as error:
        opu.autoexpose(0.5)
    assert "\n" not in str(error.value)
    assert opu.exposure_s == before


def test_same_device_same_exposure():
    """The patterns follow the seed. Catches: patterns from a global generator."""
    assert bench().autoexpose() == bench().autoexpose()


@pytest.mark.parametrize("target", [0.005, 0.95, np.nan])
def test_bad_target(target):
    with pytest.raises(ValueError, match=r"^target must be 0.01 to 0.9, got"):
        bench().autoexpose(target)


@pytest.mark.parametrize("patterns", [np.ones((2, 1023)), np.full((1, 1024), 0.5), np.ones(1024)])
def test_bad_patterns(patterns):
    with pytest.raises(ValueError, match=r"^patterns must"):
        bench().autoexpose(0.5, patterns=patterns)
