"""Whether all frames are of one bench and one order of the pixels, from the speckle that patterns have in common."""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.fields.frame_prediction import independent_pixels
from photonics.arrays import BoolArray, FloatArray, IntArray

__all__ = ["Foreign", "Lit", "find_foreign"]

GROUP = 48
"""Largest number of images in a group that is compared with others."""
NEAR = 4000
"""Longest wait within a group, frames: the medium moves."""
LONG = 8
"""Number of frames from which on a run of one pattern is long."""
COMPARED = 4
"""Number of groups before a group with which it is compared."""
FRINGE_FRAMES = 24
"""Smallest number of frames of one pattern with the reference from which the power of the fringes is taken."""
FRINGE_PART = 12
"""Number of frames within which the reference's phase drifts little."""
FRINGE_IMAGES = 4
"""Largest number of images of the power of the fringes for a run of frames."""
MIN_SHARE = 0.3
"""Smallest share of inputs that are ON in a pattern that is compared; that all are OFF is compared, too."""
MIN_RELIABILITY = 0.2
"""Smallest share of the speckle in the variance of an image."""
MIN_SPECKLE_DN = 1.0
"""Smallest speckle of an image, DN: rounding is a pattern of its own."""
MAX_SATURATED = 0.05
"""Largest share of saturated readings in an image."""
EXCESS = 0.02
"""Variance of what the covariance of speckle intensities does not predict, over that of the speckle."""
SAME, OTHER = 0.7, 0.3
"""Correlation with the prediction over the expected one from which, and up to which, a group counts as of the same and
as of another bench. It was 0.8 to 1.4 on 35 sound devices, and within 4 standard errors of 0 for other media."""
OTHER_FRINGES = 0.2
"""`OTHER` for the power of fringes: with two polarisations they have the speckle of one of them, a ratio of 0.7."""
SPREADS = 3.0
"""Standard errors by which the correlation must be smaller than that of a sound group."""
MARGIN = 4.0
"""Groups this many times as far apart must agree for the medium to count as still."""
MAX_PIXELS = 1024
"""Number of pixels that are compared, spread over the sensor."""


class Lit(NamedTuple):
    """Frames with light in the order in which they were taken; N frames of n_out pixels."""

    patterns: BoolArray
    """Inputs that are ON: (N, n_in)."""
    phase: FloatArray
    """Phase of the reference beam, radians; NaN where its shutter was closed: (N,)."""
    exposure_s: FloatArray
    """Exposure, seconds: (N,)."""
    number: IntArray
    """Frame numbers: (N,)."""
    signal: Callable[[IntArray], FloatArray]
    """DN above dark of some frames: (k,) -> (k, n_out)."""
    variance: Callable[[FloatArray], FloatArray]
    """Variance of the noise of readings with this signal, DN^2."""
    full_dn: float
    """DN above dark from which a reading is saturated."""
    good: BoolArray
    """Pixels that count: (n_out,)."""


class Image(NamedTuple):
    """Speckle of one pattern: the mean of some frames, or the power of their fringes."""

    frames: IntArray
    """Places of the frames in `Lit`."""
    number: int
    """Number of the first frame."""
    pattern: NDArray[np.float64]
    """Inputs that are ON, a vector of length 1: (n_in,)."""
    values: FloatArray
    """Intensity over its mean, less 1: (n_pixels,)."""
    reliability: float
    """Share of the speckle in the variance of `values`."""
    kind: tuple[bool, bool]
    """Whether the reference was open, and whether the run of frames of this pattern is long."""


Group = list[Image]
"""Images that are near each other in time."""


class Foreign(NamedTuple):
    """Frames whose speckle is not that of the other frames."""

    frames: IntArray
    """Places of the frames in `Lit`."""
    moved: str
    """How the pixels must be moved to agree with the others, such as "transposed"; empty if that is not the fault."""


def find_foreign(lit: Lit, shape: tuple[int, int]) -> Foreign | None:
    """Find frames of another bench, or with pixels in another order; None if there are none, or frames do not tell.

    Patterns x and x' have speckle intensities with the correlation ``(x.x')^2 / (|x| |x'|)^2`` (Goodman, Speckle
    Phenomena in Optics, 2nd ed. 2020, ch. 3): all half-ON patterns have the speckle of all inputs ON in common. So has
    the leaked light of OFF mirrors, and the power of fringes is proportional to the intensity of the field. Each group
    of images is predicted from those before it. One that agrees with none of them is of another bench, unless the
    medium moves as fast: other groups that are as far apart must agree. The bench with most frames is the right one.

    Parameters
    ----------
    lit : Lit
        The frames.
    shape : tuple of int
        Rows and columns of a frame.
    """
    step = max(-(-int(lit.good.sum()) // MAX_PIXELS), 1)
    pixels = np.flatnonzero(lit.good)[::step]
    groups = split_groups([image for run in split_runs(lit) for image in read_images(lit, run, pixels)])
    if len(groups) < 2:
        return None
    values = np.stack([image.values for image in max(groups, key=len)])
    grains = independent_pixels(values - values.mean(axis=0)) if len(values) > 2 else len(pixels) / 4.0
    bench = sort_groups(groups, grains)
    weight = np.bincount(bench, [sum(len(image.frames) for image in group) for group in groups])
    right = int(np.argmax(weight))
    if not (bench != right).any():
        return None
    other = [group for group, of in zip(groups, bench, strict=True) if of != right]
    frames = np.sort(np.concatenate([image.frames for group in other for image in group]))
    known = [group for group, of in zip(groups, bench, strict=True) if of == right]
    return Foreign(frames, find_move(lit, other, known, shape, grains))


def split_runs(lit: Lit) -> list[IntArray]:
    """Runs of frames, one after the other, of one pattern at one exposure, with or without the reference."""
    is_open = ~np.isnan(lit.phase)
    same = (lit.patterns[1:] == lit.patterns[:-1]).all(axis=1) & (np.diff(lit.number) == 1)
    same &= (is_open[1:] == is_open[:-1]) & np.isclose(lit.exposure_s[1:], lit.exposure_s[:-1])
    return np.split(np.arange(len(lit.number)), np.flatnonzero(~same) + 1)


def read_images(lit: Lit, run: IntArray, pixels: IntArray) -> list[Image]:
    """Images of a run of frames of one pattern; none if they tell too little."""
    pattern = lit.patterns[run[0]]
    share = float(pattern.mean())
    if 0.0 < share < MIN_SHARE:
        return []
    pattern = np.append(pattern, share == 0.0).astype(np.float64)  # light of OFF mirrors: stuck ones have their own
    signal = lit.signal(run)[:, pixels]
    if float((signal >= lit.full_dn).mean()) > MAX_SATURATED:
        return []
    found: list[Image] = []
    kind = bool(~np.isnan(lit.phase[run[0]])), len(run) >= LONG
    if np.isnan(lit.phase[run[0]]):
        mean = signal.mean(axis=0)
        parts, least = [(run, mean, float(lit.variance(mean).mean()) / len(run))], MIN_SPECKLE_DN
    else:
        places = np.array_split(np.arange(len(run)), max(min(len(run) // FRINGE_FRAMES, FRINGE_IMAGES), 1))
        parts, least = [(run[k], *fringe_power(signal[k], lit.phase[run[k]])) for k in places], MIN_SPECKLE_DN**2
    for frames, image, noise in parts:
        level, spread = float(image.mean()), float(image.var())
        reliability = 1.0 - noise / max(spread, 1e-30)
        if level > least and spread > least**2 and reliability > MIN_RELIABILITY:
            number = int(lit.number[frames[0]])
            shown = pattern / np.linalg.norm(pattern)
            found.append(Image(frames, number, shown, image / np.float32(level) - np.float32(1.0), reliability, kind))
    return found


def fringe_power(signal: FloatArray, phase: FloatArray) -> tuple[FloatArray, float]:
    """Power of the fringes of some frames, (n_pixels,), and the variance of its noise.

    It is the mean over short parts, within which the reference's phase drifts little.
    """
    powers = []
    for part in np.array_split(np.arange(len(phase)), max(len(phase) // FRINGE_PART, 1)):
        design = np.stack([np.ones(len(part)), np.cos(phase[part]), np.sin(phase[part])], axis=1)
        if len(part) < 4 or np.linalg.matrix_rank(design) < 3:
            continue
        waves = np.linalg.lstsq(design, signal[part], rcond=None)[0]
        left = ((signal[part] - design @ waves) ** 2).sum(axis=0) / (len(part) - 3)
        share = np.linalg.inv(design.T @ design)
        powers.append(waves[1] ** 2 + waves[2] ** 2 - left * (share[1, 1] + share[2, 2]))
    if len(powers) < 2:
        return np.zeros(signal.shape[1], np.float32), 1.0
    power = np.stack(powers).astype(np.float32)
    return power.mean(axis=0), float(power.var(axis=0, ddof=1).mean()) / len(power)


def split_groups(images: list[Image]) -> list[Group]:
    """Groups of up to `GROUP` images of one kind (with the reference, of long runs), without a long wait between."""
    groups: list[Group] = []
    for image in images:
        last = groups[-1][-1] if groups else None
        apart = last is None or image.kind != last.kind or image.number - last.number > NEAR
        if apart or len(groups[-1]) >= GROUP:
            groups.append([])
        groups[-1].append(image)
    return groups


def sort_groups(groups: list[Group], grains: float) -> IntArray:
    """Number of the bench of each group.

    A group may have images of two benches, and then agrees with both of them by half.
    """
    nearby = [range(max(k - COMPARED, 0), k) for k in range(len(groups))]
    distance = [{j: groups[k][0].number - groups[j][-1].number for j in near} for k, near in enumerate(nearby)]
    pairs = [(k, j, *compare(groups[k], groups[j], grains)) for k, near in enumerate(nearby) for j in near]
    agree = [distance[k][j] for k, j, ratio, error in pairs if ratio > SAME and SPREADS * error < SAME]
    still = max(agree, default=0) / MARGIN
    bench = np.zeros(len(groups), np.int64)
    for k in range(1, len(groups)):
        told = {j: (ratio, error) for one, j, ratio, error in pairs if one == k and distance[k][j] <= still}
        told = {j: (ratio, error) for j, (ratio, error) in told.items() if error < SAME}
        bench[k] = bench[max(told, key=lambda j: told[j])] if told else bench[k - 1]
        limit = OTHER_FRINGES if groups[k][0].kind[0] else OTHER
        alike = sum(ratio >= limit for ratio, _ in told.values())
        sure = any(SPREADS * error < SAME for _, error in told.values())
        if sure and alike <= len(told) // 3 and max(ratio for ratio, _ in told.values()) < SAME:
            bench[k] = bench.max() + 1
    return bench


def compare(group: Group, known: Group, grains: float) -> tuple[float, float]:
    """Correlation of a group with its prediction from another one over the expected one, and its standard error."""
    a, b = (np.stack([image.pattern for image in one]) for one in (known, group))
    y, z = (np.stack([image.values for image in one]) for one in (known, group))
    certain, reliability = (np.array([image.reliability for image in one]) for one in (known, group))
    cross = (b @ a.T) ** 2
    weights = np.linalg.solve((a @ a.T) ** 2 + np.diag(1.0 / certain - 1.0 + EXCESS), cross.T).T
    predicted = weights @ y
    lengths = np.linalg.norm(predicted, axis=1) * np.linalg.norm(z, axis=1)
    found = np.einsum("ij,ij->i", predicted, z) / np.maximum(lengths, 1e-12)
    expected = np.sqrt(np.maximum((weights * cross).sum(axis=1), 0.0) * reliability)
    power = float((expected**2).sum())
    if power < 1e-9:  # patterns that tell nothing of each other
        return 0.0, math.inf
    # All images of a group have a speckle in common, so that their errors do not average out.
    return float((found * expected).sum()) / power, float(expected.sum()) / power / grains**0.5


def find_move(lit: Lit, other: list[Group], known: list[Group], shape: tuple[int, int], grains: float) -> str:
    """How the pixels of foreign groups must be moved to agree with the nearest known one; empty if no move does."""
    group = other[0]
    near = min(known, key=lambda one: abs(one[0].number - group[0].number))
    every = np.arange(lit.good.size)
    one, two = ([whole for i in part for whole in read_images(lit, i.frames, every)] for part in (near, group))
    if not one or not two:
        return ""
    for transposed, down, left in itertools.product((False, True), repeat=3):
        words = ["transposed"] * transposed + ["upside down"] * down + ["mirrored"] * left
        moved = [image._replace(values=move(image.values, shape, transposed, down, left)) for image in two]
        if words and compare(moved, one, grains)[0] > SAME:
            return " and ".join(words)
    return ""


def move(values: FloatArray, shape: tuple[int, int], transposed: bool, down: bool, left: bool) -> FloatArray:
    """Undo a change of the order of the pixels of a frame: (n_out,)."""
    image = values.reshape(shape[::-1]).T if transposed else values.reshape(shape)
    return image[:: -1 if down else 1, :: -1 if left else 1].ravel()
