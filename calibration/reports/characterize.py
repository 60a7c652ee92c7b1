"""Characterisation of a device: its parts and its overall behaviour, compared with theory or the data sheet."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from calibration.arrays import mean
from calibration.camera.noise import NoiseModel
from calibration.camera.photon_transfer import PhotonTransfer, photon_transfer
from calibration.device import Device, check_device, show
from calibration.projections.measuring import measure_projection
from calibration.projections.methods import METHODS as PROJECTIONS
from calibration.recovery.estimate import TransmissionEstimate
from calibration.recovery.exposure import expose, expose_patterns
from calibration.recovery.methods import METHODS as RECOVERIES
from calibration.recovery.methods import check_recovery
from calibration.recovery.transmission import recover_transmission_matrix
from calibration.reports.chapters.bad_pixels import find_bad_pixels
from calibration.reports.chapters.camera import camera_chapter
from calibration.reports.chapters.common import Chapter, measure_dark, refusal
from calibration.reports.chapters.focusing import focusing_chapter
from calibration.reports.chapters.matrix import matrix_chapter
from calibration.reports.chapters.projection import measure_vectors, projection_chapter, truth_chapter
from calibration.reports.chapters.speckle import dim_ratio, speckle_chapter
from calibration.reports.chapters.stability import Witness, stability_chapter
from calibration.reports.report import Report, bind
from calibration.storage.descriptions import Description
from calibration.storage.files import WrongFile
from calibration.storage.recorded import RecordedDevice
from photonics.backend import backend_of, to_host
from photonics.component import integer
from photonics.patterns.encoding import half_on
from photonics.random import PatternSet, check_seed

__all__ = ["characterize"]

EXPOSURES = ("methods", "keep", "auto")
MIN_PIXELS = 16
"""Smallest number of pixels with useful statistics."""
SPECKLE_FRAMES = 16
"""Number of half-ON patterns in the speckle chapter."""
ANCHOR_FRAMES = 4
"""Number of frames of each pattern in the test of the anchor."""
DARK_ANCHOR = 0.05
"""The anchor is dark if an input of it gives less than this share of the light of another input."""


def characterize(
    opu: Device,
    truth: ArrayLike | None = None,
    vectors: int = 64,
    n_inputs: int | None = None,
    *,
    method: str = "anchor",
    matrix: TransmissionEstimate | str | Description | None = None,
    exposure: Literal["methods", "keep", "auto"] = "methods",
    seed: int = 0,
    progress: bool = False,
) -> Report:
    """Characterise a device from its frames.

    Parameters
    ----------
    opu : Device
        The device, live or recorded.
    truth : array_like of complex, shape (n_out, n_in), optional
        Transmission matrix, if known (`OPU.effective_matrix` of a simulated device). It is used only to compare the
        projection with it.
    vectors : int
        Number of random test vectors for the projection, 8 or more: half ON, or one 1 and one -1 for reference pairs.
    n_inputs : int, optional
        Inputs of the projection, as for `measure_projection`.
    method : str
        How the projection is measured, as for `measure_projection`.
    matrix : TransmissionEstimate or str or mapping, optional
        A recovered transmission matrix to assess and to focus with; or the method that recovers one; or the arguments
        of `recover_transmission_matrix`, ``{"method": "popoff", "out": "matrix.h5"}``. By default the report has no
        chapters on a matrix.
    exposure : {"methods", "keep", "auto"}
        "methods" keeps the device's exposure for frames of plain patterns and for reference pairs, whose frames are as
        bright. Matrix recovery and projections by phase stepping or off axis, whose frames are brighter, use suitable
        exposures of their own, which the report states. "keep" keeps the device's exposure for all frames. "auto" also
        sets the exposure of plain patterns, so that one reading in 10 000 saturates.
    seed : int
        Seed of the test patterns.
    progress : bool
        Show progress bars.

    Returns
    -------
    Report
        If a chapter cannot be measured (a saturated camera, dark anchors), a line with the verdict "failed" gives the
        reason. The report of a recording may end there: the next frames of the file are those that this chapter left.

    Raises
    ------
    ValueError
        If an argument is out of range, or a recorded device lacks the frames.
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
    exposure_s, suit, transfer = opu.exposure_s, exposure != "keep", None
    parts = 4 if matrix is None else 6 if recovery is None else 7
    with tqdm(total=parts, unit="part", disable=not progress) as bar, Run(opu, seed, bar) as run:
        transfer, noise = run.measure_camera()
        run.measure_speckle(noise)
        run.add("projection", lambda: judge_projection(run, method, n_inputs, truth, vectors, suit))
        opu.exposure_s = exposure_s
        run.take_frames()
        estimate = matrix if isinstance(matrix, TransmissionEstimate) else None
        if recovery is not None:
            estimate = run.recover({"progress": progress, "exposure": "auto" if suit else "keep", **recovery})
            opu.exposure_s = exposure_s
            run.take_frames()
        if estimate is not None:
            run.judge_matrix(estimate, noise)
        run.judge_stability(noise)
    run.check_order()
    provenance = {
        "frames": opu.clock.frames - start,
        "camera_frames": transfer.frames if transfer else 0,
        "exposure_s": exposure_s,
        "exposures_s": run.exposures,
        "seed": seed,
        **run.about,
    }
    return bind(opu, run.chapters, provenance)


@dataclass(eq=False)
class Run:
    """A characterisation in progress."""

    opu: Device
    seed: int
    bar: tqdm
    chapters: list[Chapter] = field(default_factory=list)
    """Finished chapters, in order."""
    about: dict[str, Any] = field(default_factory=dict)
    """Methods and exposures, for the report's provenance."""
    exposures: dict[str, float] = field(default_factory=dict)
    """Exposure of each chapter, seconds."""
    dim_ratio: float = 1.0
    """Share of dim readings relative to fully developed speckle."""

    def __post_init__(self) -> None:
        self.witness = Witness(self.opu, self.seed)
        self.bad = np.zeros(self.opu.n_out, np.bool_)
        """Hot and stuck pixels, (n_out,)."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        """End the report where a recording does not go on, if a chapter failed before: that is the finding."""
        lines = [line for chapter in self.chapters for line in chapter.lines]
        failed = [line for line in lines if line.reason]
        if not failed or not isinstance(error, WrongFile):
            return False
        reason = f"the part {failed[0].group!r} failed and left frames of the recording; later parts are not judged"
        advice = f"first mend the cause of the failure ({failed[0].group})"
        self.chapters.append(Chapter([refusal("stability", "recording", reason, advice)], {}))
        return True

    def add(self, group: str, write: Callable[[], Chapter]) -> None:
        """Add a chapter; if it cannot be measured, a line gives the reason."""
        self.bar.set_description_str(group)
        self.chapters.append(attempt(group, write))
        self.bar.update()
        verdicts = Counter(line.verdict for line in self.chapters[-1].lines)
        found = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
        logging.getLogger(__name__).info("%s: %s", group, found)

    def take_frames(self) -> None:
        """Take frames of the pattern that is repeated during the measurement."""
        self.witness.take_frames()

    def measure_camera(self) -> tuple[PhotonTransfer | None, NoiseModel]:
        """Photon transfer, unless a recording has no uniform light, and the noise of the camera."""
        self.bar.set_description_str("camera")
        no_light = not getattr(self.opu, "has_uniform", True)
        transfer = None if no_light else photon_transfer(self.opu)
        noise, self.bad = measure_dark(self.opu, camera_gain(self.opu, transfer))
        self.take_frames()
        self.add("camera", lambda: camera_chapter(self.opu.camera, transfer) if transfer else Chapter([], {}))
        self.exposures |= {"camera": transfer.exposure_s} if transfer else {}
        return transfer, noise

    def measure_speckle(self, noise: NoiseModel) -> None:
        """Speckle of random half-ON patterns."""
        self.exposures["speckle"] = self.opu.exposure_s
        patterns = half_on(SPECKLE_FRAMES, self.opu.n_in, self.seed, PatternSet.SPECKLE)
        patterns = patterns[patterns.any(axis=1)]
        frames = to_host(show(self.opu, patterns))
        bad = find_bad_pixels(self.opu, frames, noise, self.bad)
        self.bad = bad.bright
        self.add("speckle", lambda: speckle_chapter(self.opu, patterns, frames, noise, bad))
        self.dim_ratio = dim_ratio(self.opu, frames, noise, bad)
        self.take_frames()

    def judge_stability(self, noise: NoiseModel) -> None:
        """Compare the frames of the repeated pattern with each other."""
        self.take_frames()
        self.add("stability", lambda: stability_chapter(self.witness, noise, self.bad))
        self.exposures["stability"] = self.opu.exposure_s

    def check_order(self) -> None:
        """Check that the frames of a recording show their patterns; a line is added if some do not."""
        if isinstance(self.opu, RecordedDevice):
            order = self.opu.check_sequence()
            self.about["frame_order"] = str(order)
            if order.faults:
                advice = "record again, or write the recording with the patterns that check_sequence gives"
                self.chapters.append(Chapter([refusal("frames", "order", str(order), advice)], {}))

    def recover(self, options: Description) -> TransmissionEstimate | None:
        """Recover a transmission matrix; None if that fails."""
        found: list[TransmissionEstimate] = []

        def write() -> Chapter:
            found.append(recover_transmission_matrix(self.opu, **options))
            return Chapter([], {})

        self.add("matrix", write)
        return found[0] if found else None

    def judge_matrix(self, estimate: TransmissionEstimate, noise: NoiseModel) -> None:
        """Assess an estimate, and focus with it."""
        self.about["matrix"] = {"method": estimate.method, "frames": estimate.frames}
        self.about["matrix"]["gauge"] = estimate.gauge._asdict()
        source = estimate.provenance
        self.about["matrix"] |= {name: source[name] for name in ("date", "exposure_s") if name in source}
        if "exposure_s" in source:
            self.exposures["matrix"] = source["exposure_s"]
        self.add("matrix", lambda: matrix_chapter(self.opu, estimate, noise, self.seed))
        if estimate.valid.any():
            self.add("focusing", lambda: focusing_chapter(self.opu, estimate, self.seed))
            if "focusing" in self.chapters[-1].curves:
                self.exposures["focusing"] = self.chapters[-1].curves["focusing"]["exposure_s"]


def check_arguments(
    opu: Device, truth: ArrayLike | None, n_inputs: int | None, method: str, matrix: object, exposure: str
) -> None:
    """Raise a one-line ``ValueError`` for invalid arguments."""
    device = check_device(opu)
    if device.n_out < MIN_PIXELS:
        raise ValueError(f"opu must have {MIN_PIXELS} pixels or more for statistics, got {device.n_out}")
    if truth is not None and np.shape(truth) != (device.n_out, device.n_in):
        raise ValueError(f"truth must have shape {(device.n_out, device.n_in)}, got {np.shape(truth)}")
    if truth is not None and not np.isfinite(truth).all():
        raise ValueError("truth must be finite, got NaN or infinity")
    if n_inputs is not None:
        integer(n_inputs, "n_inputs", 1, device.n_in)
    if method not in PROJECTIONS:
        raise ValueError(f"method must be one of {', '.join(PROJECTIONS)}, got {method!r}")
    if exposure not in EXPOSURES:
        raise ValueError(f"exposure must be one of {', '.join(EXPOSURES)}, got {exposure!r}")
    if isinstance(matrix, Mapping):
        given = matrix.get("method")
        if given not in RECOVERIES:
            raise ValueError(f"matrix must be an estimate or one of {', '.join(RECOVERIES)}, got {given!r}")
    elif matrix is not None and not (isinstance(matrix, TransmissionEstimate) and len(matrix.valid) == device.n_out):
        raise ValueError(f"matrix must be an estimate of {device.n_out} rows, got {type(matrix).__name__}")


def camera_gain(opu: Device, transfer: PhotonTransfer | None) -> float:
    """DN per electron: measured if possible, otherwise from the data sheet."""
    measured = transfer.gain.value if transfer else float("nan")
    return measured if np.isfinite(measured) else opu.camera.gain


def attempt(group: str, write: Callable[[], Chapter]) -> Chapter:
    """Write a chapter; if it cannot be measured, a line with the reason."""
    try:
        return write()
    except WrongFile:
        raise  # a file of another measurement is not a finding about the device
    except ArithmeticError:
        reason = "the frames have no light above dark, so that ratios of levels are undefined"
        return Chapter(
            [refusal(group, "light", reason, "open the shutter; more light (laser.power_w) or a longer exposure")], {}
        )
    except ValueError as error:
        return Chapter([refusal(group, "calibration", str(error), "see the reason")], {})


def judge_projection(
    run: Run, method: str, n_inputs: int | None, truth: ArrayLike | None, vectors: int, suit: bool
) -> Chapter:
    """Measure and assess the projection; `suit` sets a suitable exposure first."""
    opu, seed, about = run.opu, run.seed, run.about
    about |= {"projection": method, "truth": "not used" if truth is None else "used, for the projection"}
    if method == "multilateration" and n_inputs is None:
        n_inputs = opu.n_in // 2  # the others serve as anchors
    refused = explain_dark_anchor(opu, method, n_inputs)
    if refused:
        advice = "light the anchor's mirrors, or choose others (n_inputs)"
        return Chapter([refusal("projection", "anchor", refused, advice)], {})
    if suit and method in RECOVERIES:  # reference and speckle together are brighter than plain patterns
        expose(opu, method, n_inputs=n_inputs, seed=seed)
    about["projection_exposure_s"] = run.exposures["projection"] = opu.exposure_s
    projection = measure_projection(opu, method=method, n_inputs=n_inputs)
    x, result = measure_vectors(projection, vectors, seed)
    about["projection_vectors"] = f"{vectors} vectors, {'half ON' if x.dtype == np.bool_ else 'one 1 and one -1 each'}"
    about |= projection.describe()
    found = projection_chapter(projection, x, result, seed, run.dim_ratio, run.bad)
    if truth is None:
        return found
    against = truth_chapter(projection, x, result, truth)
    return Chapter(found.lines + against.lines, found.curves | against.curves)


def explain_dark_anchor(opu: Device, method: str, n_inputs: int | None) -> str:
    """Reason why the anchor's inputs are too dark compared with the others; empty if they are not."""
    if method not in ("anchor", "multilateration") or n_inputs is None or n_inputs == opu.n_in:
        return ""  # the anchor is all mirrors ON, as bright as patterns
    spare = np.arange(opu.n_in) >= n_inputs
    patterns = np.repeat(np.stack([np.zeros_like(spare), spare, ~spare]), ANCHOR_FRAMES, axis=0)
    frames = show(opu, patterns)
    off, anchor, rest = to_host(mean(backend_of(frames).xp.reshape(frames, (3, -1)), 1))
    share = (anchor - off) / spare.sum() / max((rest - off) / (~spare).sum(), 1e-12)
    if share > DARK_ANCHOR:
        return ""
    return (
        f"the anchor is too dark: its {spare.sum()} inputs give {anchor - off:.2g} DN above dark, {share:.1%} of "
        "the light of as many other inputs"
    )
