"""Measurement of a linear projection through a device, by the method of the caller's choice."""

from typing import Any, Literal, overload

from calibration.device import Device, check_device
from calibration.projections.anchor import AnchorProjection
from calibration.projections.base import LinearProjection, ProjectionMethod
from calibration.projections.methods import choose_method
from photonics.component import integer

__all__ = ["measure_projection"]


@overload
def measure_projection(
    opu: Device, method: Literal["anchor"] = "anchor", n_inputs: int | None = None, **options: Any
) -> AnchorProjection: ...


@overload
def measure_projection(
    opu: Device, method: str | ProjectionMethod, n_inputs: int | None = None, **options: Any
) -> LinearProjection: ...


def measure_projection(
    opu: Device, method: str | ProjectionMethod = "anchor", n_inputs: int | None = None, **options: Any
) -> LinearProjection:
    """Calibrate a linear projection through the device, from frames alone.

    Parameters
    ----------
    opu : Device
        The device, its exposure set (see `OPU.autoexpose`; with a reference beam or anchors the frames are brighter
        than those of a pattern alone).
    method : {"anchor", "phase-stepping", "off-axis", "multilateration"} or ProjectionMethod
        How fields are obtained from intensities (`calibration.projections.methods.METHODS`):

        - "anchor": a real map, by interference with other patterns of the same mirrors; 2 frames per vector.
        - "phase-stepping": a complex map, by the reference arm at `steps` phases; `steps` frames per vector.
        - "off-axis": a complex map, by the fringes of a tilted reference beam on a 2-D sensor behind a pupil; 1 frame.
        - "multilateration": a complex map without a reference beam; `anchors` + 1 frames per vector.
    n_inputs : int, optional
        Length of the vectors; the device's inputs beyond it are the anchors' mirrors. By default all inputs carry
        data, and the anchor is all of them ON, so that the second frame of a vector shows its complement.
        Multilateration needs spare inputs, and works best if each anchor is as bright as a vector.
    **options
        Settings of the method, with these defaults:

        - bits (8): bit planes in which real vectors are shown, 1 to 16.
        - repeats (16; 4 for multilateration): frames averaged for each fixed pattern of the calibration, 2 or more.
        - dark_share (0.05): rows whose anchor or reference is dimmer than this share of the mean are dropped.
        - unit_dn (`OPU.unit_dn`): DN above dark of unit intensity, which sets the scale of the result.
        - anchors (1): number of anchors, for "anchor". More than one needs `n_inputs`.
        - anchors (5): number of anchors, 3 or more, for "multilateration".
        - steps (4): phase steps, 3 to 1000, for "phase-stepping".

        The classes in `METHODS` describe them in full.

    Returns
    -------
    LinearProjection

    Raises
    ------
    ValueError
        If a setting is out of range or the method does not have it, the optics do not suit the method, or the frames
        are so dark or so saturated that nothing can be calibrated.
    """
    chosen = choose_method(method, **options)
    opu = check_device(opu)
    n_inputs = opu.n_in if n_inputs is None else integer(n_inputs, "n_inputs", 1, opu.n_in)
    return chosen.calibrate(opu, n_inputs)
