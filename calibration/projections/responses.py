"""Responses to binary patterns, values of a projection, and who may watch them."""

from typing import NamedTuple, Protocol

from photonics.arrays import Array

__all__ = ["Common", "Observer", "Projected", "Response"]


class Projected(NamedTuple):
    """Values of a projection and their errors; arrays of shape (batch, n_out).

    The error of a complex value applies to its real and to its imaginary part; the rms distance in the complex plane is
    larger by the root of 2.
    """

    values: Array
    """float32, or complex64 if the method measures the phase."""
    standard_error: Array
    """Predicted from the measured noise of the camera, times the root of the misfit where the method has one; infinite
    if the anchor or the reference is dark, or the frames do not fit the model (`calibration.fields.misfit`). On a
    medium that moves it is the distance from the value of the calibration's map, as far as the calibration has seen how
    fast the medium moves; with a reference beam, `noise` is the error against the map of now."""
    noise: Array
    """Part of the standard error that is independent in every projection: the noise of its frames."""
    saturated: Array
    """Whether the value is wrong because the pixel saturated in too many of its frames."""


class Response(NamedTuple):
    """Linear response to binary patterns before scaling; arrays of shape (batch, n_out)."""

    values: Array
    variance: Array | None
    """Variance of the real part, and of the imaginary part; None if not requested."""
    saturated: Array | None
    """Whether a value is wrong because of saturation; None if not requested."""
    sums: Array | None = None
    """Sums over the pixels of each pattern that show an error which all responses of a call share, (batch, n_sums);
    None if the method has none."""


class Common(NamedTuple):
    """Errors that all responses of a call share."""

    variance: float = 0.0
    """Squared error of a response, DN^2; it adds up over the patterns of a vector."""
    relative: float = 0.0
    """Error relative to the response."""


class Observer(Protocol):
    """Sees the frames of vectors, and may change their responses; for devices that move."""

    @property
    def by_vector(self) -> bool:
        """Whether the patterns of a vector are shown one after the other, not all positive ones first."""
        ...

    def __call__(self, halves: Array, responses: Array) -> Array:
        """Responses to use, given patterns (n, n_inputs) and their responses before scaling, (n, n_out)."""
        ...


def rows_of(values: Array, rows: slice) -> Array:
    """Some rows of an array, in its last axis, or of a record of arrays."""
    return values.part(rows) if hasattr(values, "part") else values[..., rows]
