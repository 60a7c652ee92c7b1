"""Recovery of the transmission matrix: measure with one of several methods, on disk, and solve row by row."""

import json
import tempfile
from contextlib import ExitStack
from dataclasses import fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from calibration.camera.noise import NoiseModel
from calibration.device import Device, check_device
from calibration.fields.readings import MAX_SATURATED, Bench, data_sheet_error, switched_unit_dn
from calibration.recovery.base import RecoveryMethod
from calibration.recovery.estimate import TransmissionEstimate, load_estimate, write_estimate
from calibration.recovery.exposure import expose
from calibration.recovery.methods import METHODS, check_recovery, take
from calibration.storage.frames import (
    FrameStore,
    Part,
    check_same,
    create_store,
    dataset,
    lay_out,
    new_hdf5,
    open_store,
)
from photonics import Imaging
from photonics.parts.camera import QUANTISATION

__all__ = ["METHODS", "TransmissionEstimate", "recover_transmission_matrix"]

DARK_FRAMES = 8
"""Frames with the laser's shutter closed, before the others."""
CHUNK_PIXELS = 2**22
"""Pixels (or mirrors) of the frames taken and written at a time."""
CHUNK_FRAMES = 256
"""Frames taken at a time, at most: what a run that is killed loses."""
BLOCK_VALUES = 2**21
"""Frames times rows solved at a time; a method needs some 50 bytes for each."""


class Saturated(ValueError):
    """Frames of a whole measurement are too bright."""


def recover_transmission_matrix(
    opu: Device,
    method: str = "phase-stepping",
    *,
    n_inputs: int | None = None,
    steps: int = 4,
    track_drift: bool = False,
    exposure: str | None = None,
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
        "phase-stepping" and "off-axis" need a reference arm; "popoff" needs inputs beyond `n_inputs` for its
        reference; "numerical-interferometry" and "phase-retrieval" need neither. See the classes in `METHODS`.
    n_inputs : int, optional
        Inputs whose columns are recovered, the first ones; all by default (with "popoff", half of them).
    steps : int
        Phase steps of "phase-stepping", 3 or more.
    track_drift : bool
        With "phase-stepping": one more frame per probe, from which the phase of the reference in every frame is found.
    exposure : "auto", optional
        Without it the device's exposure is kept. "auto" finds the one that suits the frames of the method
        (`calibration.recovery.exposure.expose`), or takes that of the run which is resumed, and leaves the device at
    it. out : path, optional
        HDF5 file for the result, which must not exist; while the run lasts its frames are in ``<out>.part``. Without
        it the frames are in a temporary file and the result is in memory.
    resume : bool
        Go on with ``<out>.part``, which must be of the same device, method, options and seed; the result is bit for
        bit that of a run that was not interrupted. Starts from nothing if there is no such file; if `out` itself is
        there and of this measurement, it is the result.
    progress : bool
        Show progress bars.
    seed : int
        Chooses probes, where a method draws any.
    **options
        Of the method: the fields of its class.

    Returns
    -------
    TransmissionEstimate
        Compare it with a known matrix only after fixing the gauge that it states (`calibration.metrics`).

    Raises
    ------
    ValueError
        If an argument is wrong, `out` exists or is of another measurement, or more than 2 % of the readings are
        saturated; frames of the latter are not kept.
    """
    device = check_device(opu)
    plan, target = check_recovery(
        device, method, n_inputs=n_inputs, steps=steps, track_drift=track_drift, exposure=exposure, out=out,
        resume=resume, seed=seed, **options,
    )  # fmt: skip
    plan.check(device)
    if target is not None and target.exists():
        return finished(device, plan, target, exposure)
    with ExitStack() as stack:
        if target is None:
            part = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="opu-"))) / "frames.part"
        else:
            part = target.with_name(target.name + ".part")
        if exposure == "auto" and resume and part.exists():
            device.exposure_s = exposure_of(part)
        elif exposure == "auto":
            expose(device, method, n_inputs=n_inputs, seed=seed, steps=steps, **options)
        store = stack.enter_context(opened(part, device, plan, resume, target is not None))
        measure(device, plan, store, progress)
        try:
            saturated = check_frames(device, store)
        except Saturated:
            part.unlink()  # no run can go on with such frames, and one at another exposure must not meet them
            raise
        # The order in which BLAS adds depends on the number of its threads; the same frames must give the same bits.
        with threadpool_limits(1, user_api="blas"):
            estimate = solved(device, plan, store, target, saturated, progress)
        if target is not None:
            part.unlink()
    return estimate


def exposure_of(part: Path) -> float:
    """The exposure of a measurement under way."""
    with FrameStore(part) as store:
        return float(store.header["exposure_s"])


def finished(device: Device, plan: RecoveryMethod, target: Path, exposure: str | None) -> TransmissionEstimate:
    """The result of a run that ended, if it is of this measurement; the device is left as after it."""
    estimate = load_estimate(target)
    about = estimate.provenance
    if exposure == "auto":
        device.exposure_s = float(about["exposure_s"])
    check_same(target, about, header(device, plan), ("start_frame", "date", "version"))
    device.clock.frames = int(about["start_frame"]) + estimate.frames
    return estimate


def opened(part: Path, device: Device, plan: RecoveryMethod, resume: bool, named: bool) -> FrameStore:
    """The store of the run: a new one, or the one to go on with."""
    head = header(device, plan)
    if part.exists():
        if not resume:
            raise ValueError(f"out has a measurement under way, {part}: go on with resume=True, or remove the file")
        return open_store(part, head)
    count = DARK_FRAMES + plan.frames
    block = max(BLOCK_VALUES // count, 8)
    return create_store(part, head, count, device.n_out, device.camera.dtype, block)


def header(device: Device, plan: RecoveryMethod) -> dict[str, Any]:
    """What a measurement is, in plain types: a run can be resumed by the same one only."""
    options = {f.name: getattr(plan, f.name) for f in fields(plan)}  # pyright: ignore[reportArgumentType]
    described = {
        "method": plan.name,
        "options": options,
        "exposure_s": device.exposure_s,
        "start_frame": device.clock.frames,
        "device": device.to_dict(),
    }
    return json.loads(json.dumps(described, allow_nan=False))


def measure(device: Device, plan: RecoveryMethod, store: FrameStore, progress: bool) -> None:
    """Take the frames that are still missing, with the frame numbers that they have in an unbroken run."""
    size = min(max(CHUNK_PIXELS // max(device.n_out, device.n_in), 1), CHUNK_FRAMES)
    done = store.done
    device.clock.frames = store.header["start_frame"] + done
    with tqdm(total=store.count, initial=done, unit="frame", desc=plan.name, disable=not progress) as bar:
        while done < store.count:
            if done < DARK_FRAMES:
                frames = device.dark(DARK_FRAMES - done)
            else:
                stop = min(done + size, store.count)
                frames = take(device, plan.shots(done - DARK_FRAMES, stop - DARK_FRAMES))
            store.append(frames)
            done += len(frames)
            bar.update(len(frames))


def check_frames(device: Device, store: FrameStore) -> NDArray[np.float32]:
    """Share of saturated readings of each pixel, (n_out,); refuses a saturated camera."""
    share = np.empty(device.n_out, np.float32)
    for rows in store.blocks():
        share[rows] = (store.rows(rows, DARK_FRAMES) >= device.camera.saturation_dn).mean(axis=0)
    if share.mean() > MAX_SATURATED:
        raise Saturated(
            f"exposure_s {device.exposure_s:.4g} saturates {share.mean():.1%} of the readings, "
            f"{MAX_SATURATED:.0%} is allowed: shorten it (calibration.recovery.exposure.expose)"
        )
    return share


def bench_of(device: Device, dark: NDArray[Any]) -> Bench:
    """What the methods may know of the device."""
    imaging, camera = device.imaging, device.camera
    if imaging.region is not None:
        shape = (imaging.region[1], imaging.region[3])
    else:
        shape = imaging.sensor or Imaging().sensor_of(device.n_out)
    values, per_wave = dark.astype(np.float32), imaging.pixel_m / device.laser.wavelength_m
    floor = max(float(values.var(axis=0, ddof=1).mean()), QUANTISATION)
    return Bench(
        n_in=device.n_in,
        n_out=device.n_out,
        unit_dn=switched_unit_dn(device, device.unit_dn),
        saturation_dn=camera.saturation_dn,
        leakage=complex(device.dmd.leakage),
        field_band=None if imaging.numerical_aperture is None else imaging.numerical_aperture * per_wave,
        samples_per_pixel=imaging.samples_per_pixel,
        visibility=imaging.visibility(device.laser.wavelength_m),
        carrier=imaging.reference.carrier(device.laser.wavelength_m, imaging.pixel_m),
        frame_shape=shape,
        scale_error=data_sheet_error(device),
        noise=NoiseModel(floor, camera.gain, float(values.mean())),
    )


def solved(
    device: Device,
    plan: RecoveryMethod,
    store: FrameStore,
    target: Path | None,
    saturated: NDArray[np.float32],
    progress: bool,
) -> TransmissionEstimate:
    """Solve block by block, into memory or into the file."""
    if target is None:
        matrix = np.empty((device.n_out, plan.n_inputs), np.complex64)
        return solve_into(matrix, device, plan, store, saturated, progress)
    with new_hdf5(target) as file:
        lay_out(file, "matrix", (device.n_out, plan.n_inputs), np.complex64)
        write_estimate(file, solve_into(dataset(file, "matrix"), device, plan, store, saturated, progress))
    return load_estimate(target)


def solve_into(
    matrix: NDArray[np.complex64] | h5py.Dataset,
    device: Device,
    plan: RecoveryMethod,
    store: FrameStore,
    saturated: NDArray[np.float32],
    progress: bool,
) -> TransmissionEstimate:
    """Solve block by block into an array or a data set; all else of the result fits in memory."""
    bench, raw = bench_of(device, store.frames(0, DARK_FRAMES)), Part(store, DARK_FRAMES)
    errors, valid, extras = [], [], {}
    state = plan.prepare(raw, bench)
    try:
        for rows in tqdm(list(store.blocks()), unit="rows", desc="solving", disable=not progress):
            block = plan.solve(raw.rows(rows), rows, bench, state)
            matrix[rows] = np.where(block.valid[:, None], block.matrix, np.complex64(0))
            errors.append(block.standard_error)
            valid.append(block.valid)
            for name, values in block.extra.items():
                extras.setdefault(name, []).append(values)
        drift = dict(plan.record(state))
    finally:
        plan.release(state)
    about = dict(store.header)
    return TransmissionEstimate(
        matrix=matrix,  # pyright: ignore[reportArgumentType] (a data set only until the file is written)
        standard_error=np.concatenate(errors).astype(np.float32),
        valid=np.concatenate(valid),
        method=plan.name,
        gauge=plan.gauge,
        frames=store.count,
        condition_number=plan.condition_number,
        provenance=about | {"date": datetime.now(UTC).isoformat(timespec="seconds"), "version": version("opu-sim")},
        drift=drift,
        diagnostics={name: np.concatenate(parts) for name, parts in extras.items()} | {"saturated": saturated},
    )
