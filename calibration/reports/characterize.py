"""What the device is worth: its parts and what they do together, each against theory or data sheet."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from tqdm import tqdm

from calibration.camera.photon_transfer import PhotonTransfer, photon_transfer
from calibration.device import Device, check_device
from calibration.projections.measuring import measure_projection
from calibration.projections.methods import METHODS as PROJECTIONS
from calibration.recovery.exposure import expose, expose_patterns
from calibration.recovery.methods import METHODS as RECOVERIES
from calibration.recovery.methods import check_recovery
from calibration.recovery.transmission import recover_transmission_matrix
from calibration.reports.chapters.camera import camera_chapter
from calibration.reports.chapters.common import Chapter, noise_model, refusal
from calibration.reports.chapters.focusing import focusing_chapter
from calibration.reports.chapters.matrix import matrix_chapter
from calibration.reports.chapters.projection import projection_chapter, truth_chapter
from calibration.reports.chapters.speckle import speckle_chapter
from calibration.reports.chapters.stability import Witness, stability_chapter
from calibration.reports.report import Report
from calibration.storage.files import WrongFile
from photonics.component import integer
from photonics.patterns.encoding import half_on
from photonics.random import PatternSet, check_seed

__all__ = ["characterize"]

EXPOSURES = ("methods", "keep", "auto")
LEAST_PIXELS = 16
SPECKLE_FRAMES = 16
ANCHOR_FRAMES, DARK_ANCHOR = 4, 0.05
"""Frames of a look at the anchor, and share of the other inputs' light per input under which it is dark."""


def characterize(
    opu: Device,
    truth: Any = None,
    vectors: int = 64,
    n_inputs: int | None = None,
    *,
    method: str = "anchor",
    matrix: Any = None,
    exposure: str = "methods",
    seed: int = 0,
    progress: bool = False,
) -> Report:
    """Characterise a device from its frames.

    Parameters
    ----------
    opu : Device
        The device, live or recorded.
    truth : array_like of complex, shape (n_out, n_in), optional
        Transmission matrix, if it is known (`OPU.effective_matrix` of a simulated device): the projection is
        then also compared with it. It is used in that comparison only.
    vectors : int
        Random test vectors for the projection, half ON; 8 or more.
    n_inputs : int, optional
        Inputs of the projection that is judged, as for `measure_projection`.
    method : str
        How it is measured, as for `measure_projection`.
    matrix : TransmissionEstimate or str or mapping, optional
        A recovered transmission matrix to judge and to focus with; or the method by which to recover one now; or the
        arguments of `recover_transmission_matrix` for that, ``{"method": "popoff", "out": "matrix.h5"}``. Without it,
        the report has no such chapters.
    exposure : {"methods", "keep", "auto"}
        "methods" keeps the device's exposure for frames of plain patterns, while the recovery of a matrix and
        projections with a reference beam, whose frames are brighter, are taken at one that suits them (the report
        says which). "keep" keeps the device's for all frames. "auto" sets that of plain patterns as well, so that one
        reading in 10 000 saturates.
    seed : int
        Draws the test patterns.
    progress : bool
        Show progress bars.

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
    if isinstance(matrix, str):
        matrix = {"method": matrix}
    recovery = {"n_inputs": n_inputs, "seed": seed, **matrix} if isinstance(matrix, Mapping) else None
    check_arguments(opu, truth, n_inputs, method, matrix, exposure)
    if recovery is not None:
        check_recovery(opu, **recovery)
    vectors, seed = integer(vectors, "vectors", 8), check_seed(seed)
    start = opu.clock.frames
    if exposure == "auto":
        expose_patterns(opu, seed=seed)
    exposure_s = opu.exposure_s
    suit = exposure != "keep"
    about: dict[str, Any] = {"projection": method, "truth": "not used" if truth is None else "used, for the projection"}
    chapters: list[Chapter] = []
    count = 4 if matrix is None else 6 if recovery is None else 7
    with tqdm(total=count, unit="part", disable=not progress) as bar:

        def add(group: str, write: Callable[[], Chapter]) -> None:
            bar.set_description_str(group)
            chapters.append(attempt(group, write))
            bar.update()

        bar.set_description_str("camera")
        transfer = photon_transfer(opu) if getattr(opu, "has_uniform", True) else None
        noise = noise_model(opu, camera_gain(opu, transfer))
        witness = Witness(opu, seed)
        witness.look()
        add("camera", lambda: camera_chapter(opu.camera, transfer) if transfer else Chapter([], {}))
        patterns = half_on(SPECKLE_FRAMES, opu.n_in, seed, PatternSet.SPECKLE)
        patterns = patterns[patterns.any(axis=1)]
        frames = np.asarray(opu.measure(patterns))
        add("speckle", lambda: speckle_chapter(opu, patterns, frames, noise))
        witness.look()
        add("projection", lambda: judge_projection(opu, method, n_inputs, truth, vectors, seed, suit, about))
        opu.exposure_s = exposure_s
        witness.look()
        estimate: Any = matrix
        if recovery is not None:
            options = {"progress": progress, "exposure": "auto" if suit else None, **recovery}
            add("matrix", lambda: recovered(opu, options, about))
            estimate, opu.exposure_s = about.pop("estimate", None), exposure_s
            witness.look()
        if estimate is not None:
            about["matrix"] = about_matrix(estimate)
            add("matrix", lambda: matrix_chapter(opu, estimate, noise, seed))
            if np.asarray(estimate.valid).any():
                add("focusing", lambda: focusing_chapter(opu, estimate, seed))
        witness.look()
        add("stability", lambda: stability_chapter(witness, noise))
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


def check_arguments(opu: Any, truth: Any, n_inputs: Any, method: Any, matrix: Any, exposure: Any) -> None:
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
    if exposure not in EXPOSURES:
        raise ValueError(f"exposure must be one of {', '.join(EXPOSURES)}, got {exposure!r}")
    if matrix is None:
        return
    if isinstance(matrix, Mapping):
        if matrix.get("method") not in RECOVERIES:
            given = matrix.get("method")
            raise ValueError(f"matrix must be an estimate or one of {', '.join(RECOVERIES)}, got {given!r}")
        return
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
    except WrongFile:
        raise  # a file that is of something else says nothing about the device
    except ArithmeticError:
        reason = "the frames hold no light above dark: a quotient of two levels is not a number"
        return Chapter([refusal(group, "light", reason, "open the shutter; opu.autoexpose")], {})
    except ValueError as error:
        return Chapter([refusal(group, "calibration", str(error), "see the reason")], {})


def judge_projection(
    opu: Device,
    method: str,
    n_inputs: int | None,
    truth: Any,
    vectors: int,
    seed: int,
    suit: bool,
    about: dict[str, Any],
) -> Chapter:
    """Measure the projection, with `suit` at an exposure that suits it, and judge it; `about` takes what to report."""
    if method == "multilateration" and n_inputs is None:
        n_inputs = opu.n_in // 2  # the others serve as anchors
    refused = anchor_in_the_dark(opu, method, n_inputs)
    if refused:
        advice = "light the anchor's mirrors, or choose others (n_inputs)"
        return Chapter([refusal("projection", "anchor", refused, advice)], {})
    if suit and method in RECOVERIES:  # a reference beam makes frames brighter
        expose(opu, method, n_inputs=n_inputs, seed=seed)
    about["projection_exposure_s"] = opu.exposure_s
    projection = measure_projection(opu, method=method, n_inputs=n_inputs)
    x = half_on(vectors, projection.n_inputs, seed, PatternSet.PROJECTION_VECTORS)
    result = projection.measure(x)
    about |= projection.describe()
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


def recovered(opu: Device, options: Mapping[str, Any], about: dict[str, Any]) -> Chapter:
    """Recover a transmission matrix, which is left in `about`."""
    about["estimate"] = recover_transmission_matrix(opu, **options)
    return Chapter([], {})


def about_matrix(estimate: Any) -> dict[str, Any]:
    """What a report says of the estimate that it judges: method, frames, and what its gauge leaves open."""
    gauge: Any = getattr(estimate, "gauge", "")
    plain = gauge._asdict() if hasattr(gauge, "_asdict") else {"sentence": str(gauge)}
    about = {name: getattr(estimate, name, None) for name in ("method", "frames")}
    source = getattr(estimate, "provenance", {}) or {}
    return about | {"gauge": plain} | {name: source[name] for name in ("date", "exposure_s") if name in source}
