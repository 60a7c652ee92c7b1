"""What the device is worth: its parts and what they do together, each against theory or data sheet."""

from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from calibration.device import Device, check_device
from calibration.exposure import expose
from calibration.photon_transfer import PhotonTransfer, photon_transfer
from calibration.projection import METHODS as PROJECTIONS
from calibration.projection import measure_projection
from calibration.recorded import Mismatch
from calibration.report import Report
from calibration.sections.camera import camera_chapter
from calibration.sections.common import Chapter, noise_model, refusal
from calibration.sections.focusing import focusing_chapter
from calibration.sections.matrix import matrix_chapter
from calibration.sections.projection import projection_chapter, truth_chapter
from calibration.sections.speckle import speckle_chapter
from calibration.sections.stability import Witness, stability_chapter
from calibration.transmission import METHODS as RECOVERIES
from calibration.transmission import recover_transmission_matrix
from photonics.component import integer
from photonics.encoding import half_on
from photonics.random import check_seed

__all__ = ["characterize"]

LEAST_PIXELS = 16
SPECKLE_FRAMES = 16
ANCHOR_FRAMES, DARK_ANCHOR = 4, 0.05
"""Frames of a look at the anchor, and share of the other inputs' light per input under which it is dark."""
VECTOR_TICK, SPECKLE_TICK = 1_000_000, 3_000_000  # other patterns than autoexpose's


def characterize(
    opu: Device,
    truth: Any = None,
    vectors: int = 64,
    n_inputs: int | None = None,
    *,
    method: str = "anchor",
    matrix: Any = None,
    seed: int = 0,
) -> Report:
    """Characterise a device from its frames.

    Parameters
    ----------
    opu : Device
        The device, live or recorded, at the exposure at which it will work.
    truth : array_like of complex, shape (n_out, n_in), optional
        Transmission matrix, if it is known (`OPU.effective_matrix` of a simulated device): the projection is
        then also compared with it. It is used in that comparison only.
    vectors : int
        Random test vectors for the projection, half ON; 8 or more.
    n_inputs : int, optional
        Inputs of the projection that is judged, as for `measure_projection`.
    method : str
        How it is measured, as for `measure_projection`.
    matrix : TransmissionEstimate or str, optional
        A recovered transmission matrix to judge and to focus with, or the method by which to recover one now
        (`recover_transmission_matrix`). Without it, the report has no such chapters.
    seed : int
        Draws the test patterns.

    Returns
    -------
    Report
        A chapter that the device does not allow (a saturated camera, anchors in the dark) is a line with the verdict
        failed and the reason.

    Raises
    ------
    ValueError
        If an argument is out of range, or a recorded device was asked for frames that it does not hold.
    """
    check_arguments(opu, truth, n_inputs, method, matrix)
    vectors, seed = integer(vectors, "vectors", 8), check_seed(seed)
    start, exposure_s = opu.clock.frames, opu.exposure_s
    transfer = photon_transfer(opu) if getattr(opu, "has_uniform", True) else None
    noise = noise_model(opu, camera_gain(opu, transfer))
    witness = Witness(opu, seed)
    witness.look()
    patterns = half_on(SPECKLE_FRAMES, opu.n_in, seed, SPECKLE_TICK)
    patterns = patterns[patterns.any(axis=1)]
    chapters = [camera_chapter(opu.camera, transfer)] if transfer else []
    frames = np.asarray(opu.measure(patterns))
    chapters.append(attempt("speckle", lambda: speckle_chapter(opu, patterns, frames, noise)))
    witness.look()

    about: dict[str, Any] = {"projection": method}
    chapters.append(attempt("projection", lambda: judge_projection(opu, method, n_inputs, truth, vectors, seed, about)))
    opu.exposure_s = exposure_s
    witness.look()
    if matrix is not None:
        estimate = matrix
        if isinstance(matrix, str):
            chapters.append(attempt("matrix", lambda: recovered(opu, matrix, n_inputs, seed, about)))
            estimate, opu.exposure_s = about.pop("estimate", None), exposure_s
            witness.look()
        if estimate is not None:
            about["matrix"] = about_matrix(estimate)
            chapters.append(attempt("matrix", lambda: matrix_chapter(opu, estimate, noise, seed)))
            if np.asarray(estimate.valid).any():
                chapters.append(attempt("focusing", lambda: focusing_chapter(opu, estimate, seed)))
    witness.look()
    chapters.append(attempt("stability", lambda: stability_chapter(witness, noise)))
    provenance = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": version("opu-sim"),
        "frames": opu.clock.frames - start,
        "camera_frames": transfer.frames if transfer else 0,
        "exposure_s": exposure_s,
        "seed": seed,
        **about,
    }
    lines = [line for chapter in chapters for line in chapter.lines]
    curves = {name: curve for chapter in chapters for name, curve in chapter.curves.items()}
    return Report(opu.to_dict(), provenance, tuple(lines), curves)


def check_arguments(opu: Any, truth: Any, n_inputs: Any, method: Any, matrix: Any) -> None:
    """Raise a one-line ``ValueError`` for what no device could do."""
    device = check_device(opu)
    if device.n_out < LEAST_PIXELS:
        raise ValueError(f"opu must have {LEAST_PIXELS} pixels or more to have statistics, got {device.n_out}")
    if truth is not None and np.shape(truth) != (device.n_out, device.n_in):
        raise ValueError(f"truth must have shape {(device.n_out, device.n_in)}, got {np.shape(truth)}")
    if n_inputs is not None:
        integer(n_inputs, "n_inputs", 1, device.n_in)
    if method not in PROJECTIONS:
        raise ValueError(f"method must be one of {', '.join(PROJECTIONS)}, got {method!r}")
    if isinstance(matrix, str) and matrix not in RECOVERIES:
        raise ValueError(f"matrix must be an estimate or one of {', '.join(RECOVERIES)}, got {matrix!r}")
    if matrix is not None and not isinstance(matrix, str):
        missing = [name for name in ("matrix", "valid", "standard_error") if not hasattr(matrix, name)]
        if missing or np.ndim(matrix.matrix) != 2 or len(matrix.matrix) != device.n_out:
            raise ValueError(f"matrix must be an estimate of {device.n_out} rows, got {type(matrix).__name__}")


def camera_gain(opu: Device, transfer: PhotonTransfer | None) -> float:
    """DN per electron: measured, or else by the data sheet."""
    measured = transfer.gain.value if transfer else float("nan")
    return measured if np.isfinite(measured) else opu.camera.gain


def attempt(group: str, write: Callable[[], Chapter]) -> Chapter:
    """Write a chapter; what the device does not allow is a line that says why."""
    try:
        return write()
    except Mismatch:
        raise  # a recording that holds other frames says nothing about the device
    except ArithmeticError:
        reason = "the frames hold no light above dark: a quotient of two levels is not a number"
        return Chapter([refusal(group, "light", reason, "open the shutter; opu.autoexpose")], {})
    except ValueError as error:
        return Chapter([refusal(group, "calibration", str(error), "see the reason")], {})


def judge_projection(
    opu: Device, method: str, n_inputs: int | None, truth: Any, vectors: int, seed: int, about: dict[str, Any]
) -> Chapter:
    """Measure the projection and judge it; `about` takes what the report shall say of it."""
    if method == "multilateration" and n_inputs is None:
        n_inputs = opu.n_in // 2  # the others serve as anchors
    refused = anchor_in_the_dark(opu, method, n_inputs)
    if refused:
        advice = "light the anchor's mirrors, or choose others (n_inputs)"
        return Chapter([refusal("projection", "anchor", refused, advice)], {})
    if method in RECOVERIES:  # a reference beam makes frames brighter
        expose(opu, method, n_inputs=n_inputs, seed=seed)
    about["projection_exposure_s"] = opu.exposure_s
    projection = measure_projection(opu, method=method, n_inputs=n_inputs)
    x = half_on(vectors, projection.n_inputs, seed, VECTOR_TICK)
    result = projection.measure(x)
    about["dark_anchor_share"] = float(1.0 - projection.valid.mean())
    about["unit_dn"] = projection.unit_dn
    about["frames_per_vector"] = projection.frames_per_vector
    about["projection_gauge"] = str(getattr(projection, "gauge", ""))
    found = projection_chapter(projection, x, result, seed)
    if truth is None:
        return found
    against = truth_chapter(projection, x, result, truth)
    return Chapter(found.lines + against.lines, found.curves | against.curves)


def anchor_in_the_dark(opu: Device, method: str, n_inputs: int | None) -> str:
    """Why the inputs that serve as anchors cannot, or an empty string: their light against that of all others."""
    if method not in ("anchor", "multilateration") or n_inputs is None or n_inputs == opu.n_in:
        return ""  # all mirrors ON, as bright as patterns are
    spare = np.arange(opu.n_in) >= n_inputs
    patterns = np.repeat(np.stack([np.zeros_like(spare), spare, ~spare]), ANCHOR_FRAMES, axis=0)
    off, anchor, rest = np.asarray(opu.measure(patterns)).reshape(3, -1).mean(axis=1, dtype=np.float64)
    share = (anchor - off) / spare.sum() / max((rest - off) / (~spare).sum(), 1e-12)
    if share > DARK_ANCHOR:
        return ""
    return (
        f"the anchor is in the dark: its {spare.sum()} inputs give {anchor - off:.2g} DN above dark, {share:.1%} of "
        "what as many of the others give"
    )


def recovered(opu: Device, method: str, n_inputs: int | None, seed: int, about: dict[str, Any]) -> Chapter:
    """Recover a transmission matrix at the exposure that suits the method; it is left in `about`."""
    expose(opu, method, n_inputs=n_inputs, seed=seed)
    about["estimate"] = recover_transmission_matrix(opu, method, n_inputs=n_inputs, seed=seed)
    return Chapter([], {})


def about_matrix(estimate: Any) -> dict[str, Any]:
    """What a report says of the estimate that it judges: method, frames, and what its gauge leaves open."""
    gauge: Any = getattr(estimate, "gauge", "")
    plain = gauge._asdict() if hasattr(gauge, "_asdict") else {"sentence": str(gauge)}
    about = {name: getattr(estimate, name, None) for name in ("method", "frames")}
    source = getattr(estimate, "provenance", {}) or {}
    return about | {"gauge": plain} | {name: source[name] for name in ("date", "exposure_s") if name in source}
