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
    opu: Device,
    method: Literal["anchor"] = "anchor",
    n_inputs: int | None = None,
    *,
    anchors: int | None = None,
    steps: int | None = None,
    bits: int | None = None,
    repeats: int | None = None,
    dark_share: float | None = None,
    unit_dn: float | None = None,
    **options: Any,
) -> AnchorProjection: ...


@overload
def measure_projection(
    opu: Device,
    method: str | ProjectionMethod,
    n_inputs: int | None = None,
    *,
    anchors: int | None = None,
    steps: int | None = None,
    bits: int | None = None,
    repeats: int | None = None,
    dark_share: float | None = None,
    unit_dn: float | None = None,
    **options: Any,
) -> LinearProjection: ...


def measure_projection(
    opu: Device,
    method: str | ProjectionMethod = "anchor",
    n_inputs: int | None = None,
    *,
    anchors: int | None = None,
    steps: int | None = None,
    bits: int | None = None,
    repeats: int | None = None,
    dark_share: float | None = None,
    unit_dn: float | None = None,
    **options: Any,
) -> LinearProjection:
    """Calibrate a linear projection through the device, from frames alone.

    Parameters
    ----------
    opu : Device
        The device, its exposure set (see `OPU.autoexpose`; with a reference beam or anchors the frames are brighter
        than those of a pattern alone).
    method : {"anchor", "phase-stepping", "off-axis", "multilateration", "reference-pairs"} or ProjectionMethod
        How fields are obtained from intensities (`calibration.projections.methods.METHODS`):

        - "anchor": a real map, by interference with other patterns of the same mirrors; 2 frames per vector.
        - "phase-stepping": a complex map, by the reference arm at `steps` phases; `steps` frames per vector.
        - "off-axis": a complex map, by the fringes of a tilted reference beam on a 2-D sensor behind a pupil; 1 frame.
        - "multilateration": a complex map without a reference beam; `anchors` + 1 frames per vector.
        - "reference-pairs": a real map, by the reference arm at one phase; 1 frame for each entry that is not 0. For
          codes with one 1 and one -1, and for a medium that drifts.
    n_inputs : int, optional
        Length of the vectors; the device's inputs beyond it are the anchors' mirrors. By default all inputs carry
        data, and the anchor is all of them ON, so that the second frame of a vector shows its complement.
        Multilateration needs spare inputs, and works best if each anchor is as bright as a vector.
    anchors : int, optional
        For "anchor": number of anchors, 1 by default; more than one needs `n_inputs`. For "multilateration": number of
        anchors, 3 or more, 5 by default.
    steps : int, optional
        For "phase-stepping": phase steps, 3 to 1000, 4 by default.
    bits : int, optional
        Bit planes in which real vectors are shown, 1 to 16, 8 by default.
    repeats : int, optional
        Frames averaged for each fixed pattern of the calibration, 2 or more; 16 by default, 4 for "multilateration".
    dark_share : float, optional
        Rows whose anchor or reference is dimmer than this share of the mean are dropped, 0.05 by default.
    unit_dn : float, optional
        DN above dark of unit intensity, which sets the scale of the result; `OPU.unit_dn` by default.
    **options
        Further settings of the method: fields of its class in `METHODS`.

    Returns
    -------
    LinearProjection

    Raises
    ------
    ValueError
        If a setting is out of range or the method does not have it, the optics do not suit the method, or the frames
        are so dark or so saturated that nothing can be calibrated.
    """
    chosen = choose_method(
        method, anchors=anchors, steps=steps, bits=bits, repeats=repeats, dark_share=dark_share, unit_dn=unit_dn,
        **options,
    )  # fmt: skip
    opu = check_device(opu)
    n_inputs = opu.n_in if n_inputs is None else integer(n_inputs, "n_inputs", 1, opu.n_in)
    return chosen.calibrate(opu, n_inputs)
