"""The methods that recover a transmission matrix, by name; their options; and their frames."""

from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from calibration.device import Device, show
from calibration.recovery.base import RecoveryMethod, Shots
from calibration.recovery.interferometry import NumericalInterferometry
from calibration.recovery.off_axis import OffAxisRecovery
from calibration.recovery.phase_retrieval import PhaseRetrieval
from calibration.recovery.phase_stepping import PhaseStepping
from calibration.recovery.popoff import Popoff
from photonics.arrays import Array
from photonics.backend import backend_of
from photonics.component import choose

__all__ = ["METHODS", "build_method", "check_recovery", "take_frames"]

METHODS: dict[str, type[RecoveryMethod]] = {
    method.name: method for method in (PhaseStepping, Popoff, OffAxisRecovery, NumericalInterferometry, PhaseRetrieval)
}
"""Methods of `recover_transmission_matrix`."""


def build_method(
    device: Device, /, method: str = "phase-stepping", n_inputs: int | None = None, seed: int = 0, **options: Any
) -> RecoveryMethod:
    """Return a method for a device; see `calibration.recovery.base.RecoveryMethod.build`."""
    return choose(METHODS, method, "method").build(device, n_inputs, seed, options)


def check_recovery(
    device: Device,
    /,
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
) -> tuple[RecoveryMethod, Path | None]:
    """Return the method and the file of `recover_transmission_matrix` with these arguments.

    Raises
    ------
    ValueError
        As `recover_transmission_matrix` does before it takes a frame.
    """
    if exposure not in ("auto", "keep"):
        raise ValueError(f"exposure must be 'auto' or 'keep' (that of the device), got {exposure!r}")
    for name, value, default in (("steps", steps, 4), ("track_drift", track_drift, False)):
        if value != default:  # options of phase stepping; the other methods reject them
            options[name] = value
    plan = build_method(device, method, n_inputs, seed, **options)
    target = None if out is None else Path(out).expanduser()
    if resume and target is None:
        raise ValueError("out must be the file of the measurement to resume if resume=True, got None")
    if target is not None and target.exists() and not resume:
        raise ValueError(f"out must be new, got {target}, which exists: results are never overwritten")
    return plan, target


def take_frames(device: Device, shots: Shots) -> Array:
    """Take the frames of shots in order, and open and close the reference's shutter as they specify.

    The frames stay where the device computes.
    """
    phase = shots.reference_phase
    if phase is None or np.isnan(phase).all():
        return show(device, shots.patterns)
    is_open = ~np.isnan(phase)
    edges = [0, *(np.flatnonzero(np.diff(is_open)) + 1).tolist(), len(phase)]
    parts = []
    for start, stop in pairwise(edges):
        at = phase[start:stop] if is_open[start] else None
        parts.append(show(device, shots.patterns[start:stop], reference_phase=at))
    return backend_of(parts[0]).xp.concat(parts)
