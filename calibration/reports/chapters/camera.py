"""The camera: photon transfer against its data sheet (EMVA 1288)."""

import math

import numpy as np

from calibration.camera.datasheet import decibel, saturation_e, sensitivity_threshold, sheet_noise_dn2, snr
from calibration.camera.estimate import Estimate
from calibration.camera.photon_transfer import PhotonTransfer
from calibration.camera.pixels import MAX_DARK_SHARE
from calibration.reports.chapters.common import Chapter
from calibration.reports.findings import Curve, Line
from photonics.parts.camera import QUANTISATION, Camera

__all__ = ["MAX_DEFECTS", "camera_chapter", "hot_share"]

MAX_DEFECTS = 1e-3
"""Largest deviation of the share of dead or hot pixels from that of the data sheet."""


def camera_chapter(camera: Camera, transfer: PhotonTransfer) -> Chapter:
    """Photon transfer against the camera's data sheet."""
    return Chapter(camera_lines(camera, transfer), camera_curves(camera, transfer))


def hot_share(camera: Camera, exposure_s: float) -> float:
    """Share of pixels that count as hot in dark frames, by the data sheet."""
    return camera.hot_share(MAX_DARK_SHARE * (camera.saturation_dn - camera.offset) / camera.gain, exposure_s)


def camera_lines(camera: Camera, transfer: PhotonTransfer) -> list[Line]:
    """A line for each data sheet value that frames of uniform light determine."""
    gain = transfer.gain.value

    def line(
        name: str, formula: str, unit: str, found: Estimate, expected: float | None, limit: float, advice: str
    ) -> Line:
        return Line("camera", name, formula, unit, found.value, found.error, expected, limit, advice)

    quantiser = "rounding hides noise below half a code: raise the gain or the bit depth"
    dark, full, efficiency = camera.dark_electrons(1.0), saturation_e(camera), camera.quantum_efficiency
    floor = sheet_noise_dn2(camera, transfer.exposure_s)
    threshold = sensitivity_threshold(floor, camera.gain, efficiency)
    reach = decibel(full / efficiency / threshold)
    rows = (
        ("gain K", "slope of s² against µ", "DN/e⁻", transfer.gain, camera.gain, 0.03, quantiser),
        ("quantum efficiency", "(dµ/dµ_p) / K", "", transfer.quantum_efficiency, efficiency, 0.03, quantiser),
        ("read noise", "√(s²_dark - 1/12) / K", "e⁻", transfer.read_noise_e, camera.reading_noise_e, 0.05, quantiser),
        ("dark current", "(dµ_dark/dt) / K", "e⁻/s", transfer.dark_current_e_per_s, dark, 0.05, "cool the sensor"),
        ("saturation", "max µ / K", "e⁻", transfer.saturation_e, full, 0.05, "lower gain or offset"),
        ("sensitivity threshold", "µ_p.min = (s_dark / K + 1/2) / η", "photons", transfer.threshold_photons, threshold,
         0.05, "more dark noise than by the data sheet"),
        ("PRNU", "s_spatial / µ at 50 %", "", transfer.prnu, camera.response_spread, 0.1,
         "clean the sensor; check that the light is uniform"),
        ("DSNU", "s_spatial,dark / K", "e⁻", transfer.dsnu_e, camera.offset_spread_e, 0.1, quantiser),
    )  # fmt: skip
    lines = [line(*row[:5], row[5] * max(row[4], 1e-3), row[6]) for row in rows]
    defects = "list the pixels and leave out their rows"
    lines += [
        line("dynamic range", "20 log₁₀(µ_p.sat / µ_p.min)", "dB", transfer.dynamic_range_db, reach, 0.5, quantiser),
        line("linearity error", "mean |µ - line| / line, 5-95 %", "", transfer.linearity_error, None, 0.0025,
             "the camera is not linear: check gamma correction, black level and saturation"),
        line("dead pixels", "share with under half of the median response", "", transfer.dead, camera.dead_share,
             MAX_DEFECTS, defects),
        line("hot pixels", f"share over 5 % of the range in the dark, up to {transfer.dark_s:.2g} s", "", transfer.hot,
             hot_share(camera, transfer.dark_s), MAX_DEFECTS, defects),
    ]  # fmt: skip
    if not math.isfinite(gain):
        lines = [known for known in lines if known.name in ("gain K", "linearity error", "dead pixels", "hot pixels")]
    return lines


def camera_curves(camera: Camera, transfer: PhotonTransfer) -> dict[str, Curve]:
    """Photon transfer curve, signal-to-noise ratio and deviation from linearity, for the figures."""
    floor = sheet_noise_dn2(camera, transfer.exposure_s)
    curve = {
        "photons": transfer.photons.tolist(),
        "signal_dn": transfer.signal_dn.tolist(),
        "variance_dn2": transfer.variance_dn2.tolist(),
        "fitted": transfer.fitted.tolist(),
        "gain": transfer.gain.value,
        "quantum_efficiency": transfer.quantum_efficiency.value,
    }
    sheet = np.geomspace(1.0, transfer.photons.max(), 100)
    ratio = {
        "snr": (transfer.signal_dn / np.sqrt(np.maximum(transfer.variance_dn2, QUANTISATION))).tolist(),
        "sheet_photons": sheet.tolist(),
        "sheet_snr": snr(sheet, floor, camera.gain, camera.quantum_efficiency).tolist(),
        "threshold_photons": transfer.threshold_photons.value,
    }
    return {"photon_transfer": curve | ratio | {"deviation": transfer.deviation.tolist()}}
