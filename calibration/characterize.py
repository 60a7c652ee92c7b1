"""What the device is worth: camera, speckle and projection, each against theory or data sheet."""

import math
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.metrics import anchor_truth, row_correlation, row_errors
from calibration.photon_transfer import Estimate, PhotonTransfer, photon_transfer, saturation_e
from calibration.projection import DARK_SHARE, LinearProjection, Projected, measure_projection
from calibration.report import Line, Report
from photonics import OPU
from photonics.component import integer
from photonics.encoding import half_on
from photonics.speckle import exponential_distance

__all__ = ["characterize"]

LEAST_PIXELS = 16
POINTS = 3000
"""Points kept for a scatter plot."""


def characterize(opu: OPU, truth: Any = None, vectors: int = 64, n_inputs: int | None = None) -> Report:
    """Characterise a device from its frames.

    Parameters
    ----------
    opu : OPU
        The device, at the exposure at which it will work.
    truth : array_like of complex, shape (n_out, n_in), optional
        Transmission matrix, if it is known (`OPU.effective_matrix` of a simulated device): the projection is
        then also compared with it. It is used in that comparison only.
    vectors : int
        Random test vectors for the projection, half ON; 8 or more.
    n_inputs : int, optional
        Inputs of the projection that is judged, as for `measure_projection`.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If the device is too dark or too saturated to calibrate (see `measure_projection`).
    """
    vectors = integer(vectors, "vectors", 8)
    if opu.n_out < LEAST_PIXELS:
        raise ValueError(f"opu must have {LEAST_PIXELS} pixels or more to have statistics, got {opu.n_out}")
    if truth is not None and np.shape(truth) != (opu.n_out, opu.n_in):
        raise ValueError(f"truth must have shape {(opu.n_out, opu.n_in)}, got {np.shape(truth)}")
    start = opu.clock.frames
    transfer = photon_transfer(opu.camera)
    projection = measure_projection(opu, n_inputs=n_inputs)
    patterns = half_on(16, opu.n_in, opu.seed, tick=3_000_000)  # other patterns than autoexpose's
    patterns = patterns[patterns.any(axis=1)]
    frames = opu.measure(patterns)
    speckle_lines, speckle_curves = speckle(opu, patterns, frames, projection)
    x = half_on(vectors, projection.n_inputs, opu.seed, tick=1_000_000)
    result = projection.measure(x)
    lines = [*camera_lines(opu, transfer), *speckle_lines, *projection_lines(projection, x, result)]
    curves = camera_curves(transfer) | speckle_curves | {"frame": frames[0].tolist()}
    if truth is not None:
        more, points = truth_lines(projection, x, result, truth)
        lines, curves = lines + more, curves | points
    provenance = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": version("opu-sim"),
        "frames": opu.clock.frames - start,
        "camera_frames": transfer.frames,
        "exposure_s": opu.exposure_s,
        "dark_anchor_share": float(1.0 - projection.valid.mean()),
        "unit_dn": projection.unit_dn,
    }
    return Report(opu.to_dict(), provenance, tuple(lines), curves)


def camera_lines(opu: OPU, transfer: PhotonTransfer) -> list[Line]:
    """Photon transfer against the camera's data sheet."""
    camera = opu.camera
    gain = transfer.gain.value

    def line(
        name: str, formula: str, unit: str, found: Estimate, expected: float | None, limit: float, advice: str
    ) -> Line:
        return Line("camera", name, formula, unit, found.value, found.error, expected, limit, advice)

    quantiser = "noise under half a code is hidden by rounding: raise the gain or the bit depth to see it"
    dark = camera.dark_electrons(1.0)
    efficiency = camera.quantum_efficiency
    full = saturation_e(camera)
    rows = (
        ("gain K", "slope of s² against µ", "DN/e⁻", transfer.gain, camera.gain, 0.03, quantiser),
        ("quantum efficiency", "(dµ/dµ_p) / K", "", transfer.quantum_efficiency, efficiency, 0.03, quantiser),
        ("read noise", "√(s²_dark - 1/12) / K", "e⁻", transfer.read_noise_e, camera.read_noise_e, 0.05, quantiser),
        ("dark current", "(dµ_dark/dt) / K", "e⁻/s", transfer.dark_current_e_per_s, dark, 0.05, "cool the sensor"),
        ("saturation", "max µ / K", "e⁻", transfer.saturation_e, full, 0.05, "lower gain or offset"),
        ("PRNU", "s_spatial / µ at 50 %", "", transfer.prnu, camera.prnu, 0.1, "measure again with more frames"),
        ("DSNU", "s_spatial,dark / K", "e⁻", transfer.dsnu_e, camera.dsnu_e, 0.1, quantiser),
    )  # fmt: skip
    lines = [line(*row[:5], row[5] * max(row[4], 1e-3), row[6]) for row in rows]
    error = transfer.linearity_error
    lines.append(line("linearity error", "mean |µ - line| / line, 5-95 %", "", error, None, 0.0025, "check saturation"))
    if not math.isfinite(gain):
        lines = [known for known in lines if known.name in ("gain K", "linearity error")]
    return lines


def camera_curves(transfer: PhotonTransfer) -> dict[str, Any]:
    """Photon transfer curve for the figure."""
    names = ("photons", "signal_dn", "variance_dn2", "fitted")
    fit = {"gain": transfer.gain.value, "quantum_efficiency": transfer.quantum_efficiency.value}
    return {"photon_transfer": {name: getattr(transfer, name).tolist() for name in names} | fit}


def speckle(
    opu: OPU, patterns: NDArray[np.bool_], frames: NDArray[Any], projection: LinearProjection
) -> tuple[list[Line], dict[str, Any]]:
    """Speckle statistics of half-ON patterns against fully developed speckle.

    Each frame is taken over its own mean, since patterns differ in the number of inputs that are ON. Two patterns share
    half of theirs, so their fields correlate by 1/2: their means by 1/4, their contrasts by 1/16 (the second Laguerre
    polynomial of the intensity).
    """
    noise, count = projection.noise, len(frames)
    signal = frames.astype(np.float64) - noise.dark_dn
    means = signal.mean(axis=1, keepdims=True)
    shares = (signal.var(axis=1) - noise.variance(frames).mean(axis=1)) / means[:, 0] ** 2
    contrast = math.sqrt(max(float(shares.mean()), 0.0))
    mean_error, contrast_error = (
        math.sqrt((1.0 + rho * (count - 1)) / (count * opu.n_out)) for rho in (1.0 / 4.0, 1.0 / 16.0)
    )
    reach = opu.camera.saturation_dn - noise.dark_dn
    clipped = float((frames >= opu.camera.saturation_dn).mean())
    expected_clip = float(np.exp(-reach / means).mean())
    clip_error = math.sqrt(max(expected_clip, 1e-9) / frames.size)
    distance = float(np.mean([exponential_distance(np.maximum(s, 0.0)) for s in signal]))
    mean = float(means.mean())
    unit = float(np.mean(means[:, 0] / (patterns.mean(axis=1) * opu.unit_dn)))
    lines = [
        Line("speckle", "contrast", "√(var I - noise) / mean I", "", contrast, contrast_error, 1.0, 0.03,
             "under 1: several speckle patterns add up (polarisation, linewidth), or frames saturate"),
        Line("speckle", "distance to exp(-I)", "Kolmogorov-Smirnov D √N, mean", "", distance, math.nan, None,
             1.63 + math.sqrt(opu.n_out) / mean, "see the histogram: a background or a clipped tail"),
        Line("speckle", "saturated share", "exp(-range / mean)", "", clipped, clip_error, expected_clip, 1e-3,
             "shorten the exposure (opu.autoexpose)"),
        Line("speckle", "mean intensity", "mean I over that by photometry", "", unit, mean_error, 1.0, 0.1,
             "laser power, alignment or throughput changed"),
    ]  # fmt: skip
    step = max(1, round(mean / 5.0))  # whole codes, or the histogram shows a comb
    edges = np.arange(-0.5, 8.0 * mean, step) / mean
    density, _ = np.histogram(signal / means, edges)
    curve = {"edges": edges.tolist(), "density": (density / signal.size / (edges[1] - edges[0])).tolist()}
    return lines, {"intensity_histogram": curve | {"mean_dn": mean}}


def projection_lines(projection: LinearProjection, x: NDArray[np.bool_], result: Projected) -> list[Line]:
    """Additivity on disjoint supports, signal-to-noise and dark anchors: what can be said without the truth."""
    valid = projection.valid
    part = half_on(len(x), projection.n_inputs, projection.opu.seed, tick=2_000_000)
    first, second = projection.measure(x & part), projection.measure(x & ~part)
    good = ~(first.saturated | second.saturated | result.saturated) & valid
    residual = (first.values + second.values - result.values)[good]
    # What the three share, the anchor and the scale, cancels but for one small term.
    error = np.sqrt(first.noise**2 + second.noise**2 + result.noise**2)[good]
    pull = float(np.sqrt(np.mean((residual / error) ** 2)))
    spread = float(np.sqrt(result.values[:, valid].var(axis=0).mean()))
    snr_db = 20.0 * math.log10(spread / float(np.sqrt(np.mean(result.noise[:, valid] ** 2))))
    dark = float(1.0 - valid.mean())
    dark_expected = 1.0 - math.exp(-DARK_SHARE)
    return [
        Line("projection", "additivity", "rms of P(x₁) + P(x₂) - P(x₁ + x₂) over its noise", "", pull,
             1.0 / math.sqrt(2.0 * valid.sum()), 1.0, 0.25, "not linear: saturated frames or a drifting device"),
        Line("projection", "dark anchors", "share of rows with I(b) under 5 % of the mean", "", dark,
             math.sqrt(dark_expected * (1 - dark_expected) / projection.n_outputs), dark_expected, 0.02,
             "the medium is not fully developed speckle, or pixels are dead"),
        Line("projection", "noise over signal", f"10^(-SNR/20); {snr_db:.1f} dB, {(snr_db - 1.76) / 6.02:.1f} bits", "",
             10.0 ** (-snr_db / 20.0), math.nan, None, 0.2, "more light, or average frames"),
    ]  # fmt: skip


def truth_lines(
    projection: LinearProjection, x: NDArray[np.bool_], result: Projected, truth: Any
) -> tuple[list[Line], dict[str, Any]]:
    """Projection against the true matrix: error and correlation per row, and whether the stated error is right."""
    expected = anchor_truth(projection, truth, x)
    valid = projection.valid
    error = row_errors(result.values, expected)[valid]
    correlation = row_correlation(result.values, expected)[valid]
    good = ~result.saturated & valid
    pull = float(np.sqrt(np.mean(((result.values - expected)[good] / result.standard_error[good]) ** 2)))
    spread = float(1.2533 * error.std() / math.sqrt(error.size))
    limit = 0.04  # and with separate anchors, what leaking mirrors leave open of the common scale
    if not projection.complementary:
        limit += 2.0 * math.sqrt(projection.leakage)
    keep = slice(None, None, max(1, int(good.sum()) // POINTS))
    lines = [
        Line("projection", "error per row", "median over rows of |P(x) - truth| / |truth|", "", float(np.median(error)),
             spread, None, limit, "more light, fewer saturated pixels"),
        Line("projection", "correlation per row", "1 - median Pearson correlation with the truth", "",
             float(1.0 - np.median(correlation)), math.nan, None, 0.01, "more light, fewer saturated pixels"),
        Line("projection", "stated uncertainty", "rms of (P(x) - truth) / standard error", "", pull,
             1.0 / math.sqrt(2.0 * valid.sum()), 1.0, 0.25, "the noise model does not hold: drift or saturation"),
    ]  # fmt: skip
    points = {"truth": expected[good][keep].tolist(), "measured": result.values[good][keep].astype(float).tolist()}
    return lines, {"projection": points, "row_errors": error.tolist()}
