"""The camera: photon transfer against its data sheet (EMVA 1288)."""

import math

from calibration.camera.photon_transfer import Estimate, PhotonTransfer, saturation_e
from calibration.reports.chapters.common import Chapter
from calibration.reports.findings import Curve, Line
from photonics.parts.camera import Camera

__all__ = ["camera_chapter"]


def camera_chapter(camera: Camera, transfer: PhotonTransfer) -> Chapter:
    """Photon transfer against the camera's data sheet."""
    return Chapter(camera_lines(camera, transfer), camera_curves(transfer))


def camera_lines(camera: Camera, transfer: PhotonTransfer) -> list[Line]:
    """A line for each data sheet value that frames of uniform light determine."""
    gain = transfer.gain.value

    def line(
        name: str, formula: str, unit: str, found: Estimate, expected: float | None, limit: float, advice: str
    ) -> Line:
        return Line("camera", name, formula, unit, found.value, found.error, expected, limit, advice)

    quantiser = "rounding hides noise below half a code: raise the gain or the bit depth"
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


def camera_curves(transfer: PhotonTransfer) -> dict[str, Curve]:
    """Photon transfer curve for the figure."""
    curve = {
        "photons": transfer.photons.tolist(),
        "signal_dn": transfer.signal_dn.tolist(),
        "variance_dn2": transfer.variance_dn2.tolist(),
        "fitted": transfer.fitted.tolist(),
        "gain": transfer.gain.value,
        "quantum_efficiency": transfer.quantum_efficiency.value,
    }
    return {"photon_transfer": curve}
