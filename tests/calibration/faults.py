"""Faults of a bench that are planted in the frames of a device."""

import numpy as np

DARK = 2.0
"""Dark level of `lab_bench`, DN."""

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


def slipped(frames, first, count):
    """Frames of which a run shows the next frame's pattern."""
    frames, run = frames.copy(), np.arange(first, min(first + count, len(frames)))
    frames[run] = frames[np.minimum(run + 1, len(frames) - 1)]
    return frames


def lost(frames, first):
    """Frames without one of them; the last one comes twice."""
    return np.concatenate([frames[:first], frames[first + 1 :], frames[-1:]])


def gamma(frames):
    """A curve that keeps 0 and 255 DN."""
    return 255.0 * (frames / 255.0) ** 1.15


def uneven(frames, each):
    """Light whose power changes by 5 % rms from vector to vector of so many frames."""
    power = np.random.default_rng(0).normal(1.0, 0.05, -(-len(frames) // each))
    return frames * np.repeat(power, each)[: len(frames), None]


def dimmed(frames):
    """Frames of half of the light."""
    return DARK + 0.5 * (frames - DARK)


def with_dead(frames):
    """Frames in which every hundredth pixel shows the dark level."""
    return np.where(np.arange(frames.shape[1]) % 100 == 50, DARK, frames)


KINDS = {
    "none": (lambda frames, each: frames, False),
    "one lost frame": (lambda frames, each: lost(frames, 60), False),
    "9 vectors show the next frame": (lambda frames, each: slipped(frames, len(frames) // 2, 9 * each), False),
    "doubled frames": (lambda frames, each: np.repeat(frames[::2], 2, axis=0)[: len(frames)], False),
    "steps 5 % short": (lambda frames, each: frames, False),
    "clips at 240 DN": (lambda frames, each: np.minimum(frames, 240), False),
    "gamma 1.15 from the start": (lambda frames, each: gamma(frames), True),
    "gamma 1.15 after the calibration": (lambda frames, each: gamma(frames), False),
    "8 % not linear, after": (lambda frames, each: frames - 0.08 * frames.astype(float) ** 2 / 255.0, False),
    "stray light, 1 DN": (lambda frames, each: frames + 1.0, False),
    "stray light, 5 DN": (lambda frames, each: frames + 5.0, False),
    "stray light that changes": (
        lambda frames, each: frames + np.random.default_rng(0).uniform(0.0, 0.1 * frames.mean(), (len(frames), 1)),
        False,
    ),
    "power that changes by 5 %": (uneven, False),
    "half of the light, after": (lambda frames, each: dimmed(frames), False),
    "1 % of the pixels dead, after": (lambda frames, each: with_dead(frames), False),
}
"""Faults of the table in docs/calibration.md: a function of frames (n, n_out) and of frames per vector, and whether the
camera has the fault in the calibration, too."""


def plant(opu, name, each=1):
    """Plant a fault from `KINDS` in the frames of a device, in dark frames too if it was there from the start."""
    change, early = KINDS[name]
    take, dark = opu.measure, opu.dark

    def spoil(frames):
        return np.rint(change(frames, each)).clip(0, 255).astype(frames.dtype)

    def measure(patterns, *arguments, reference_phase=None):
        short = 0.95 if name == "steps 5 % short" and reference_phase is not None else 1.0
        phase = None if reference_phase is None else short * np.asarray(reference_phase)
        return spoil(take(patterns, *arguments, reference_phase=phase))

    opu.measure = measure
    if early:
        opu.dark = lambda *arguments, **more: spoil(dark(*arguments, **more))
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
