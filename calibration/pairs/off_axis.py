"""Pairs with a tilted reference: the fringes of a frame give its field, and the fields of all frames the matrix."""

import tempfile
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.arrays import irfft2, rfft2
from calibration.fields.readings import DARK_SHARE, Bench
from calibration.fields.sideband import Sideband, frequencies, pixel_transfer
from calibration.fields.sideband_place import bad_pixels
from calibration.pairs.columns import Columns
from calibration.recovery.off_axis import MAX_LOCATING_FRAMES, locate_sideband
from photonics.arrays import BoolArray, ComplexArray, FloatArray, HostArray, RealArray, Shapes

__all__ = ["Holograms", "OffAxisFit", "fit_holograms"]

CHUNK_PIXELS = 2**21
"""Number of pixels demodulated at a time."""
MARGIN = 1.3
"""Radius of the disc over that to which a frame shows light, if the beam has aberrations: light beyond it was a quarter
of the error."""
STEPS, SPECTRAL_STEPS, MAX_CHANGE = 500, 50, 1e-4
"""Steps of the fit of the phases at most, those of power iterations that begin it, and the change at which it ends."""
NEWTON_STEPS, MIN_INTENSITY = 20, 1e-3
"""Gauss-Newton steps of the reference's intensity, and its smallest value over the light without fringes."""


@dataclass(frozen=True, eq=False, repr=False)
class Holograms(Shapes):
    """Frames with a tilted reference, and what is known of them."""

    frames: HostArray
    """Codes: (frames, n_out)."""
    scale: RealArray
    """Exposure of each frame over that of the fit: (frames,)."""
    phase: RealArray
    """Logged phase of the reference, radians: (frames,)."""
    alone: BoolArray
    """Frames of the reference with all inputs OFF: (frames,)."""
    rows: RealArray
    """Factor of each unknown in the field of each frame: (frames, unknowns)."""
    bad: BoolArray
    """Pixels that are hot or dead: (n_out,)."""
    bench: Bench


@dataclass(frozen=True, eq=False, repr=False)
class OffAxisFit(Shapes):
    """Fields of the unknowns, and their errors."""

    unknowns: ComplexArray
    """Fields over the phase of the reference, root of DN: (unknowns, n_out)."""
    variance: RealArray
    """``E|error|^2`` of a field by noise, mean over the wanted unknowns, DN: (n_out,)."""
    relative: RealArray
    """Relative error of all fields of a pixel, by that of the reference's intensity and of the sideband: (n_out,)."""
    misfit: RealArray
    """Mean squared residual of the fields over its expectation: (n_out,)."""
    valid: BoolArray
    """Pixels whose reference is not dark, and that are neither bad nor at the edge of a cropped sensor: (n_out,)."""
    grain: float
    """Number of neighbouring pixels with the same residuals."""


def fit_holograms(seen: Holograms, chosen: Columns) -> OffAxisFit:
    """Fit ``conj(R) y`` of all frames, the sideband of their fringes, by the fields of the inputs.

    The reference's intensity is that of frames with all inputs OFF. Without them it is fitted: light that does not make
    fringes is ``|R|^2 + |conj(R) y|^2 / |R|^2``, and only the second term changes from pattern to pattern. A phase that
    all pixels of a frame share is fitted, so that drift and jitter of the reference do no harm.

    References
    ----------
    E. Cuche, P. Marquet and C. Depeursinge, Appl. Opt. 39, 4070 (2000).
    """
    bench, used = seen.bench, np.flatnonzero(~seen.alone)
    light = (seen.frames[seen.alone] if seen.alone.any() else seen.frames) - np.float32(bench.noise.dark_dn)
    beam = light.mean(axis=0, dtype=np.float64).astype(np.float32)
    bad = seen.bad | bad_pixels(beam, beam + np.float32(bench.noise.dark_dn) >= bench.saturation_dn)
    some = seen.frames[used[np.unique(np.linspace(0, len(used) - 1, MAX_LOCATING_FRAMES).astype(int))]]
    sideband = locate_sideband(some, beam + np.float32(bench.noise.dark_dn), bad, bench, MARGIN)
    with tempfile.TemporaryFile(prefix="opu-") as file:
        fields = np.memmap(file, np.complex64, "w+", shape=seen.frames.shape)
    variance = demodulate(seen, sideband, bad, fields)
    good = ~bad & ~sideband.edge
    weight = 1.0 / np.maximum(variance[:, ~bad].mean(axis=1), 1e-30)
    inverse = np.linalg.pinv(seen.rows * np.sqrt(weight)[:, None]) * np.sqrt(weight)
    fields *= common_phases(seen.rows * np.sqrt(weight)[:, None], fields * np.sqrt(weight)[:, None], good)[:, None]
    unknowns = inverse.astype(np.float32) @ fields
    wanted = inverse[: chosen.wanted].astype(np.float32) ** 2
    known = seen.alone.any()
    intensity, error = (
        alone_intensity(seen, sideband, bad, unknowns) if known else fitted_intensity(seen, sideband, bad, unknowns)
    )
    valid = good & (intensity > max(DARK_SHARE * float(intensity[good].mean()), 0.0))
    intensity = np.where(valid, intensity, np.float32(1.0))
    misfit = misfit_of(seen, unknowns, fields, variance, bench.laser_drift)
    return OffAxisFit(
        (unknowns / np.sqrt(intensity)).astype(np.complex64),
        (wanted @ variance).mean(axis=0) / intensity,
        np.hypot(error / (2.0 * intensity), sideband.model_error),
        misfit,
        valid,
        max(seen.frames.shape[1] / sideband.independent, 1.0),
    )


def chunks(seen: Holograms) -> list[slice]:
    """Ranges of frames that are taken at a time."""
    size = max(CHUNK_PIXELS // seen.frames.shape[1], 1)
    return [slice(start, start + size) for start in range(0, len(seen.frames), size)]


def readings(seen: Holograms, part: slice) -> tuple[FloatArray, BoolArray]:
    """DN above dark at the exposure of the fit, and which readings are saturated."""
    frames = seen.frames[part]
    light = (frames - np.float32(seen.bench.noise.dark_dn)) / seen.scale[part, None].astype(np.float32)
    return light, frames >= seen.bench.saturation_dn


def demodulate(seen: Holograms, sideband: Sideband, bad: BoolArray, fields: ComplexArray) -> FloatArray:
    """Write ``conj(R) y`` of all frames to `fields`, at phase 0, and return its variance by noise: (frames, n_out)."""
    variance = np.empty(seen.frames.shape, np.float32)
    for part in chunks(seen):
        light, full = readings(seen, part)
        light -= light.mean(dtype=np.float64)  # it is large, and rounded in the transforms
        turn = np.exp(1j * seen.phase[part]).astype(np.complex64)[:, None]
        fields[part] = sideband.demodulate(np.where(bad, np.float32(0.0), light), full | bad) * turn
        noise = seen.bench.noise.variance(seen.frames[part]) / seen.scale[part, None] ** 2
        variance[part] = 2.0 * sideband.variance(noise.astype(np.float32))
    return variance


def common_phases(rows: NDArray[np.float64], fields: ComplexArray, good: BoolArray) -> ComplexArray:
    """Factor of modulus 1 for each frame, (frames,), by which the fields of all pixels fit the patterns best.

    With the projection P onto the patterns and the overlaps ``K_kl`` of fields of two frames, the light that the
    patterns explain is ``sum_kl c_k^* P_kl K_lk c_l``. It is made largest by the generalised power method, which begins
    at the largest eigenvector (A. Singer, Appl. Comput. Harmon. Anal. 30, 20 (2011); N. Boumal, SIAM J. Optim. 26, 2355
    (2016)).
    """
    some = fields[:, good]
    joint = (some.conj() @ some.T) * (rows @ np.linalg.pinv(rows)).astype(np.float32)
    factors = np.ones(len(rows), np.complex64)
    for step in range(STEPS):
        before, factors = factors, joint @ factors
        size = np.abs(factors) if step >= SPECTRAL_STEPS else np.linalg.norm(factors) / len(factors) ** 0.5
        factors = factors / np.maximum(size, 1e-30)
        if step > SPECTRAL_STEPS and np.abs(factors - before).max() < MAX_CHANGE:
            break
    return factors.astype(np.complex64)


def misfit_of(
    seen: Holograms, unknowns: ComplexArray, fields: ComplexArray, variance: FloatArray, drift: float
) -> RealArray:
    """Mean squared residual over its expectation by noise and the laser's drift, (n_out,); NaN without redundancy."""
    left = len(seen.rows) - seen.rows.shape[1]
    if left < 1:
        return np.full(fields.shape[1], np.nan, np.float32)
    total, rows = np.zeros(fields.shape[1]), seen.rows.astype(np.float32)
    for part in chunks(seen):
        predicted = rows[part] @ unknowns
        expected = variance[part] + np.float32(drift**2) * np.abs(predicted) ** 2
        total += (np.abs(fields[part] - predicted) ** 2 / expected).sum(axis=0)
    return (total / left).astype(np.float32)


def alone_intensity(
    seen: Holograms, sideband: Sideband, bad: BoolArray, unknowns: ComplexArray
) -> tuple[RealArray, RealArray]:
    """Intensity of the reference from its frames with all inputs OFF, DN, and its standard error: (n_out,) each.

    The frames have the light of OFF mirrors, too: without fringes, ``r + q / r`` with ``q = |conj(R) y|^2``.
    """
    light = (seen.frames[seen.alone] - np.float32(seen.bench.noise.dark_dn)) / seen.scale[seen.alone, None]
    beam = light.mean(axis=0, keepdims=True).astype(np.float32)
    found = sideband.subtract_fringes(beam, bad[None])[0]
    rows = seen.rows[seen.alone].mean(axis=0, keepdims=True).astype(np.float32)
    power = averaged(np.abs(rows @ unknowns) ** 2, seen, sideband)[0]
    found = (found + np.sqrt(np.maximum(found**2 - 4.0 * power, 0.0))) / np.float32(2.0)
    noise = seen.bench.noise.variance(seen.frames[seen.alone]) / seen.scale[seen.alone, None] ** 2
    return found, np.sqrt(noise.mean(axis=0) / len(light))


def fitted_intensity(
    seen: Holograms, sideband: Sideband, bad: BoolArray, unknowns: ComplexArray
) -> tuple[RealArray, RealArray]:
    """Intensity r of the reference from light without fringes, ``r + q / r`` with ``q = |conj(R) y|^2``, and its error.

    Least squares over the frames for each pixel. The fields are averaged over the pixel as the light is.
    """
    count, n_out = seen.frames.shape
    light, power, noise = np.empty((count, n_out), np.float32), np.empty((count, n_out), np.float32), np.zeros(n_out)
    for part in chunks(seen):
        readings_dn, full = readings(seen, part)
        lost = full | bad
        rest = sideband.subtract_fringes(np.where(bad, np.float32(0.0), readings_dn), lost)
        light[part] = np.where(lost, np.nan, rest)
        power[part] = averaged(np.abs(seen.rows[part].astype(np.float32) @ unknowns) ** 2, seen, sideband)
        noise += (seen.bench.noise.variance(seen.frames[part]) / seen.scale[part, None] ** 2).sum(axis=0)
    known = np.isfinite(light)
    light, number = np.where(known, light, np.float32(0.0)), np.maximum(known.sum(axis=0), 1)
    mean_light, mean_power = light.sum(axis=0) / number, np.where(known, power, 0.0).sum(axis=0) / number
    slope = (light * (power - mean_power)).sum(axis=0) / np.maximum(
        np.where(known, (power - mean_power) ** 2, 0.0).sum(axis=0), 1e-30
    )
    least = MIN_INTENSITY * mean_light
    r = np.clip(mean_light - slope * mean_power, least, mean_light)
    for _ in range(NEWTON_STEPS):
        slope, excess = np.where(known, 1.0 - power / r**2, 0.0), np.where(known, light - r - power / r, 0.0)
        r = np.maximum(r + (slope * excess).sum(axis=0) / np.maximum((slope**2).sum(axis=0), 1e-30), least)
    slope, excess = np.where(known, 1.0 - power / r**2, 0.0), np.where(known, light - r - power / r, 0.0)
    squared = np.maximum((excess**2).sum(axis=0) / number, noise / count)
    return r, np.sqrt(squared / np.maximum((slope**2).sum(axis=0), 1e-30))


def averaged(images: FloatArray, seen: Holograms, sideband: Sideband) -> FloatArray:
    """Images averaged over the width of a pixel: (count, n_out)."""
    shape, samples = sideband.frame, seen.bench.samples_per_pixel
    x, y = frequencies(shape)
    x = x[:, : shape[1] // 2 + 1]
    transfer = (pixel_transfer(x, samples) * pixel_transfer(y, samples)).astype(np.float32)
    return irfft2(rfft2(images.reshape(-1, *shape)) * transfer, shape).reshape(len(images), -1)
