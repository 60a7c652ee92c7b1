"""Recovery of the transmission matrix: frames are taken and stored, then the matrix is solved row by row."""

import json
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from tqdm import tqdm

from calibration.arrays import bring
from calibration.camera.noise import NoiseModel
from calibration.device import Device, backend_of_device, check_device
from calibration.fields.bad_pixels import is_dead, is_hot, replace_bad_pixels
from calibration.fields.misfit import MAX_MISFIT, common_misfit, warn_of_misfit
from calibration.fields.readings import Bench, binned_imaging, data_sheet_error, frame_shape, switched_unit_dn
from calibration.recovery.base import Block, RecoveryMethod, RowDiagnostics
from calibration.recovery.brightness import check_frames
from calibration.recovery.estimate import TransmissionEstimate, load_estimate, write_estimate
from calibration.recovery.exposure import expose_recovery
from calibration.recovery.frames import (
    DARK_FRAMES,
    FramesOnDevice,
    FrameStore,
    MethodFrames,
    blocks,
    check_kept,
    explain_order,
    frames_at_a_time,
    keep_refused,
    slices,
    take_missing_frames,
)
from calibration.recovery.methods import METHODS, check_recovery
from calibration.recovery.tracking import describe_facts
from calibration.storage.descriptions import check_same, stamp
from calibration.storage.hdf5 import lay_out, new_hdf5
from calibration.storage.journal import Journal, create_journal
from photonics.arrays import Array, BoolArray, FloatArray, HostArray, RealArray
from photonics.backend import HOST, backend_of, to_host
from photonics.parts.camera import QUANTISATION
from photonics.threads import one_blas_thread

__all__ = ["METHODS", "TransmissionEstimate", "recover_transmission_matrix"]


def recover_transmission_matrix(
    opu: Device,
    method: str = "phase-stepping",
    *,
    n_inputs: int | None = None,
    steps: int = 4,
    track_drift: bool = False,
    exposure: Literal["auto", "keep"] = "auto",
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
    seed: int = 0,
    **options: Any,
) -> TransmissionEstimate:
    """Recover the transmission matrix of a device from its frames.

    Parameters
    ----------
    opu : Device
        The device.
    method : str
        A name in `METHODS`. "phase-stepping" and "off-axis" need a reference arm; "popoff" needs inputs beyond
        `n_inputs` for its reference; "numerical-interferometry" and "phase-retrieval" need neither.
    n_inputs : int, optional
        Inputs whose columns are recovered, the first ones; by default all (with "popoff", half of them).
    steps : int
        Phase steps of "phase-stepping", 3 or more.
    track_drift : bool
        With "phase-stepping": one more frame per probe, from which the phase of the reference in every frame is found.
    exposure : {"auto", "keep"}
        "auto" sets the exposure that suits the frames of the method (`calibration.recovery.exposure.expose`), or that
        of the run to resume; the device stays at it. "keep" keeps that of the device, as for a recording at one.
    out : path, optional
        HDF5 file for the result, which must not exist. During the run its frames are in ``<out>.part``. By default the
        frames are in a temporary file and the result is in memory.
    resume : bool
        Resume ``<out>.part``, which must have the same device, method, options and seed. The result is bit for bit that
        of an uninterrupted run. If there is no such file, the run starts from the beginning. If `out` itself exists and
        belongs to this measurement, it is returned.
    progress : bool
        Show progress bars.
    seed : int
        Seed of random probes, if the method uses any.
    **options
        Further options of the method: the fields of its class.

    Returns
    -------
    TransmissionEstimate
        Compare it with a known matrix only after fixing the gauge that it states (`calibration.metrics`). If the medium
        moves, the stated error is that against the matrix of the last frame: "phase-stepping" shows its first probe
        again (``drift["correlation_frames"]``), and for the other methods the frames do not fit one matrix (misfit).

    Raises
    ------
    ValueError
        If an argument is wrong, `out` exists or belongs to another measurement, or the frames cannot be used, for
        instance because more than 2 % of the readings are saturated, which 64 frames usually show. The message says
        where the frames are kept.
    """
    device = check_device(opu)
    plan, target = check_recovery(
        device, method, n_inputs=n_inputs, steps=steps, track_drift=track_drift, exposure=exposure, out=out,
        resume=resume, seed=seed, **options,
    )  # fmt: skip
    plan.check(device)
    if target is not None and target.exists():
        return load_finished(device, plan, target, exposure)
    with ExitStack() as stack:
        if target is None:
            part = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="opu-"))) / "frames.part"
        else:
            part = target.with_name(target.name + ".part")
        if exposure == "auto" and not part.exists():
            expose_recovery(device, plan)
        if target is None and not backend_of_device(device).on_host:
            store = new_store(device, plan)
        else:
            store = stack.enter_context(open_frames(part, device, plan, resume, exposure))
        with keep_refused(part, target):
            take_missing_frames(device, plan, store, progress)
            saturated = check_brightness(device, plan, store)
            estimate = solve(device, plan, store, target, saturated, progress)
        if target is not None:
            part.unlink()
    return estimate


def new_store(device: Device, plan: RecoveryMethod) -> FramesOnDevice:
    """Memory of the device for the frames of a run."""
    count = DARK_FRAMES + plan.frames + plan.closing_frames
    return FramesOnDevice(describe_measurement(device, plan), device, count)


def check_brightness(device: Device, plan: RecoveryMethod, store: FrameStore) -> FloatArray:
    """Share of saturated readings of each pixel, as `check_frames`, of the frames of a run."""
    frames, size = store.arrays["frames"], frames_at_a_time(device)
    hot, stop = is_hot(to_host(frames[:DARK_FRAMES, :]), device.camera.saturation_dn), DARK_FRAMES + plan.frames
    return check_frames(device, hot, (frames[part, :] for part in slices(DARK_FRAMES, stop, size)))


def load_finished(device: Device, plan: RecoveryMethod, target: Path, exposure: str | None) -> TransmissionEstimate:
    """Load the result of a finished run, and leave the device as that run did.

    Raises
    ------
    ValueError
        If the result belongs to another measurement.
    """
    estimate = load_estimate(target)
    about = estimate.provenance
    if exposure == "auto":
        device.exposure_s = float(about["exposure_s"])
    known = {name: value for name, value in about.items() if name not in ("date", "version", "readings")}
    check_same(target, known, describe_measurement(device, plan), ("start_frame",))
    device.clock.frames = int(about["start_frame"]) + estimate.frames
    return estimate


def open_frames(part: Path, device: Device, plan: RecoveryMethod, resume: bool, exposure: str | None) -> Journal:
    """Open the frames of a new or resumed run; "auto" takes the exposure of a resumed run from its file."""
    if not part.exists():
        frames = np.empty((0, device.n_out), device.camera.dtype)
        return create_journal(part, describe_measurement(device, plan), {"frames": frames}, "out")
    if not resume:
        raise ValueError(f"out must have no unfinished measurement, got {part}: use resume=True, or remove the file")
    journal = Journal(part, True, "out")
    try:
        if exposure == "auto":
            device.exposure_s = float(journal.header.get("exposure_s", device.exposure_s))
        check_same(part, journal.header, describe_measurement(device, plan), ("start_frame",))
        check_kept(device, journal)
    except BaseException:
        journal.close()
        raise
    return journal


def describe_measurement(device: Device, plan: RecoveryMethod) -> dict[str, Any]:
    """Describe a measurement in plain types: only a run with the same description can resume it."""
    described = {
        "method": plan.name,
        "options": asdict(plan),
        "exposure_s": device.exposure_s,
        "start_frame": device.clock.frames,
        "device": device.to_dict(),
    }
    return json.loads(json.dumps(described, allow_nan=False))


def describe_bench(device: Device, dark: HostArray) -> Bench:
    """Describe the device as far as methods may know it, including its camera's noise."""
    imaging, camera = binned_imaging(device), device.camera
    values, per_wave = dark.astype(np.float32), imaging.pixel_m / device.laser.wavelength_m
    values = values[:, ~is_hot(dark, camera.saturation_dn)]
    floor = max(float(values.var(axis=0, ddof=1).mean()), QUANTISATION)
    return Bench(
        n_in=device.n_in,
        n_out=device.n_out,
        unit_dn=switched_unit_dn(device, device.unit_dn),
        saturation_dn=camera.saturation_dn,
        leakage=complex(device.dmd.leakage),
        field_band=None if imaging.numerical_aperture is None else imaging.numerical_aperture * per_wave,
        samples_per_pixel=imaging.samples_per_pixel,
        coherent=imaging.polarisations == 1 and imaging.samples_per_pixel == 1,
        visibility=imaging.visibility(device.laser.wavelength_m),
        carrier=imaging.reference.carrier(device.laser.wavelength_m, imaging.pixel_m),
        frame_shape=frame_shape(device),
        cropped=imaging.region is not None,
        scale_error=data_sheet_error(device),
        laser_drift=float(device.laser.drift_rms),
        noise=NoiseModel(floor, camera.gain, float(values.mean())),
    )


@one_blas_thread  # same bits everywhere; methods distribute blocks of rows over their own threads
def solve(
    device: Device,
    plan: RecoveryMethod,
    store: FrameStore,
    target: Path | None,
    saturated: FloatArray,
    progress: bool,
) -> TransmissionEstimate:
    """Solve block by block, into memory or into the file."""
    if target is None:
        matrix = backend_of_device(device).empty((device.n_out, plan.n_inputs), "complex64")
        return solve_into(matrix, device, plan, store, saturated, progress)
    with new_hdf5(target) as file:
        rows = lay_out(file, "matrix", (device.n_out, plan.n_inputs), np.complex64)
        write_estimate(file, solve_into(rows, device, plan, store, saturated, progress))
    return load_estimate(target)


def leave_out(block: Block, bad: BoolArray) -> Block:
    """Mark bad pixels as not valid; their diagnostics are not known."""
    error = np.where(bad[:, None] if block.standard_error.ndim == 2 else bad, np.inf, block.standard_error)
    known = {name: np.where(bad, np.nan, values) for name, values in block.diagnostics.present().items()}
    return Block(block.matrix, error.astype(np.float32), block.valid & ~bad, RowDiagnostics(**known))


def solve_into(
    matrix: Array,
    device: Device,
    plan: RecoveryMethod,
    store: FrameStore,
    saturated: FloatArray,
    progress: bool,
) -> TransmissionEstimate:
    """Solve block by block into an array or a data set; the rest of the result is in memory."""
    frames = store.arrays["frames"]
    dark, raw = to_host(frames[:DARK_FRAMES, :]), MethodFrames(frames, backend_of_device(device))
    bench = describe_bench(device, dark)
    state = plan.prepare(raw, bench)
    every = tqdm(blocks(raw, device.n_out), unit="rows", desc="solving", disable=not progress)
    found = list(solve_blocks(matrix, every, plan, bench, state, is_hot(dark, bench.saturation_dn)))
    valid = np.concatenate([one[1] for one in found])
    known = {name: np.concatenate([one[2][name] for one in found]) for name in found[0][2]}
    grain = plan.grain(state)
    warn_of_fit(known.get("misfit"), valid, grain, plan.name, lambda: explain_order(raw, plan, device.n_out))
    about = dict(store.header) | {"readings": describe_facts(bench, device.exposure_s, plan.unknown_leak(bench))}
    return TransmissionEstimate(
        matrix=matrix,  # pyright: ignore[reportArgumentType] (a data set only until the file is written)
        standard_error=np.concatenate([one[0] for one in found]).astype(np.float32),
        valid=valid,
        method=plan.name,
        gauge=plan.gauge,
        frames=frames.shape[0],
        condition_number=plan.condition_number,
        provenance=about | stamp(),
        drift=plan.findings(state).present(),
        diagnostics=known | {"saturated": saturated},
    )


def solve_blocks(
    matrix: Array,
    every: Iterable[tuple[slice, Array]],
    plan: RecoveryMethod,
    bench: Bench,
    state: object,
    hot: BoolArray,
) -> Iterator[tuple[FloatArray, BoolArray, dict[str, RealArray]]]:
    """Write the rows of each block to the matrix; yield their standard errors, validity and diagnostics."""
    place, donor = HOST if isinstance(matrix, h5py.Dataset) else backend_of(matrix), None
    for rows, readings in every:
        bad = hot[rows] | is_dead(readings, bench.noise.dark_dn)
        if donor is None or not bad.all():
            donor = readings[:, int(np.argmin(bad))]
        block = plan.solve(replace_bad_pixels(readings, bad, donor), rows, bench, state)
        block, backend = leave_out(block, bad) if bad.any() else block, backend_of(readings)
        shown = backend.xp.where(
            backend.asarray(block.valid)[:, None], block.matrix, backend.xp.zeros_like(block.matrix)
        )
        matrix[rows, :] = bring(shown, place)
        yield block.standard_error, block.valid, block.diagnostics.present()


def warn_of_fit(
    misfit: RealArray | None, valid: BoolArray, grain: float, name: str, explain: Callable[[], str]
) -> None:
    """Warn if the frames do not fit the model of a method, or no row is valid."""
    told = misfit is not None and warn_of_misfit(
        common_misfit(misfit, grain), float(np.mean(misfit > MAX_MISFIT)), stacklevel=5, cause=explain
    )
    if not (told or valid.any()):
        warnings.warn(
            f"no row is valid: the frames of {name} are too dark, or do not fit its model; lengthen the exposure",
            stacklevel=6,
        )
