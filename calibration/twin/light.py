"""The light of an input: electrons per second, leakage of the mirrors, and the profile of the beam."""

import warnings

import numpy as np
from numpy.typing import NDArray

from calibration.camera.estimate import Estimate
from calibration.pairs.same_bench import GROUP, Lit, find_foreign
from calibration.storage.arrays import warn_of_shifted
from calibration.twin.beam import beam_radius
from calibration.twin.evidence import Evidence
from calibration.twin.parameter import CannotTell, Parameter, estimate_if_seen, jackknife, pixel_blocks
from calibration.twin.sensor import MAX_SATURATED, Sensor
from photonics.arrays import BoolArray, FloatArray, IntArray

__all__ = [
    "LEAKAGE",
    "RADIUS",
    "RATE",
    "UNITS",
    "check_exposures",
    "check_same_bench",
    "dark_at",
    "light_parameters",
    "wrong_light",
]

MAX_ONES = 8
"""Largest number of frames of all inputs ON that are compared with those of all OFF: more are further away."""
MIN_ONES = 4
"""Smallest number of frames of all inputs ON that tell their speckle."""
RADIUS = "laser.beam_radius_m"
RATE = "electrons per second"
"""Combination that frames tell: quantum efficiency, throughput, power and the share of the beam on the mirrors."""
LEAKAGE = "leakage"
"""Combination that frames tell: 1 / contrast and mirrors that are stuck ON."""
UNITS = {RATE: "e-/s", LEAKAGE: "", RADIUS: "m"}
MAX_APART = 0.5
"""Largest deviation of the logarithm of a frame's light from that by its pattern and exposure, plus `SPREADS`."""
SPREADS = 5.0
"""Number of scatters of that logarithm, and of contrasts of the speckle's mean, by which light may differ by chance."""
MIN_LIGHT_DN = 3.0
"""Smallest light that is judged, and the largest by which frames of OFF mirrors may be darker than dark frames, DN."""
MAX_RUNS = 8
"""Largest number of runs of frames that a warning names."""
MAX_OFF = 0.4
"""Largest light of OFF mirrors over that of ON mirrors: that of a contrast of 2.5."""


def light_parameters(seen: Evidence, sensor: Sensor) -> list[Parameter]:
    """Electrons per second of all inputs ON, leaked intensity, and the radius of the beam."""
    pairs = seen.pairs()
    if len(pairs) < 8:
        raise CannotTell(f"there are {len(pairs)} half-ON patterns followed by their complements, 8 are needed")
    half = np.concatenate([pairs, pairs + 1])
    clipped = float((seen.of(half)[:, sensor.live] >= sensor.ceiling).mean())
    found = []
    share = leaked_share(seen, sensor)
    light, noise, usable = light_of_inputs(seen, sensor, pairs)
    (mean,), (error,) = jackknife(lambda pixels: light[pixels].mean(keepdims=True), pixel_blocks(usable))
    rate = mean / sensor.gain.value / seen.main_s
    parts = [error / mean, noise, sensor.gain.error / sensor.gain.value, clipped + 0.5 * share]
    relative = np.linalg.norm([*parts, 3.0 * sensor.level_error_dn / mean])  # of 4 patterns less all ON
    how = "patterns, complements and all ON during the record; one product of efficiency, throughput and power"
    found.append(Parameter(RATE, "e-/s", Estimate(float(rate), float(rate * relative)), how))
    how = "all inputs OFF against all ON; frames do not separate contrast and mirrors stuck ON"
    found.append(Parameter.find(LEAKAGE, "", how, leakage, seen, sensor))
    how = "mean light of groups of inputs alone, less that of all OFF beside"
    found.append(
        Parameter.find(RADIUS, "m", how, beam_radius, seen, sensor.pixels, sensor.ceiling, sensor.level_error_dn)
    )
    return found


def dark_at(seen: Evidence, sensor: Sensor, exposure_s: float) -> FloatArray:
    """Dark level of each pixel at an exposure, DN: between those at the shortest and the longest one."""
    (short_s, short), (long_s, _) = seen.dark()[0], seen.dark()[-1]
    if long_s <= short_s:
        return sensor.level
    step = float((sensor.level - seen.of(short).mean(axis=0))[sensor.live].mean())
    return sensor.level - np.float32(step * (long_s - exposure_s) / (long_s - short_s))


def light_of_inputs(seen: Evidence, sensor: Sensor, pairs: IntArray) -> tuple[FloatArray, float, IntArray]:
    """Light of the inputs without the speckle of all inputs ON: ``sum |t|^2`` for the fields ``t`` of the inputs.

    A random half of the n inputs and its complement have the fields m + d and m - d: m is that of all patterns, and
    its speckle does not average out over them. Frames of all inputs ON beside the patterns tell it::

        m = (1 + a) sum(t) / 2,      mean |d|^2 = (1 - a)^2 (n sum |t|^2 - |sum t|^2) / (4 n - 4)

    where a is the field of an input that is OFF over that of one that is ON.

    Returns
    -------
    light : ndarray of float32, shape (n_out,)
        DN at the main exposure.
    noise : float
        Relative error of `light` by the noise of the laser.
    pixels : ndarray of int
        Live pixels that all inputs ON never saturate.
    """
    off, n = leaked_share(seen, sensor) ** 0.5, seen.n_in
    place = np.arange(len(seen.frames))
    beside = (place >= pairs[0] - 1) & (place <= pairs[-1] + 2)
    ones = np.flatnonzero(beside & seen.plain & (seen.on == n) & seen.at(seen.main_s))
    dark, bright = dark_at(seen, sensor, seen.main_s), seen.of(ones)
    mean = seen.of(np.concatenate([pairs, pairs + 1])).mean(axis=0) - dark
    if len(ones) < MIN_ONES or len(pixels := sensor.unsaturated(bright)) < 0.5 * len(sensor.pixels):
        return 2.0 * mean / np.float32(1.0 + off**2), 0.0, sensor.pixels
    speckle, power = bright.mean(axis=0) - dark, bright[:, pixels].mean(axis=1) - dark[pixels].mean()
    signs = (4.0 * mean - (1.0 + off) ** 2 * speckle) / (1.0 - off) ** 2
    noise = float(np.diff(power).std() / power.mean()) / (2.0 * len(ones)) ** 0.5
    return (((n - 1) * signs + speckle) / n).astype(np.float32), noise, pixels


def leaked_share(seen: Evidence, sensor: Sensor) -> float:
    """Leakage, 0 if it cannot be told."""
    try:
        return leakage(seen, sensor).value
    except CannotTell:
        return 0.0


def leakage(seen: Evidence, sensor: Sensor) -> Estimate:
    """Intensity of all inputs OFF over that of all ON, in frames that are as near to each other as there are."""
    ones = np.flatnonzero(seen.plain & (seen.on == seen.n_in) & seen.at(seen.main_s))
    if len(ones) < 2:
        raise CannotTell("there are no frames of all inputs ON at the exposure of the half-ON patterns")
    off, near = nearest(seen, ones)
    time = float(seen.exposure_s[off[0]])
    dim, bright, dark = seen.of(off), seen.of(near), dark_at(seen, sensor, seen.main_s)
    clipped = float((bright[:, sensor.live] >= sensor.ceiling).mean())
    low = (dim.mean(axis=0) - dark_at(seen, sensor, time)) / time
    high = (bright.mean(axis=0) - dark) / seen.main_s * (1.0 + clipped)  # exponential speckle loses this share
    (ratio,), (error,) = jackknife(
        lambda pixels: np.array([low[pixels].mean() / high[pixels].mean()]), pixel_blocks(sensor.pixels)
    )
    if float(dim[:, sensor.live].std(axis=0).mean()) < 0.45 and not sensor.dithered:
        raise CannotTell("rounding hides the light of the mirrors that are OFF")
    level = sensor.offset.error / time / float(high[sensor.live].mean())  # rounding may hide the dark level
    power = (seen.of(ones)[:, sensor.live] - dark[sensor.live]).mean(axis=1)
    drift = drift_over(power, seen.number[ones], abs(float(seen.number[off].mean() - seen.number[near].mean())))
    parts = [error, level, ratio * (clipped + 0.005), ratio * drift]
    return estimate_if_seen(ratio, float(np.linalg.norm(parts)), "it")


def nearest(seen: Evidence, ones: IntArray) -> tuple[IntArray, IntArray]:
    """Run of frames of all inputs OFF that is nearest to frames of all ON, and the `MAX_ONES` of these beside it."""
    off = np.zeros(len(seen.frames), bool)
    off[seen.off()] = True

    def distance(some: IntArray, others: IntArray) -> NDArray[np.int64]:
        return np.abs(seen.number[some][:, None] - seen.number[others][None, :]).min(axis=1)

    run = min(seen.visits(off), key=lambda visit: int(distance(visit, ones).min()))
    return run, ones[np.argsort(distance(ones, run), kind="stable")[:MAX_ONES]]


def drift_over(power: FloatArray, number: IntArray, lag: float) -> float:
    """Relative rms change of the laser's power over `lag` frames, from the light of frames of one pattern."""
    i, j = np.triu_indices(len(power), 1)
    square, apart = (power[i] - power[j]) ** 2 / power.mean() ** 2, number[j] - number[i]
    far = (apart > lag / 1.5) & (apart < 1.5 * lag)
    far = far if far.any() else apart > lag
    white = float(square[apart <= 2].mean()) if (apart <= 2).any() else 0.0
    moved = float(square[far].mean()) if far.any() else float(square.max())
    return max(moved - white, white / (2.0 * MAX_ONES)) ** 0.5


def wrong_light(seen: Evidence, sensor: Sensor) -> BoolArray:
    """Frames without the reference whose light is not that of the others, for their pattern and exposure: (N,).

    The mean light of a frame goes with its exposure and the number of inputs that are ON. Frames of half of the inputs,
    of all and of none are judged, as the others depend on the profile of the beam. A warning names them: frames may be
    shifted by one, of another bench, or the exposures wrong.
    """
    share, wrong = seen.on / seen.n_in, np.zeros(len(seen.frames), bool)
    lit = np.flatnonzero(seen.half | (seen.plain & (share == 1.0)))
    off = np.flatnonzero(seen.plain & (share == 0.0))
    rate = np.full(len(share), np.nan)
    for time in np.unique(seen.exposure_s[seen.plain]):
        some = np.flatnonzero(seen.plain & (seen.exposure_s == time))
        frames, level = seen.of(some)[:, sensor.live], dark_at(seen, sensor, float(time))[sensor.live]
        full = (frames >= sensor.ceiling).mean(axis=1) > MAX_SATURATED
        rate[some] = np.where(full, np.nan, (frames - level).mean(axis=1))
    scale = seen.exposure_s * np.maximum(share, 1e-9)
    judged = lit[rate[lit] > MIN_LIGHT_DN]
    if not len(judged):
        return wrong
    apart = np.log(rate[judged] / scale[judged])
    middle = float(np.median(apart))
    scatter = 1.4826 * float(np.median(np.abs(apart - middle)))
    wrong[judged] = np.abs(apart - middle) > MAX_APART + SPREADS * scatter
    known = off[np.isfinite(rate[off])]
    most = MAX_OFF * np.exp(middle) * seen.exposure_s[known] + MIN_LIGHT_DN
    wrong[known] |= (rate[known] < -MIN_LIGHT_DN) | (rate[known] > most)
    return wrong


def check_exposures(seen: Evidence, sensor: Sensor) -> None:
    """Warn of unused bits, exposures over a frame period, and frames with the light of other patterns or exposures."""
    warn_of_shifted(seen.frames)
    longest = float(seen.exposure_s.max())
    if longest > seen.period_s:
        warnings.warn(
            f"exposure_s must be in seconds and within the frame period of the data sheets, {seen.period_s:.3g} s, got "
            f"{longest:.3g} s: electrons per second and dark current are wrong if it is not right",
            stacklevel=4,
        )
    wrong = np.flatnonzero(wrong_light(seen, sensor))
    if len(wrong):
        warnings.warn(
            f"{len(wrong)} frames, {name_runs(wrong)}, have the light of other patterns or exposures than "
            "those recorded, and the fit is not to be trusted: frames may be shifted or of another bench; check them "
            "(RecordedDevice.check_sequence)",
            stacklevel=4,
        )


def name_runs(frames: IntArray) -> str:
    """First and last of each run of frames, counted from 0, in words, such as "3 to 9 and 12": (n,), ascending."""
    runs = np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1)
    named = [f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs[:MAX_RUNS]]
    if len(runs) > MAX_RUNS:
        return f"{', '.join(named)} and {len(runs) - MAX_RUNS} more runs up to {frames[-1]}"
    return " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)


def check_same_bench(seen: Evidence, sensor: Sensor, shape: tuple[int, int]) -> None:
    """Warn of frames whose speckle is not that of the others: another bench, or pixels in another order.

    A mirror image or a transposition of all frames of a recording is not told: it is another medium.
    """
    lit = np.flatnonzero(seen.laser_on)
    levels = {float(time): dark_at(seen, sensor, float(time)) for time in np.unique(seen.exposure_s[lit])}

    def signal(places: IntArray) -> FloatArray:
        return seen.of(lit[places]) - levels[float(seen.exposure_s[lit[places[0]]])]

    full = sensor.ceiling - float(np.median(sensor.level))
    columns = seen.patterns[lit], seen.phase[lit], seen.exposure_s[lit], seen.number[lit]
    found = find_foreign(Lit(*columns, signal, sensor.variance, full, sensor.live), shape)
    if found is None:
        return
    foreign = lit[found.frames]
    cause = f"their pixels are {found.moved}" if found.moved else "they are of another bench, or their pixels are moved"
    warnings.warn(
        f"{len(foreign)} frames, {name_runs(foreign)}, do not have the speckle of the others: {cause}, or the medium "
        "was moved; the fit is not to be trusted: record them again, or leave them out (Recording.select) with the "
        f"{GROUP} patterns before and after each run, of which up to half may be wrong, too",
        stacklevel=4,
    )
