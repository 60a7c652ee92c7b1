"""The device: reproducible frames, the clock, and a mean that the ground truth predicts."""

import copy
import os
import pickle
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from photonics import DMD, OPU, Camera, GaussianMedium, Imaging, Laser, MatrixMedium, presets
from photonics.analysis.moments import noiseless_photons
from photonics.chain import Clock

every_preset = pytest.mark.parametrize("name", presets.PRESETS)

DIGEST = """
import hashlib
import numpy as np
from photonics import DMD, presets
patterns = np.random.default_rng(5).random((150, 123)) < 0.5
digest = hashlib.sha256()
for name in sorted(presets.PRESETS):
    opu = presets.get(name)(123, 3001, seed=7)
    digest.update(opu.measure(patterns).tobytes())
    opu = opu.replace(dmd=DMD(leakage_phase_rad=1.0, frame_rate_hz=500.0, stuck_fraction=1e-3))
    digest.update(opu.measure(patterns).tobytes())
print(digest.hexdigest())
"""


@pytest.mark.parametrize(
    ("name", "n_in", "n_out", "phase"),
    [("ideal", 317, 1203, 0.0), ("lab_bench", 256, 1000, 1.0), ("lighton_aurora", 317, 1203, 1.0)],
)
def test_batch_split_changes_nothing(half_on, name, n_in, n_out, phase):
    """64 frames at once or one at a time, real and complex fields: the same bits.

    Catches: products whose shape follows the batch, noise by place in the batch, a clock that does not advance.
    """
    patterns = half_on(64, n_in)
    opu = presets.get(name)(n_in, n_out, seed=2)
    opu = opu.replace(dmd=replace(opu.dmd, contrast=1000.0, leakage_phase_rad=phase))
    whole, single = opu.measure(patterns), opu.replace()
    np.testing.assert_array_equal(np.concatenate([single.measure(patterns[i : i + 1]) for i in range(64)]), whole)


def test_batches_beyond_the_chunk(half_on, monkeypatch):
    """More frames than are computed at a time, split off the chunk's edge. Catches: ticks that start again."""
    patterns = half_on(700, 64)
    opu = presets.lab_bench(64, 100)
    whole, split = opu.measure(patterns), opu.replace()
    monkeypatch.setattr("photonics.chain.CHUNK", 64 * 100)
    np.testing.assert_array_equal(np.concatenate([split.measure(patterns[:300]), split.measure(patterns[300:])]), whole)
    assert opu.clock.frames == 700


def test_threads_change_nothing(half_on, set_threads):
    """One thread or two within a process. Catches: results that depend on the number of threads."""
    patterns, frames = half_on(100, 256), []
    for count in (1, 2):
        set_threads(count)
        frames.append(presets.ideal(256, 3001).measure(patterns))
    np.testing.assert_array_equal(*frames)


def test_fresh_processes_agree():
    """With 1 and with several threads of numba and BLAS, every preset. Catches: frames that depend on threads."""
    digests = set()
    for numba_threads, blas_threads in ((1, 1), (3, 2)):
        threads = {"NUMBA_NUM_THREADS": str(numba_threads), "OPENBLAS_NUM_THREADS": str(blas_threads)}
        run = subprocess.run(
            [sys.executable, "-c", DIGEST], env=os.environ | threads, capture_output=True, text=True, check=True
        )
        digests.add(run.stdout)
    assert len(digests) == 1


@every_preset
def test_same_seed_same_frames(half_on, name):
    """Another seed gives another device: medium, sensor and noise. Catches: a seed that is not passed on."""
    patterns, make = half_on(5, 100), presets.get(name)
    frames, again, other = (make(100, 200, seed=seed).measure(patterns) for seed in (4, 4, 5))
    np.testing.assert_array_equal(frames, again)
    assert abs(np.corrcoef(frames.ravel(), other.ravel())[0, 1]) < 4 / np.sqrt(1000)


def test_the_run_and_the_device_have_their_own_seeds(half_on):
    """``replace(seed=...)`` changes the noise and nothing else. Catches: noise that follows the camera's seed."""
    patterns, n = np.repeat(half_on(1, 100), 64, axis=0), 64 * 500
    steady = presets.lab_bench(100, 500).replace(laser=Laser(drift_rms=0.0, rin_db_per_hz=None))
    a, b = (opu.measure(patterns).astype(float) for opu in (steady, steady.replace(seed=9)))
    assert np.corrcoef(a.mean(axis=0), b.mean(axis=0))[0, 1] > 0.999
    noise = [(frames - frames.mean(axis=0)).ravel() for frames in (a, b)]
    assert abs(np.corrcoef(*noise)[0, 1]) < 4 / np.sqrt(n)


def test_clock_counts_frames(half_on):
    """Measured, dark and autoexposure frames all take time. Catches: a clock that counts calls."""
    opu = presets.lab_bench(30, 40)
    opu.measure(half_on(3, 30))
    assert opu.clock.frames == 3
    opu.dark(4)
    assert opu.clock.frames == 7
    opu.measure(half_on(0, 30))
    assert opu.clock.frames == 7
    np.testing.assert_array_equal(Clock(10).advance(3), [10, 11, 12])
    # A frame follows its number: a device whose clock is put back repeats itself.
    opu.clock.frames = 0
    np.testing.assert_array_equal(opu.measure(np.zeros((2, 30))), opu.replace().measure(np.zeros((2, 30))))


def test_threads_share_a_clock():
    """8 threads, 4000 frames each, one to three at a time: every frame number once. Catches: a clock without a lock."""
    clock, before = Clock(5), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            runs = pool.map(lambda _: [clock.advance(1 + i % 3) for i in range(2000)], range(8))
            ticks = np.concatenate([np.concatenate(run) for run in runs])
    finally:
        sys.setswitchinterval(before)
    np.testing.assert_array_equal(np.sort(ticks), np.arange(5, clock.frames))


def test_a_copy_repeats_its_noise_and_a_spawned_device_does_not(half_on):
    """Copies have the frames of the original; spawned ones share the device and no noise beyond 4 standard errors.

    Catches: a clock that cannot be copied, a run that starts at frame 0, two indices with one seed, a seed derived from
    the camera's, a spawned device of a spawned one that is the first again.
    """
    patterns, n = np.repeat(half_on(1, 100), 64, axis=0), 64 * 500
    opu = presets.lab_bench(100, 500, seed=3).replace(laser=Laser(drift_rms=0.0, rin_db_per_hz=None), exposure_s=3e-4)
    opu.measure(patterns[:7])
    copies = [copy.deepcopy(opu), pickle.loads(pickle.dumps(opu))]
    runs = [opu.spawn(0), opu.spawn(1), opu.spawn(2**64 - 1), opu.spawn(0).spawn(0), opu.spawn(0).spawn(1)]
    again = opu.spawn(1).measure(patterns)
    assert {run.clock.frames for run in runs} == {7} and {run.exposure_s for run in runs} == {3e-4}
    assert all(run.medium is opu.medium and run.camera == opu.camera for run in runs)
    first = opu.measure(patterns)
    for other in copies:
        np.testing.assert_array_equal(other.measure(patterns), first)
    frames = [first, *(run.measure(patterns) for run in runs)]
    np.testing.assert_array_equal(frames[2], again)
    noise = np.array([(each - each.mean(axis=0, dtype=float)).ravel() for each in frames])
    assert np.abs(np.corrcoef(noise) - np.eye(6)).max() < 4 / np.sqrt(n)
    means = np.corrcoef([each.mean(axis=0) for each in frames])
    assert means.min() > 0.999
    with pytest.raises(ValueError, match=r"^index must be an integer, 0 to 18446744073709551615, got -1$"):
        opu.spawn(-1)


def test_repeated_patterns_give_new_noise(half_on):
    """The same pattern twice is two frames. Catches: noise that follows the pattern."""
    frames = presets.lab_bench(100, 1000).measure(np.repeat(half_on(1, 100), 2, axis=0))
    assert (frames[0] != frames[1]).mean() > 0.2


def test_a_bad_call_takes_no_frames():
    """The clock stands still when the input is refused. Catches: advancing before checking."""
    opu = presets.lab_bench(10, 10)
    for call in (lambda: opu.measure(np.ones((2, 9))), lambda: opu.measure(np.ones((2, 10)), exposure_s=1.0)):
        with pytest.raises(ValueError, match="must"):
            call()
    assert opu.clock.frames == 0


def test_dark_frames():
    """Shutter closed: mean and variance of the dark camera within 5 SE. Catches: light that leaks in."""
    opu, n = presets.lab_bench(20, 400), 2000
    camera = replace(opu.camera, gain_dn_per_e=0.5, offset_dn=20.0, dark_current_e_per_s=5e4)
    opu = opu.replace(camera=camera)
    dark, zero = opu.dark(n).astype(float), np.zeros((1, 400))
    variance = camera.variance(zero, opu.exposure_s)[0]
    z = (dark.mean(axis=0) - camera.mean(zero, opu.exposure_s)[0]) / np.sqrt(variance / n)
    assert np.abs(z).max() < 5
    assert np.abs(dark.var(axis=0) / variance - 1).max() < 5 * np.sqrt(2 / n)
    half = opu.dark(n, exposure_s=opu.exposure_s / 2)
    assert dark.mean() - half.mean() == pytest.approx(0.5 * camera.dark_electrons(opu.exposure_s) / 2, rel=0.05)


def photon_rate(opu, patterns):
    """Photons per second on each pixel that the ground truth predicts, without a call to the chain."""
    share, (off, on) = opu.laser.power_share(opu.cells), opu.dmd.levels(opu.n_in)
    scale = np.mean(share * np.abs(on - off) ** 2) * opu.laser.photon_rate * opu.n_in * opu.imaging.throughput
    scale = scale * opu.dmd.efficiency(opu.laser.wavelength_m)
    # An input sends off + (on - off) x: the matrix sees x + off / (on - off).
    lit = (patterns + off / (on - off)).astype(np.complex128)
    return scale * np.abs(lit @ opu.effective_matrix().T.astype(np.complex128)) ** 2


def test_ideal_frames_are_the_formula(half_on):
    """``rint(K rate t + offset)`` to half a DN and 6 shot noises of at most 0.5 DN. Catches: a stage that distorts."""
    opu, patterns = presets.ideal(128, 400, seed=3), half_on(40, 128)
    frames = opu.measure(patterns).astype(np.float64)
    electrons = photon_rate(opu, patterns) * opu.exposure_s
    expected = np.minimum(opu.camera.offset + opu.camera.gain * electrons, opu.camera.top)
    shot = opu.camera.gain * np.sqrt(electrons)
    assert np.all(np.abs(frames - expected) <= 0.5 + 6 * shot + 1e-6 * expected)
    assert frames.max() > 10_000


@pytest.mark.parametrize(
    ("contrast", "phase", "beam_radius_m", "stuck"),
    [(None, 0.0, 1e-3, 0.0), (500.0, 0.0, None, 0.0), (500.0, 2.0, 1e-3, 0.0), (500.0, 2.0, 7e-3, 0.2)],
)
def test_effective_matrix_predicts_the_mean(half_on, contrast, phase, beam_radius_m, stuck):
    """Mean of 400 frames of each pattern on each pixel, within 5 SE and without excess spread.

    Catches: illumination, leakage or stuck mirrors missing from the matrix, a rate that is off by 1 %.
    """
    laser = Laser(drift_rms=0.0, rin_db_per_hz=None, beam_radius_m=beam_radius_m, pointing_rad=0.0)
    dmd = DMD(contrast=contrast, leakage_phase_rad=phase, frame_rate_hz=1000.0, stuck_fraction=stuck)
    camera = Camera(bit_depth=12, gain_dn_per_e=0.4, full_well_e=1e5, offset_dn=20.0)
    opu = OPU(medium=GaussianMedium(100, 200, seed=2), laser=laser, dmd=dmd, camera=camera)
    patterns, repeats = half_on(4, 100), 400
    rate = photon_rate(opu, patterns)
    opu.exposure_s = exposure_s = 1000.0 / rate.mean()
    photons = rate * exposure_s
    frames = opu.measure(np.repeat(patterns, repeats, axis=0)).reshape(4, repeats, 200).mean(axis=1)
    z = (frames - camera.mean(photons, exposure_s)) / np.sqrt(camera.variance(photons, exposure_s) / repeats)
    assert np.abs(z).max() < 5
    assert abs((z**2).mean() - 1) < 5 * np.sqrt(2 / z.size)
    power = (np.abs(opu.effective_matrix()) ** 2).mean() * 100
    assert abs(power - 1) < 0.1


FLAT = {
    "laser": Laser(beam_radius_m=None, rin_db_per_hz=None, drift_rms=0.0),
    "dmd": DMD(contrast=None),
    "imaging": Imaging(throughput=1e-8),
}
"""The same bench for any number of inputs: a flat beam, mirrors that are dark when OFF, one light path."""


def photons_of(opu, lit):
    """Mean photons on each pixel with the first `lit` inputs ON."""
    return noiseless_photons(opu, np.arange(opu.n_in)[None] < lit, 4e-4)[0](0.0)[0]


def test_the_light_of_a_mirror_does_not_depend_on_the_others():
    """16 lit mirrors of 16, 256 and 4096: the mean photons within 4 standard errors of the power meter's.

    Before, they were 2240, 140 and 8.8 electrons. Catches: a throughput that is shared by all inputs.
    """
    expected = []
    for n_in in (16, 256, 4096):
        opu = OPU(medium=GaussianMedium(n_in, 4000, seed=1), **FLAT)
        mirror = opu.laser.photon_rate * float(opu.laser.power_share(opu.cells)[0]) * opu.dmd.efficiency(532e-9)
        expected.append(16 * mirror * opu.imaging.throughput * 4e-4)
        assert photons_of(opu, 16).mean() == pytest.approx(expected[-1], rel=4 / np.sqrt(4000))
        assert opu.unit_dn * opu.exposure_s**-1 == pytest.approx(
            n_in * mirror * opu.imaging.throughput * opu.camera.quantum_efficiency * opu.camera.gain
        )
    np.testing.assert_allclose(expected, expected[0], rtol=1e-9)


def test_inputs_that_are_off_change_nothing(half_on):
    """A matrix with more columns, in the unit of its size: the same photons to 1e-5, and the same frames.

    Catches: a mirror that dims others while it is OFF.
    """
    rng = np.random.default_rng(3)
    entries = rng.normal(size=(300, 256)) + 1j * rng.normal(size=(300, 256))
    few, many = (
        OPU(medium=MatrixMedium(entries[:, :n_in] / np.sqrt(2 * n_in)), exposure_s=2e-4, **FLAT) for n_in in (40, 256)
    )
    np.testing.assert_allclose(photons_of(many, 23), photons_of(few, 23), rtol=1e-5)
    patterns = half_on(50, 40)
    padded = np.pad(patterns, ((0, 0), (0, 216)))
    frames = few.measure(patterns), many.measure(padded)
    assert frames[0].std() > 5
    assert (frames[0] != frames[1]).mean() < 1e-3


def test_power_noise_is_common_to_the_frame():
    """Frame sums fluctuate by drift and RIN; the remainder is small. Catches: RIN per pixel."""
    laser = Laser(power_w=50.0, rin_db_per_hz=-60.0, drift_rms=0.02, pointing_rad=0.0)
    opu = presets.ideal(50, 300).replace(laser=laser)
    signal = opu.measure(np.ones((300, 50), bool)) - opu.camera.offset
    spread = signal - signal.mean(axis=0)
    singular = np.linalg.svd(spread, compute_uv=False)
    assert singular[1] < 0.01 * singular[0]
    relative = signal.sum(axis=1) / signal.sum(axis=1).mean() - 1
    assert abs(relative.std() / np.sqrt(opu.laser.rin_variance(opu.exposure_s)) - 1) < 4 / np.sqrt(600)


def test_exposure_scales_the_signal(half_on):
    """Twice the exposure, twice the signal, on one call or on the device. Catches: an exposure that is ignored."""
    opu, patterns = presets.ideal(64, 500), half_on(4, 64)
    short = opu.measure(patterns, exposure_s=1e-4) - opu.camera.offset
    long = opu.measure(patterns, exposure_s=2e-4) - opu.camera.offset
    assert np.abs(long - 2 * short).max() <= 5
    assert opu.exposure_s == 5e-4
    opu.exposure_s = 1e-4
    assert np.abs(opu.measure(patterns) - opu.camera.offset - short).max() <= 5


def peak_bytes(opu, patterns):
    """Peak memory of frames of a device whose matrix is not drawn yet."""
    tracemalloc.start()
    opu.measure(patterns)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_a_part_takes_its_share_of_the_memory(half_on):
    """A quarter of the peak, within 20 %. Catches: a part that draws the whole matrix."""
    patterns = half_on(64, 200)
    peaks = []
    for world in (1, 4):
        opu = OPU(medium=GaussianMedium(200, 40_000), imaging=Imaging(sensor=(200, 200)))
        peaks.append(peak_bytes(opu.part(0, world) if world > 1 else opu, patterns))
    assert peaks[1] < 1.2 * peaks[0] / 4


def test_parts_that_cannot_be_are_refused():
    """One line says what is allowed. A part of a part is one of the whole. Catches: parts without a pixel."""
    opu = presets.lab_bench(16, 100)
    for rank, world, says in [
        (0, 11, "world must be at most 10, the rows of a frame of 10 x 10 pixels .*, got 11"),
        (3, 3, "rank must be an integer, 0 to 2, got 3"),
        (0, 0, "world must be an integer, 1 or more, got 0"),
    ]:
        with pytest.raises(ValueError, match=rf"^{says}$"):
            opu.part(rank, world)
    opu.measure(np.ones((3, 16), bool))
    part = opu.part(1, 2).part(0, 2)
    assert part.clock.frames == 3 and part.exposure_s == opu.exposure_s
    np.testing.assert_array_equal(part.measure(np.eye(16) > 0), opu.measure(np.eye(16) > 0)[:, 50:70])
