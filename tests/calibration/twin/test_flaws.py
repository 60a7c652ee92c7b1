"""Flaws of a camera that a twin does not have are told."""

from dataclasses import replace

import numpy as np
import pytest

from calibration.twin.evidence import read_evidence
from calibration.twin.pixels import check_camera
from calibration.twin.sensor import read_sensor
from calibration.twin.speckle import layout


def with_shorter_frames(device, seen):
    """The evidence with frames of all inputs ON that do not saturate all pixels at the longest of their exposures."""
    long = np.flatnonzero(seen.plain & (seen.on == seen.n_in) & (seen.exposure_s > seen.main_s))
    again = device.replace(seed=device.seed)
    again.clock.frames = int(seen.number[long[0]])
    frames, exposure_s = seen.frames.copy(), seen.exposure_s.copy()
    exposure_s[long] = 2.0 * seen.main_s
    frames[long] = again.measure(seen.patterns[long], 2.0 * seen.main_s)
    return replace(seen, frames=frames, exposure_s=exposure_s)


def test_flaws_that_are_not_fitted_are_told(recordings):
    """Noise of rows and columns, hot pixels, a curved response: a warning for each; sound frames: none.

    Catches: a read noise twice that of a pixel, a full well 10 standard errors off, without a word.
    """
    random = np.random.default_rng(0)
    for seed in recordings:
        seen = read_evidence(recordings[seed][1])
        check_camera(seen, read_sensor(seen), layout(seen))
    seen = with_shorter_frames(recordings[5][0], read_evidence(recordings[5][1]))
    check_camera(seen, read_sensor(seen), layout(seen))
    codes, shape, dark = seen.frames.astype(float), layout(seen), recordings[5][0].camera.offset
    images, top = codes.reshape(-1, *shape), float(seen.top)
    bent = dark + (codes - dark) * (1.0 - 0.1 * (codes - dark) / (top - dark))
    hot = codes + np.isin(np.arange(seen.n_out), (7, 30)) * seen.exposure_s[:, None] * 5e4
    for frames, message in (
        (images + random.normal(0.0, 6.0, (len(images), shape[0], 1)), r"^rows of dark frames fluctuate together by"),
        (images + random.normal(0.0, 6.0, (len(images), 1, shape[1])), r"^columns of dark frames fluctuate together"),
        (hot, r"^2 pixels \(7, 30\) are hot: "),
        (bent, r"^the response is -\d+\.\d% \(\d\.\d% s\.e\.\) off a straight line"),
    ):
        flawed = np.clip(np.rint(frames), 0.0, top).reshape(codes.shape).astype(seen.frames.dtype)
        wrong = replace(seen, frames=flawed)
        with pytest.warns(UserWarning, match=message) as told:
            check_camera(wrong, read_sensor(wrong), shape)
        assert len(told) == 1
