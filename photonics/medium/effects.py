"""Effects that wrap any scattering medium: loss, unscattered light, fields that do not interfere, finite coherence."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Annotated

import numpy as np
from pydantic import BeforeValidator

from photonics import draws
from photonics.arrays import Array, ComplexArray, IntArray
from photonics.backend import Backend, backend_of
from photonics.component import Field, Seed, component, number
from photonics.medium.base import ScatteringMedium, Wrapper, check_field
from photonics.random import Stream

__all__ = ["Ballistic", "Dispersive", "Effect", "Lossy", "Modes", "derived_seed", "related_seed"]

MODE, COPY, RELATED, DISTURBED = 2**16, 2**17, 2**18, 2**19
"""Indices in `Stream.DRIFT_MEDIUM`: the modes of a medium, the copies of a composed medium, the draws that are mixed
with a medium's identity, and what a disturbance adds. The parts of a drifting medium have lower indices."""


def derived_seed(seed: int, index: int, position: int = 0) -> int:
    """Seed of one of the media that make up another: two words of `Stream.DRIFT_MEDIUM`."""
    word = draws.words(seed, Stream.DRIFT_MEDIUM, index, position)[0]
    return int(word[0]) | int(word[1]) << 32


def related_seed(medium: ScatteringMedium, seed: int, index: int, position: int = 0) -> int:
    """Seed of one of the media that belong to `medium`; it depends on the identity of `medium`."""
    return derived_seed(medium.identity ^ derived_seed(seed, index, position), RELATED)


@component(kw_only=False)
class Effect(Wrapper):
    """A medium that wraps another one. This base class passes everything through; effects override methods."""

    medium: ScatteringMedium
    """The medium inside."""

    def fresh(self, seed: int) -> "Effect":  # noqa: D102 (inherited)
        return replace(self, medium=self.medium.fresh(seed))

    def with_fixed_storage(self) -> "Effect":  # noqa: D102 (inherited)
        inside = self.medium.with_fixed_storage()
        return self if inside is self.medium else replace(self, medium=inside)


@component(kw_only=False)
class Lossy(Effect):
    """A medium that absorbs light or sends it past the sensor: ``sqrt(transmission) T``."""

    transmission: float = Field(gt=0, le=1)
    """Transmitted share of the light (1, no loss); it depends on the sample."""

    def propagate(self, field: Array, ticks: Array = None) -> Array:  # noqa: D102 (inherited)
        return self.medium.propagate(field, ticks) * self.transmission**0.5

    def adjoint(self, field: Array, ticks: Array = None) -> Array:  # noqa: D102 (inherited)
        return self.medium.adjoint(field, ticks) * self.transmission**0.5

    def block(self, rows: slice, cols: slice, tick: int = 0) -> ComplexArray:  # noqa: D102 (inherited)
        return self.medium.block(rows, cols, tick) * self.transmission**0.5

    def rows(self, start: int, stop: int) -> "Lossy":  # noqa: D102 (inherited)
        return replace(self, medium=self.medium.rows(start, stop))


@component(kw_only=False)
class Ballistic(Effect):
    """A medium so thin that some light is not scattered: ``(T + sqrt(r) D) / sqrt(1 + r)``.

    D is the geometric image of the inputs on the outputs: row i has a single 1, in the column
    ``floor((i + 1/2) n_in / n_out)``. All inputs ON at unit amplitude give unit unscattered intensity everywhere, and a
    row of the sum keeps the energy of a row of T, ``E sum_j |t_ij|^2 = 1``. The contrast over the pixels with all
    inputs ON is then ``sqrt(1 + 2 r) / (1 + r)``.

    The medium inside has one mode and the normalisation ``E|t_ij|^2 = 1/n_in``. Put losses outside, because the ratio
    refers to the arriving light; put modes outside as well.

    References
    ----------
    J. W. Goodman, *Speckle Phenomena in Optics*, 2nd ed., SPIE 2020, section 3.2.2 (constant phasor plus speckle).
    """

    ratio: float = Field(ge=0)
    """r, unscattered over scattered intensity: about ``1 / (exp(L / l) - 1)`` for a slab of L / l scattering mean free
    paths (Beer and Lambert). It depends on the sample; 0 is a thick slab."""

    def __post_init__(self) -> None:
        if self.medium.modes != 1:
            raise ValueError(f"medium must have one mode (put Ballistic inside Modes), got {self.medium.modes}")

    @property
    def holds_ballistic(self) -> bool:  # noqa: D102 (inherited)
        return True

    @property
    def scattered(self) -> float:
        """Amplitude of the scattered field."""
        return (1.0 + self.ratio) ** -0.5

    @property
    def straight(self) -> float:
        """Amplitude of the unscattered field."""
        return (self.ratio / (1.0 + self.ratio)) ** 0.5

    def propagate(self, field: Array, ticks: Array = None) -> Array:  # noqa: D102 (inherited)
        field = check_field(field, self.shape[1])
        backend = backend_of(field)
        image = backend.xp.take(field, image_columns(*self._image, backend), axis=1)
        return self.medium.propagate(field, ticks) * self.scattered + image * self.straight

    def adjoint(self, field: Array, ticks: Array = None) -> Array:  # noqa: D102 (inherited)
        n_out, n_in = self.shape
        field = check_field(field, n_out)
        backend = backend_of(field)
        xp = backend.xp
        # A gather, since a scatter would add in arbitrary order on a GPU: rows are padded to equal length with a column
        # of zeros.
        padded = xp.concat([field, xp.zeros_like(field[:, :1])], axis=1)
        rows = image_rows(*self._image, backend)
        image = xp.reshape(xp.take(padded, rows, axis=1), (field.shape[0], n_in, rows.shape[0] // n_in))
        image = xp.sum(image, axis=2)
        return self.medium.adjoint(field, ticks) * self.scattered + image * self.straight

    def block(self, rows: slice, cols: slice, tick: int = 0) -> ComplexArray:  # noqa: D102 (inherited)
        columns = np.arange(self.shape[1])[cols]
        image = (image_of(*self._image)[rows, None] == columns).astype(np.float32)
        return self.medium.block(rows, cols, tick) * self.scattered + image * self.straight

    @property
    def _image(self) -> tuple[int, int, int, int]:
        """Inputs and outputs of the image D, and the outputs of it that belong to this medium: first, and number."""
        n_out, n_in = self.shape
        return n_in, n_out, 0, n_out

    def rows(self, start: int, stop: int) -> "BallisticRows":  # noqa: D102 (inherited)
        _, whole, first, _ = self._image
        return BallisticRows(self.medium.rows(start, stop), self.ratio, first + start, whole)


@component(kw_only=False)
class BallisticRows(Ballistic):
    """Some outputs of a `Ballistic` medium."""

    start: int = Field(default=0, ge=0)
    """Number of the first output in the whole medium."""

    whole: int = Field(default=1, ge=1)
    """Outputs of the whole medium."""

    @property
    def _image(self) -> tuple[int, int, int, int]:
        n_out, n_in = self.shape
        return n_in, self.whole, self.start, n_out


def image_of(n_in: int, n_out: int, first: int = 0, count: int | None = None) -> IntArray:
    """Input imaged geometrically onto each output: ``floor((i + 1/2) n_in / n_out)``, of `count` outputs or all."""
    outputs = np.arange(first, n_out if count is None else first + count, dtype=np.int64)
    return (2 * outputs + 1) * n_in // (2 * n_out)


@lru_cache(maxsize=8)
def image_columns(n_in: int, n_out: int, first: int, count: int, backend: Backend) -> Array:
    """`image_of` on a backend."""
    return backend.asarray(image_of(n_in, n_out, first, count))


@lru_cache(maxsize=8)
def image_rows(n_in: int, n_out: int, first: int, count: int, backend: Backend) -> Array:
    """Outputs that each input illuminates, padded with `count` to the same number for each input, flat."""
    begin = np.searchsorted(image_of(n_in, n_out, first, count), np.arange(n_in + 1))
    rows = begin[:-1, None] + np.arange(np.diff(begin).max())
    return backend.asarray(np.where(rows < begin[1:, None], rows, count).ravel())


def as_weights(weights: object) -> tuple[float, ...]:
    """Return the weights of modes as a tuple.

    Raises
    ------
    ValueError
        If there is no weight or one is not positive and finite.
    """
    given = tuple(weights) if isinstance(weights, Iterable) else ()
    if not given or not all(0 < number(weight) < np.inf for weight in given):
        raise ValueError(f"weights must be one or more positive numbers, got {weights!r}")
    return tuple(float(weight) for weight in given)


@component(kw_only=False)
class Modes(Effect):
    """Fields that do not interfere on the sensor: the medium, and a fresh one for each further weight.

    ``T = [sqrt(w_0) T_0; sqrt(w_1) T_1; ...]``, of shape (k n_out, n_in). The weights are divided by their sum, so that
    the intensity summed over the modes keeps its mean. Its contrast is ``sqrt(sum w^2)``, 1/sqrt(k) for equal weights
    (Goodman, *Speckle Phenomena in Optics*, section 3.3). T_0 is the medium itself. If the medium has several modes,
    each T_i contains all of them.
    """

    weights: Annotated[Sequence[float], BeforeValidator(as_weights)]
    """Relative intensity of each mode, positive."""

    seed: Seed = 0
    """Seed of the further media."""

    @classmethod
    def polarised(cls, medium: ScatteringMedium, seed: int = 0) -> "Modes":
        """Return a medium that depolarises: two equal, independent fields, contrast 1/sqrt(2).

        `Imaging.polarisations` does this itself for a sensor that sees both polarisations: use one of the two.
        """
        return cls(medium, (1.0, 1.0), seed)

    @property
    def modes(self) -> int:  # noqa: D102 (inherited)
        return len(self.weights) * self.medium.modes

    @cached_property
    def amplitudes(self) -> list[float]:
        """Factor of each field, the root of its share of the weights."""
        return [float(a) for a in np.sqrt(np.divide(self.weights, np.sum(self.weights)))]

    @cached_property
    def media(self) -> tuple[ScatteringMedium, ...]:
        """The medium of each weight."""
        seeds = [related_seed(self.medium, self.seed, MODE, mode) for mode in range(1, len(self.weights))]
        return self.medium, *(self.medium.fresh(seed) for seed in seeds)

    @property
    def shape(self) -> tuple[int, int]:  # noqa: D102 (inherited)
        n_out, n_in = self.medium.shape
        return len(self.weights) * n_out, n_in

    def propagate(self, field: Array, ticks: Array = None) -> Array:  # noqa: D102 (inherited)
        field = check_field(field, self.shape[1])
        out, n = backend_of(field).empty((field.shape[0], self.shape[0]), "complex64"), self.medium.shape[0]
        for mode, (medium, amplitude) in enumerate(zip(self.media, self.amplitudes, strict=True)):
            out[:, mode * n : (mode + 1) * n] = medium.propagate(field, ticks) * amplitude
        return out

    def adjoint(self, field: Array, ticks: Array = None) -> Array:  # noqa: D102 (inherited)
        field = check_field(field, self.shape[0])
        out, n = backend_of(field).zeros((field.shape[0], self.shape[1]), "complex64"), self.medium.shape[0]
        for mode, (medium, amplitude) in enumerate(zip(self.media, self.amplitudes, strict=True)):
            out += medium.adjoint(field[:, mode * n : (mode + 1) * n], ticks) * amplitude
        return out

    def block(self, rows: slice, cols: slice, tick: int = 0) -> ComplexArray:  # noqa: D102 (inherited)
        n_out, n_in = self.shape
        wanted = range(n_out)[rows]
        if wanted.step < 0:
            upward = wanted[::-1]
            return self.block(slice(upward.start, upward.stop, upward.step), cols, tick)[::-1]
        n, pieces = self.medium.shape[0], [np.empty((0, len(range(n_in)[cols])), np.complex64)]
        for mode, (medium, amplitude) in enumerate(zip(self.media, self.amplitudes, strict=True)):
            first = max(-(-(mode * n - wanted.start) // wanted.step), 0)  # first wanted row in or after this mode
            start, stop = wanted.start + first * wanted.step - mode * n, wanted.stop - mode * n
            if start < min(stop, n):
                pieces.append(medium.block(slice(start, min(stop, n), wanted.step), cols, tick) * amplitude)
        return np.concatenate(pieces)

    def rows(self, start: int, stop: int) -> "Modes":  # noqa: D102 (inherited)
        return replace(self, medium=self.medium.rows(start, stop))

    def fresh(self, seed: int) -> "Modes":  # noqa: D102 (inherited)
        # The modes take different random words than the medium; otherwise modes of modes would share their media.
        return Modes(self.medium.fresh(derived_seed(seed, COPY)), self.weights, derived_seed(seed, COPY, 1))


@component(kw_only=False)
class Dispersive(Effect):
    """A medium with a spread of path lengths, so that a broad laser line reduces its speckle contrast.

    The field of a single wavelength is that of the medium inside. For a laser of finite linewidth the chain wraps the
    medium in `Modes` with the weights of its coherence: for a Lorentzian line of width dv and exponential path times of
    mean tau, contrast^2 is ``1 / (1 + 2 pi tau dv)``.
    """

    path_time_s: float = Field(ge=0)
    """Spread of path times (the mean of their exponential law), seconds: about L^2 / (pi^2 D) for a slab of thickness L
    with diffusion constant D. It depends on the sample."""

    @property
    def path_time_spread_s(self) -> float:  # noqa: D102 (inherited)
        return self.path_time_s

    def rows(self, start: int, stop: int) -> "Dispersive":  # noqa: D102 (inherited)
        return replace(self, medium=self.medium.rows(start, stop))
