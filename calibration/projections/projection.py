"""Linear projections through a device that sees only intensities."""

from typing import Any, Literal, overload

import numpy as np

from calibration.device import Device, check_device
from calibration.projections.anchor import AnchorProjection, measure_anchor
from calibration.projections.base import DARK_SHARE, LinearProjection, Projected
from calibration.projections.multilateration import MultilaterationProjection, measure_multilateration
from calibration.projections.off_axis import OffAxisProjection, measure_off_axis
from calibration.projections.phase_stepping import SteppingProjection, measure_stepping
from photonics.component import integer, number

__all__ = [
    "DARK_SHARE",
    "METHODS",
    "AnchorProjection",
    "LinearProjection",
    "MultilaterationProjection",
    "OffAxisProjection",
    "Projected",
    "SteppingProjection",
    "measure_projection",
]

METHODS = ("anchor", "phase-stepping", "off-axis", "multilateration")


@overload
def measure_projection(
    opu: Device,
    method: Literal["anchor"] = "anchor",
    n_inputs: int | None = None,
    *,
    anchors: int | None = None,
    bits: int = 8,
    repeats: int | None = None,
    dark_share: float = DARK_SHARE,
    unit_dn: float | None = None,
) -> AnchorProjection: ...


@overload
def measure_projection(
    opu: Device,
    method: str,
    n_inputs: int | None = None,
    *,
    anchors: int | None = None,
    steps: int | None = None,
    bits: int = 8,
    repeats: int | None = None,
    dark_share: float = DARK_SHARE,
    unit_dn: float | None = None,
) -> LinearProjection: ...


def measure_projection(
    opu: Device,
    method: str = "anchor",
    n_inputs: int | None = None,
    *,
    anchors: int | None = None,
    steps: int | None = None,
    bits: int = 8,
    repeats: int | None = None,
    dark_share: float = DARK_SHARE,
    unit_dn: float | None = None,
) -> LinearProjection:
    """Calibrate a linear projection through the device; it uses frames only.

    Parameters
    ----------
    opu : Device
        The device, its exposure set (see `OPU.autoexpose`; with a reference beam or anchors the frames are brighter
        than those of a pattern alone).
    method : {"anchor", "phase-stepping", "off-axis", "multilateration"}
        How fields are told from intensities (`calibration.fields.holography`):

        - "anchor": a real map, by interference with other patterns of the same mirrors; 2 frames per vector.
        - "phase-stepping": a complex one, by the reference arm at `steps` phases; `steps` frames.
        - "off-axis": a complex one, by the fringes of a tilted reference beam on a 2-D sensor behind a pupil; 1 frame.
        - "multilateration": a complex one without a reference, by `anchors` + 1 frames.
    n_inputs : int, optional
        Length of the vectors; the device's inputs beyond it are the anchors' mirrors. None: all inputs carry
        data, and the anchor is all of them ON, so the second frame of a vector shows its complement. Multilateration
        needs spare inputs: its frames are best where each anchor is as bright as a vector.
    anchors : int, optional
        Number of anchors, 1 by default; a row is served by the one that is brightest there. More than one needs
        `n_inputs`. For multilateration 3 or more, by default 5: two are on a line with the origin in too many rows.
    steps : int, optional
        Phase steps, 3 or more, by default 4, with which a pixel that saturates once can be repaired.
    bits : int
        Bit planes in which real vectors are shown, 1 to 16.
    repeats : int, optional
        Frames averaged for each fixed pattern (all OFF, each anchor, the reference at each phase); 16 by default, for
        multilateration, where anchors and their pairs say the same several times, 4.
    dark_share : float
        Rows whose anchor or reference is dimmer than this share of the mean are dropped: left in, their error is 1 or
        more. In fully developed speckle that is ``1 - exp(-dark_share)`` of the rows, to the power of `anchors`. With
        multilateration it is the spread of the anchors across their main direction that must not be less. Rows that
        an anchor on mirrors of its own saturates alone are dropped, too: every vector has the same error there.
    unit_dn : float, optional
        DN above dark that unit intensity gives, which sets the scale of the result. By default `OPU.unit_dn`: laser
        power, throughput and the camera's gain, as a power meter and data sheets tell them; all else is from frames.

    Returns
    -------
    LinearProjection

    Raises
    ------
    ValueError
        If a parameter is out of range or of no use to the method, the optics do not suit the method, or the frames are
        so dark or so saturated that nothing can be calibrated.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    opu = check_device(opu)
    n_inputs = opu.n_in if n_inputs is None else integer(n_inputs, "n_inputs", 1, opu.n_in)
    check_arguments(
        method, anchors=anchors, steps=steps, bits=bits, repeats=repeats, dark_share=dark_share, unit_dn=unit_dn
    )
    many = method == "multilateration"
    steps = 4 if steps is None else int(steps)
    spare = opu.n_in - n_inputs
    if many and spare < 3:
        raise ValueError(f"n_inputs must leave 3 inputs or more to the anchors, {opu.n_in - 3} at most, got {n_inputs}")
    if many:
        anchors = integer(min(5, spare) if anchors is None else anchors, "anchors", 3, spare)
    else:
        anchors = integer(1 if anchors is None else anchors, "anchors", 1, max(spare, 1))
    bits = int(bits)
    repeats = int((4 if many else 16) if repeats is None else repeats)
    unit_dn = opu.unit_dn if unit_dn is None else float(unit_dn)
    if method == "phase-stepping":
        return measure_stepping(opu, n_inputs, steps, bits, repeats, dark_share, unit_dn)
    if method == "off-axis":
        return measure_off_axis(opu, n_inputs, bits, repeats, dark_share, unit_dn)
    calibrate = measure_multilateration if many else measure_anchor
    return calibrate(opu, n_inputs, anchors, bits, repeats, dark_share, unit_dn)


def check_arguments(
    method: str,
    *,
    anchors: Any = None,
    steps: Any = None,
    bits: Any = 8,
    repeats: Any = None,
    dark_share: Any = DARK_SHARE,
    unit_dn: Any = None,
) -> None:
    """Raise a ``ValueError`` for what no device allows of the arguments of `measure_projection`."""
    many = method == "multilateration"
    if anchors is not None and method not in ("anchor", "multilateration"):
        raise ValueError(f"anchors must be left out with method {method!r}, got {anchors!r}")
    if steps is not None and method != "phase-stepping":
        raise ValueError(f"steps must be left out with method {method!r}, got {steps!r}")
    for name, value, low, high in (
        ("anchors", anchors, 3 if many else 1, None),
        ("steps", steps, 3, 1000),
        ("bits", bits, 1, 16),
        ("repeats", repeats, 2, None),
    ):
        if value is not None or name == "bits":
            integer(value, name, low, high)
    if not 0 < number(dark_share) < 1:
        raise ValueError(f"dark_share must be between 0 and 1, got {dark_share!r}")
    if unit_dn is not None and not 0 < number(unit_dn) < np.inf:
        raise ValueError(f"unit_dn must be positive, got {unit_dn!r}")
