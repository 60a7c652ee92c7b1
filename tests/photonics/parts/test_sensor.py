"""Which sensor it is, and which frame: what is fixed by a seed, what by a frame number, and what is refused."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from photonics import Camera
from photonics.parts.sensor import Window

EXPOSURE_S = 4e-4
CAMERA = Camera(bit_depth=12, prnu=0.02, dsnu_e=15.0, seed=9)


def light(batch, pixels=333, level=500.0):
    return np.linspace(0, level, batch * pixels, dtype=np.float32).reshape(batch, pixels)


@pytest.mark.parametrize("name", ["prnu", "dsnu"])
def test_nonuniformity_has_its_standard_deviation(name):
    """Over pixels, within 4 SE, and Gaussian (third moment). Catches: a variance taken for a deviation."""
    n = 2**18
    camera = Camera(bit_depth=16, prnu=0.03, dsnu_e=2.0)  # codes finer than the noise, so that their mean is linear
    dark, bright = (camera.mean(np.full((1, n), level), EXPOSURE_S)[0] / camera.gain for level in (0.0, 1000.0))
    values = (bright - dark) / 600.0 - 1 if name == "prnu" else dark - dark.mean()
    expected = 0.03 if name == "prnu" else 2.0
    assert abs(values.std() / expected - 1) < 4 / np.sqrt(2 * n)
    assert abs(values.mean()) < 4 * expected / np.sqrt(n)
    assert abs((values**3).mean()) < 4 * expected**3 * np.sqrt(15 / n)


def test_prnu_and_dsnu_are_independent():
    """No correlation over pixels beyond 4 SE. Catches: one stream for both."""
    n = 2**16
    camera = Camera(bit_depth=16)
    dark, bright = (camera.mean(np.full((1, n), level), EXPOSURE_S)[0] for level in (0.0, 1000.0))
    assert abs(np.corrcoef(dark, bright - dark)[0, 1]) < 4 / np.sqrt(n)


def test_pattern_follows_the_camera_and_noise_the_run():
    """Averages of two runs share the pattern of their sensor; those of two sensors do not.

    Catches: PRNU or DSNU drawn from the seed of the run, or anew in each frame.
    """
    photons, ticks, n = np.full((400, 2000), 300.0, np.float32), np.arange(400), 2000

    def average(camera, seed):
        return camera.expose(photons, EXPOSURE_S, ticks, seed=seed).mean(axis=0)

    first, second = average(CAMERA, 1), average(CAMERA, 2)
    other = average(replace(CAMERA, seed=10), 1)
    # Pattern (15 e)^2 + (0.02 180 e)^2 = 238, noise of an average (180 + 6) / 400: correlation 0.998.
    assert np.corrcoef(first, second)[0, 1] > 0.99
    assert abs(np.corrcoef(first, other)[0, 1]) < 4 / np.sqrt(n)


def test_two_cameras_of_a_run_do_not_share_their_noise():
    """No correlation beyond 4 SE, for seeds that differ in either half; the default run is that of the camera's seed.

    Catches: noise that follows the seed of the run alone, or the camera's alone.
    """
    photons, ticks = np.full((40, 2000), 300.0, np.float32), np.arange(40)
    cameras = [replace(CAMERA, prnu=0.0, dsnu_e=0.0, seed=seed) for seed in (9, 10, 9 + 2**32)]
    frames = [camera.expose(photons, EXPOSURE_S, ticks, seed=run) for camera in cameras for run in (9, 1, 2**40)]
    noise = np.array([each.ravel() - each.mean(dtype=float) for each in frames])
    assert np.abs(np.corrcoef(noise) - np.eye(9)).max() < 4 / np.sqrt(photons.size)
    np.testing.assert_array_equal(frames[0], cameras[0].expose(photons, EXPOSURE_S, ticks))


def test_dead_pixels_do_not_see_light():
    """Their share within 4 SE, always the same ones of a sensor, and exactly the others of a sensor that has none.

    Catches: a share of the frames instead of the pixels, dead pixels that are dark-free, PRNU or noise drawn anew.
    """
    n, share = 2**16, 0.03
    dying = replace(CAMERA, dead_pixels=share)
    bright, whole = (c.expose(np.full((2, n), 4000.0), EXPOSURE_S, [0, 7]).astype(int) for c in (dying, CAMERA))
    dark = dying.expose(np.zeros((2, n)), EXPOSURE_S, [0, 7]).astype(int)
    dead = (bright == dark).all(axis=0)
    assert abs(dead.mean() - share) < 4 * np.sqrt(share / n)
    np.testing.assert_array_equal(bright[:, ~dead], whole[:, ~dead])
    assert (bright[:, ~dead] > dark[:, ~dead]).all()
    # They still show DSNU and read noise: 15 e and 2.5 e at K = 0.4.
    assert abs(dark[0, dead].std() / (CAMERA.gain * np.hypot(15.0, 2.5)) - 1) < 4 / np.sqrt(2 * n * share)
    other = replace(dying, seed=10).mean(np.full((1, n), 4000.0), EXPOSURE_S)[0] < 500
    assert abs((other & dead).sum() - n * share**2) < 4 * np.sqrt(n * share**2)
    more = replace(dying, dead_pixels=0.06).mean(np.full((1, n), 4000.0), EXPOSURE_S)[0] < 500
    assert (more | ~dead).all()  # a larger share kills more pixels, and spares none


def test_pattern_of_a_pixel_does_not_depend_on_the_sensor_size():
    """Pixel 7 is pixel 7. Catches: a pattern drawn as a whole array."""
    small, large = (CAMERA.mean(np.full((1, n), 50.0), EXPOSURE_S)[0] for n in (10, 1000))
    np.testing.assert_array_equal(small, large[:10])


def test_a_window_is_a_crop_of_the_chip():
    """Frames, mean and variance, bit for bit; a window of another size is refused.

    Catches: flaws or noise drawn by the place in the window, rows for columns.
    """
    window, photons = Window(width=23, row=4, rows=5, column=9, columns=3), light(6, 14 * 23)
    camera = replace(CAMERA, dead_pixels=0.1)
    part = np.ascontiguousarray(photons.reshape(6, 14, 23)[:, 4:9, 9:12]).reshape(6, 15)
    for of in (
        lambda x, w: camera.expose(x, EXPOSURE_S, np.arange(6), window=w),
        lambda x, w: camera.mean(x, EXPOSURE_S, w),
        lambda x, w: camera.variance(x, EXPOSURE_S, w),
        lambda x, w: camera.signal(x, w),
    ):
        whole = of(photons, None).reshape(6, 14, 23)
        np.testing.assert_array_equal(of(part, window), whole[:, 4:9, 9:12].reshape(6, 15))
    with pytest.raises(ValueError, match=r"^photons must have 15 pixels, as the window has, got 14$"):
        camera.mean(part[:, :14], EXPOSURE_S, window)


def test_same_tick_same_noise():
    """A frame is a function of its number. Catches: noise that follows the place in the batch."""
    photons = np.tile(light(1, level=100.0), (4, 1))
    frames = CAMERA.expose(photons, EXPOSURE_S, [5, 6, 5, 2**40])
    np.testing.assert_array_equal(frames[0], frames[2])
    for other in (1, 3):
        assert (frames[0] != frames[other]).mean() > 0.5


@pytest.mark.parametrize("tick", [1, 2**32, 2**62])
def test_frames_of_different_ticks_are_independent(tick):
    """Noise of two frames: no correlation beyond 4 SE, far apart too. Catches: a tick cut to 32 bits."""
    n = 2**16
    photons = np.full((2, n), 200.0, np.float32)
    frames = replace(CAMERA, prnu=0.0, dsnu_e=0.0).expose(photons, EXPOSURE_S, [0, tick]).astype(float)
    assert abs(np.corrcoef(frames)[0, 1]) < 4 / np.sqrt(n)


def test_shot_and_read_noise_and_pixels_are_independent():
    """Neighbouring pixels do not correlate, at any lag to 8, beyond 4 SE. Catches: one word used for two pixels."""
    n = 2**18
    frame = replace(CAMERA, prnu=0.0, dsnu_e=0.0).expose(np.full((1, n), 20.0), EXPOSURE_S, [0])[0].astype(float)
    frame -= frame.mean()
    for lag in range(1, 9):
        assert abs((frame[lag:] * frame[:-lag]).mean() / frame.var()) < 4 / np.sqrt(n)


@pytest.mark.parametrize("sizes", [[1] * 100, [31, 1, 32, 36]], ids=str)
def test_batch_split_changes_nothing(sizes):
    """Bit for bit, around the 32 frames that a thread takes. Catches: a counter that starts again in each block."""
    photons, ticks = light(100), 7 + np.arange(100)
    edges = np.cumsum([0, *sizes])
    parts = [CAMERA.expose(photons[a:b], EXPOSURE_S, ticks[a:b]) for a, b in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(parts), CAMERA.expose(photons, EXPOSURE_S, ticks))


def test_threads_change_nothing(set_threads):
    """Bit for bit on one thread and on two. Catches: a result that depends on who computes it."""
    frames = []
    for count in (1, 2):
        set_threads(count)
        frames.append(CAMERA.expose(light(200), EXPOSURE_S, np.arange(200)))
    np.testing.assert_array_equal(*frames)


def test_inputs_are_not_modified():
    photons = light(3).astype(np.float32)
    before = photons.copy()
    CAMERA.expose(photons, EXPOSURE_S, np.arange(3))
    np.testing.assert_array_equal(photons, before)


def test_empty_batch():
    assert CAMERA.expose(np.zeros((0, 5)), EXPOSURE_S, np.zeros(0, int)).shape == (0, 5)


GOOD = {"photons": np.ones((2, 5)), "exposure_s": EXPOSURE_S, "ticks": [0, 1]}
BAD = [
    ("photons", np.ones(5)),
    ("photons", np.full((2, 5), np.nan)),
    ("photons", np.array([[1.0, -1e-6]] * 2)),
    ("exposure_s", 0.0),
    ("exposure_s", np.nan),
    ("ticks", [0]),
    ("ticks", [0.0, 1.0]),
    ("ticks", [0, -1]),
    ("seed", -1),
    ("seed", 2**64),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_input_is_named(name, value):
    """One line that names the argument. Catches: a check removed."""
    with pytest.raises(ValueError, match=rf"^{name} must be|^{name} must have") as error:
        CAMERA.expose(**(GOOD | {name: value}))
    assert "\n" not in str(error.value)
