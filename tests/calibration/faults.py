"""Faults of a bench that are planted in the frames of a device."""

import numpy as np

FAULTS = {
    "a dropped frame": lambda frames, start: np.concatenate(
        [frames[: max(60 - start, 0)], frames[max(61 - start, 1) :], frames[-1:]]
    ),
    "doubled frames": lambda frames, _: np.repeat(frames[::2], 2, axis=0)[: len(frames)],
    "a camera that clips at 240 DN": lambda frames, _: np.minimum(frames, 240),
    "a camera that is not linear": lambda frames, _: np.rint(frames - 0.1 * frames.astype(float) ** 2 / 255.0),
    "stray light that changes": lambda frames, start: (
        frames + np.rint(np.random.default_rng(start).uniform(0.0, 10.0, (len(frames), 1)))
    ).clip(0, 255),
    "steps 5 % short": lambda frames, _: frames,
}


def with_fault(opu, name):
    """Frames of the device changed by a fault from `FAULTS`, dark frames excepted; unchanged if None."""
    take, taken = opu.measure, [0]

    def measure(patterns, *arguments, reference_phase=None):
        short = 0.95 if name == "steps 5 % short" and reference_phase is not None else 1.0
        phase = None if reference_phase is None else short * np.asarray(reference_phase)
        frames = take(patterns, *arguments, reference_phase=phase)
        start, taken[0] = taken[0], taken[0] + len(frames)
        if name is None or (name == "a dropped frame" and start + len(frames) <= 60):
            return frames
        return np.asarray(FAULTS[name](frames, start)).astype(frames.dtype)

    opu.measure = measure
    return opu


BAD_PIXELS = {"dead": 0, "dead, noisy": 0, "hot": 255}
"""Readings of bad pixels."""


def with_bad_pixels(opu, kind, pixels):
    """The device with some bad pixels, in the dark as well."""
    rng = np.random.default_rng(0)

    def spoil(frames):
        frames = np.array(frames)
        noise = rng.random((len(frames), len(pixels))) < (0.3 if kind == "dead, noisy" else 0.0)
        frames[:, pixels] = BAD_PIXELS[kind] + noise.astype(frames.dtype)
        return frames

    take, dark = opu.measure, opu.dark
    opu.measure = lambda *arguments, **more: spoil(take(*arguments, **more))
    opu.dark = lambda *arguments, **more: spoil(dark(*arguments, **more))
    return opu
