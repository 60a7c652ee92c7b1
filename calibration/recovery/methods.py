"""Which method recovers a transmission matrix, with which options; and its frames, taken."""

import importlib
from collections.abc import Mapping
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.device import Device
from calibration.recovery.base import RecoveryMethod, Shots
from photonics.component import integer
from photonics.random import check_seed

__all__ = ["METHODS", "check_recovery", "make", "take"]

METHODS = {
    "phase-stepping": ("calibration.recovery.phase_stepping", "PhaseStepping"),
    "popoff": ("calibration.recovery.popoff", "Popoff"),
    "off-axis": ("calibration.recovery.off_axis", "OffAxisRecovery"),
    "numerical-interferometry": ("calibration.recovery.interferometry", "NumericalInterferometry"),
    "phase-retrieval": ("calibration.recovery.phase_retrieval", "PhaseRetrieval"),
}


def check_recovery(
    device: Device,
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
) -> tuple[RecoveryMethod, Path | None]:
    """The method and the file of `recover_transmission_matrix` with these arguments, or the error that it raises."""
    if exposure not in (None, "auto"):
        raise ValueError(f"exposure must be 'auto' or None, which keeps that of the device, got {exposure!r}")
    plan = make(device, method, n_inputs, seed, {"steps": steps, "track_drift": track_drift}, options)
    target = None if out is None else Path(out).expanduser()
    if resume and target is None:
        raise ValueError("resume must be with out, which names the measurement to go on with, got out=None")
    if target is not None and target.exists() and not resume:
        raise ValueError(f"out must be new, got {target}, which exists: results are never overwritten")
    return plan, target


def make(
    device: Device,
    method: str,
    n_inputs: int | None,
    seed: int,
    common: Mapping[str, Any],
    options: Mapping[str, Any],
) -> RecoveryMethod:
    """Make the method; `common` options are those of some methods only, and an error in the others unless default."""
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    module, name = METHODS[method]
    kind = getattr(importlib.import_module(module), name)
    if n_inputs is None:
        n_inputs = max(device.n_in // 2, 1) if method == "popoff" else device.n_in
    known = {"n_in": device.n_in, "n_inputs": integer(n_inputs, "n_inputs", 1, device.n_in), "seed": check_seed(seed)}
    has = {f.name for f in fields(kind)}
    defaults = {"steps": 4, "track_drift": False}
    for option, value in common.items():
        if option in has:
            known[option] = value
        elif value != defaults[option]:
            raise ValueError(f"{option} is not an option of {method}, got {value!r}")
    return kind(**known, **options)


def take(device: Device, shots: Shots) -> NDArray[Any]:
    """Frames of shots, in order, the reference's shutter opened and closed in between as they say."""
    phase = shots.reference_phase
    if phase is None or np.isnan(phase).all():
        return device.measure(shots.patterns)
    is_open = ~np.isnan(phase)
    edges = [0, *(np.flatnonzero(np.diff(is_open)) + 1).tolist(), len(phase)]
    parts = []
    for start, stop in pairwise(edges):
        at = phase[start:stop] if is_open[start] else None
        parts.append(device.measure(shots.patterns[start:stop], reference_phase=at))
    return np.concatenate(parts)
