"""Focusing with the recovered matrix: enhancement and a budget of its losses."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.device import Device
from calibration.recovery.estimate import TransmissionEstimate
from calibration.reports.chapters.common import Chapter, independent_pixels, student_factor
from calibration.reports.chapters.matrix import predicted_error
from calibration.reports.findings import Line
from calibration.wavefront.focusing import Focus, binary_gain, focus, phase_gain
from photonics.arrays import BoolArray

__all__ = ["focusing_chapter"]

GROUP = "focusing"
TARGETS = 64
"""Number of foci in the budget. The enhancement of one focus varies by about 4 / sqrt(N), a quarter at N = 256."""
MIN_FREE = 2.0
"""Smallest number of independent foci from which a standard error follows."""
BINARY_SHARE = 1.0 / (2.0 * math.pi)
"""``F_amp`` of binary amplitude masks with all inputs equally lit."""


def focusing_chapter(opu: Device, estimate: TransmissionEstimate, seed: int) -> Chapter:
    """Enhancement on some pixels, with the budget ``1 + (N - 1) F_amp F_noise F_cal``.

    F_amp is the loss due to the modulation: the enhancement that the matrix predicts for its own masks. F_noise is the
    loss due to the stated error e of the matrix, ``1 / (1 + e^2)``. F_cal is the rest: drift since the calibration, a
    wrong matrix, a saturated focus.
    """
    matrix, valid = estimate.matrix, np.asarray(estimate.valid, bool)
    n = matrix.shape[1]
    plain = focus(opu, matrix, TARGETS, valid=valid, phases=1, averages=8, seed=seed)
    best = focus(opu, matrix, valid=valid, averages=8, seed=seed)
    free = [independent_pixels(opu, chosen(opu.n_out, foci.targets)) for foci in (plain, best)]
    stated = predicted_error(estimate, valid)
    noise = 1.0 / (1.0 + stated**2) if math.isfinite(stated) else 1.0
    amplitude, spread = share(plain.predicted, n), standard_error(plain.predicted, free[0]) / (n - 1)
    reached = share(plain.enhancement, n)
    calibration = reached / (amplitude * noise)
    # Prediction and measurement vary together from focus to focus, so their ratio has a smaller error.
    rest = plain.enhancement - 1.0 - calibration * noise * (plain.predicted - 1.0)
    rest_error = standard_error(rest, free[0]) / ((n - 1) * amplitude * noise)
    reason = reason_of(plain, reached < 0.1 * amplitude)
    law, mean = binary_gain(n), float(plain.enhancement.mean())
    about = f"{len(plain.targets)} foci, {free[0]:.0f} independent"
    known = [1.0 if count >= MIN_FREE else math.nan for count in free]
    advice = "the factors below show where light is lost"
    lines = [
        Line(GROUP, "enhancement", f"I(focus) / ⟨I⟩, masks Re t > 0, {about}; 1 + (N - 1)/2π", "",
             mean, standard_error(plain.enhancement, free[0]), law, 0.2 * law, advice, reason),
        Line(GROUP, "enhancement, best phase", "the same, best global phase; expected from the matrix", "",
             known[1] * float(best.enhancement.mean()),
             standard_error(best.enhancement - best.predicted * noise, free[1]),
             float(best.predicted.mean()) * noise, 0.15 * float(best.predicted.mean()), advice),
        Line(GROUP, "F_amp", "2π (η_matrix - 1) / (N - 1): modulation and illumination", "",
             amplitude / BINARY_SHARE, spread / BINARY_SHARE, 1.0, 0.2, "use more of the beam's centre"),
        Line(GROUP, "F_noise", "1 / (1 + e²), e the stated error of the matrix", "", noise, math.nan, 1.0, 0.05,
             "more light or more frames in the calibration"),
        Line(GROUP, "F_cal", "(η - 1) / ((N - 1) F_amp F_noise)", "", known[0] * calibration, rest_error, 1.0, 0.1,
             "drift since the calibration, or a wrong matrix: calibrate again"),
        Line(GROUP, "phase-only, predicted", "(Σ|t|)² / ⟨Σ|t|²⟩ by the matrix; 1 + (N - 1) π/4", "",
             float(best.phase_only.mean()), standard_error(best.phase_only, free[1]), phase_gain(n),
             0.1 * phase_gain(n), "not measured: needs complex modulation"),
    ]  # fmt: skip
    budget = {"n": n, "ideal": law, "F_amp": amplitude, "F_noise": noise, "F_cal": calibration}
    return Chapter(lines, {"focusing": curve_of(plain, best) | {"budget": budget}})


def reason_of(plain: Focus, lost: bool) -> str:
    """Reason why the foci cannot be judged; empty if they can."""
    if plain.saturated.mean() > 0.5:
        return "the camera is saturated at most foci, even at the shortest exposure"
    if not lost:
        return ""
    return (
        f"no focus: {plain.enhancement.mean():.2g} times the mean where the matrix predicts "
        f"{plain.predicted.mean():.3g}; the matrix is not that of this medium"
    )


def curve_of(plain: Focus, best: Focus) -> dict[str, Any]:
    """Numbers behind the figures."""
    return {
        "measured": plain.enhancement.tolist(), "predicted": plain.predicted.tolist(),
        "best_measured": best.enhancement.tolist(), "best_predicted": best.predicted.tolist(),
        "frame": best.frame.tolist(), "target": int(best.targets[0]), "exposure_s": plain.exposure_s,
    }  # fmt: skip


def share(gain: NDArray[np.float64], n: int) -> float:
    """Mean of the enhancement minus 1, divided by n - 1."""
    return float((np.mean(gain) - 1.0) / max(n - 1, 1))


def chosen(n_out: int, targets: NDArray[np.intp]) -> BoolArray:
    """Which pixels are targets, (n_out,)."""
    found = np.zeros(n_out, bool)
    found[targets] = True
    return found


def standard_error(values: NDArray[np.float64], free: float) -> float:
    """Standard error of a mean of which `free` values are independent (`student_factor`); NaN for under `MIN_FREE`."""
    if free < MIN_FREE:
        return math.nan
    spread = float(np.std(values)) / math.sqrt(1.0 - 1.0 / free)
    return spread / math.sqrt(free) * student_factor(free)
