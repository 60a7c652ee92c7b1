"""Effects that wrap any scattering medium: loss, unscattered light, fields that do not interfere, finite coherence."""

from collections.abc import Iterable
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from photonics import draws
from photonics.backend import Backend, backend_of
from photonics.component import number
from photonics.medium.base import ScatteringMedium, check_field
from photonics.random import Stream, check_seed

__all__ = ["Ballistic", "Dispersive", "Effect", "Lossy", "Modes", "derived_seed"]

MODE, COPY, RELATED = 2**16, 2**17, 2**18
"""Indices in `Stream.DRIFT_MEDIUM` of the modes of a medium, of the copies of a composed one, and of what is mixed with
a medium's identity; those of a drifting medium's parts lie below."""


def derived_seed(seed: int, index: int, position: int = 0) -> int:
    """Seed of one of the media that make up another: two words of `Stream.DRIFT_MEDIUM`."""
    word = draws.words(seed, Stream.DRIFT_MEDIUM, index, position)[0]
    return int(word[0]) | int(word[1]) << 32


def related_seed(medium: ScatteringMedium, seed: int, index: int, position: int = 0) -> int:
    """Seed of a medium beside `medium` in one made of several: another one beside another medium."""
    return derived_seed(medium.identity ^ derived_seed(seed, index, position), RELATED)


class Effect(ScatteringMedium):
    """A medium seen through something; this one changes nothing.

    Parameters
    ----------
    medium : ScatteringMedium
        The medium inside, kept as ``.medium``.
    """

    parameters: ClassVar[tuple[str, ...]] = ()
    """Names of the other arguments, each kept as an attribute."""

    def __init__(self, medium: ScatteringMedium) -> None:
        if not isinstance(medium, ScatteringMedium):
            raise ValueError(f"medium must be a ScatteringMedium, got {type(medium).__name__}")
        self.medium = medium
        self.modes = medium.modes
        self.path_time_s = medium.path_time_s

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.parameters}

    def __repr__(self) -> str:
        arguments = "".join(f", {name}={value!r}" for name, value in self._arguments().items())
        return f"{type(self).__name__}({self.medium!r}{arguments})"

    @property
    def shape(self) -> tuple[int, int]:  # noqa: D102 (inherited)
        return self.medium.shape

    def propagate(self, field: Any, ticks: Any = None) -> Any:  # noqa: D102 (inherited)
        return self.medium.propagate(field, ticks)

    def adjoint(self, field: Any, ticks: Any = None) -> Any:  # noqa: D102 (inherited)
        return self.medium.adjoint(field, ticks)

    def block(self, rows: slice, cols: slice, tick: int = 0) -> NDArray[np.complex64]:  # noqa: D102 (inherited)
        return self.medium.block(rows, cols, tick)

    @property
    def identity(self) -> int:  # noqa: D102 (inherited)
        return self.medium.identity

    def fresh(self, seed: int) -> "Effect":  # noqa: D102 (inherited)
        return type(self)(self.medium.fresh(seed), **self._arguments())

    def to_dict(self) -> dict[str, Any]:  # noqa: D102 (inherited)
        return {"type": type(self).__name__, "medium": self.medium.to_dict()} | self._arguments()


class Lossy(Effect):
    """A medium that absorbs light or sends it past the sensor: ``sqrt(transmission) T``.

    Parameters
    ----------
    medium : ScatteringMedium
        The medium inside.
    transmission : float
        Share of the light that arrives, over 0 to 1. It belongs to a sample; 1 loses nothing.

    Raises
    ------
    ValueError
        If the transmission is out of range.
    """

    parameters = ("transmission",)

    def __init__(self, medium: ScatteringMedium, transmission: float) -> None:
        super().__init__(medium)
        if not 0 < number(transmission) <= 1:
            raise ValueError(f"transmission must be over 0 and at most 1, got {transmission!r}")
        self.transmission = float(transmission)

    def propagate(self, field: Any, ticks: Any = None) -> Any:  # noqa: D102 (inherited)
        return self.medium.propagate(field, ticks) * self.transmission**0.5

    def adjoint(self, field: Any, ticks: Any = None) -> Any:  # noqa: D102 (inherited)
        return self.medium.adjoint(field, ticks) * self.transmission**0.5

    def block(self, rows: slice, cols: slice, tick: int = 0) -> NDArray[np.complex64]:  # noqa: D102 (inherited)
        return self.medium.block(rows, cols, tick) * self.transmission**0.5


class Ballistic(Effect):
    """A medium so thin that some light goes straight through: ``(T + sqrt(r) D) / sqrt(1 + r)``.

    D is the geometric image of the inputs on the outputs: row i has a single 1, in the column
    ``floor((i + 1/2) n_in / n_out)``. All inputs ON at unit amplitude give unit unscattered intensity everywhere, and a
    row of the whole keeps the energy of a row of T, ``E sum_j |t_ij|^2 = 1``. The contrast over the pixels with all
    inputs ON is then ``sqrt(1 + 2 r) / (1 + r)``.

    Parameters
    ----------
    medium : ScatteringMedium
        What scatters, of one mode and of the house's scale ``E|t_ij|^2 = 1/n_in``: losses go outside (the ratio is one
        of light that arrives), and so do modes.
    ratio : float
        r, unscattered over scattered intensity, 0 or more: about ``1 / (exp(L / l) - 1)`` for a slab of L / l
        scattering mean free paths (Beer and Lambert). It belongs to a sample; 0 is a thick slab.

    Raises
    ------
    ValueError
        If the ratio is out of range or the medium has several modes.

    References
    ----------
    J. W. Goodman, *Speckle Phenomena in Optics*, 2nd ed., SPIE 2020, section 3.2.2 (constant phasor plus speckle).
    """

    parameters = ("ratio",)

    def __init__(self, medium: ScatteringMedium, ratio: float) -> None:
        super().__init__(medium)
        if not 0 <= number(ratio) < np.inf:
            raise ValueError(f"ratio must be 0 or more, got {ratio!r}")
        if medium.modes != 1:
            raise ValueError(f"medium must have one mode (put Ballistic inside Modes), got {medium.modes}")
        self.ratio = float(ratio)
        self.scattered, self.straight = (1.0 + self.ratio) ** -0.5, (self.ratio / (1.0 + self.ratio)) ** 0.5

    def propagate(self, field: Any, ticks: Any = None) -> Any:  # noqa: D102 (inherited)
        n_out, n_in = self.shape
        field = check_field(field, n_in)
        backend = backend_of(field)
        image = backend.xp.take(field, image_columns(n_in, n_out, backend), axis=1)
        return self.medium.propagate(field, ticks) * self.scattered + image * self.straight

    def adjoint(self, field: Any, ticks: Any = None) -> Any:  # noqa: D102 (inherited)
        n_out, n_in = self.shape
        field = check_field(field, n_out)
        backend = backend_of(field)
        xp = backend.xp
        # A gather in place of a scatter, which would add in no fixed order on a GPU: a column of zeros fills the rows.
        padded = xp.concat([field, xp.zeros_like(field[:, :1])], axis=1)
        rows = image_rows(n_in, n_out, backend)
        image = xp.reshape(xp.take(padded, rows, axis=1), (field.shape[0], n_in, rows.shape[0] // n_in))
        image = xp.sum(image, axis=2)
        return self.medium.adjoint(field, ticks) * self.scattered + image * self.straight

    def block(self, rows: slice, cols: slice, tick: int = 0) -> NDArray[np.complex64]:  # noqa: D102 (inherited)
        n_out, n_in = self.shape
        columns = np.arange(n_in)[cols]
        image = (image_of(n_in, n_out)[rows, None] == columns).astype(np.float32)
        return self.medium.block(rows, cols, tick) * self.scattered + image * self.straight


def image_of(n_in: int, n_out: int) -> NDArray[np.int64]:
    """Input that each output is the geometric image of: ``floor((i + 1/2) n_in / n_out)``, shape (n_out,)."""
    return (2 * np.arange(n_out, dtype=np.int64) + 1) * n_in // (2 * n_out)


@lru_cache(maxsize=8)
def image_columns(n_in: int, n_out: int, backend: Backend) -> Any:
    """`image_of` on a backend."""
    return backend.asarray(image_of(n_in, n_out))


@lru_cache(maxsize=8)
def image_rows(n_in: int, n_out: int, backend: Backend) -> Any:
    """Outputs that each input lights, the same number for each, filled up with n_out: flat, (n_in * most,)."""
    first = np.searchsorted(image_of(n_in, n_out), np.arange(n_in + 1))
    rows = first[:-1, None] + np.arange(np.diff(first).max())
    return backend.asarray(np.where(rows < first[1:, None], rows, n_out).ravel())


class Modes(Effect):
    """Fields that a sensor sees independently: the medium, and as many fresh ones as there are further weights.

    ``T = [sqrt(w_0) T_0; sqrt(w_1) T_1; ...]``, of shape (k n_out, n_in), with the weights' sum 1, so that the
    intensity summed over the modes keeps its mean. Its contrast is ``sqrt(sum w^2)``, 1/sqrt(k) for equal weights
    (Goodman, *Speckle Phenomena in Optics*, section 3.3). T_0 is the medium itself.

    Parameters
    ----------
    medium : ScatteringMedium
        The first mode (or modes: it may have several, which are then stacked).
    weights : iterable of float
        Relative intensity of each mode, positive; they are divided by their sum.
    seed : int
        Which further media there are, 0 to 2**64 - 1.

    Raises
    ------
    ValueError
        If there is no weight or one is not positive and finite.
    """

    parameters = ("weights", "seed")

    def __init__(self, medium: ScatteringMedium, weights: Iterable[float], seed: int = 0) -> None:
        super().__init__(medium)
        given = list(weights) if isinstance(weights, Iterable) else []
        if not given or not all(0 < number(weight) < np.inf for weight in given):
            raise ValueError(f"weights must be one or more positive numbers, got {weights!r}")
        self.weights = [float(weight) for weight in given]
        self.seed = check_seed(seed)
        self.modes = len(given) * medium.modes
        self.amplitudes = [float(a) for a in np.sqrt(np.divide(self.weights, np.sum(self.weights)))]

    @classmethod
    def polarised(cls, medium: ScatteringMedium, seed: int = 0) -> "Modes":
        """Return a medium that depolarises: two equal, independent fields, contrast 1/sqrt(2).

        A device does this itself where its sensor sees both polarisations, `Imaging.polarisations`: use one of the two.
        """
        return cls(medium, (1.0, 1.0), seed)

    @cached_property
    def media(self) -> tuple[ScatteringMedium, ...]:
        """The medium of each weight."""
        seeds = [related_seed(self.medium, self.seed, MODE, mode) for mode in range(1, len(self.weights))]
        return self.medium, *(self.medium.fresh(seed) for seed in seeds)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "media"}  # made again where needed

    @property
    def shape(self) -> tuple[int, int]:  # noqa: D102 (inherited)
        n_out, n_in = self.medium.shape
        return len(self.weights) * n_out, n_in

    def propagate(self, field: Any, ticks: Any = None) -> Any:  # noqa: D102 (inherited)
        field = check_field(field, self.shape[1])
        out, n = backend_of(field).empty((field.shape[0], self.shape[0]), "complex64"), self.medium.shape[0]
        for mode, (medium, amplitude) in enumerate(zip(self.media, self.amplitudes, strict=True)):
            out[:, mode * n : (mode + 1) * n] = medium.propagate(field, ticks) * amplitude
        return out

    def adjoint(self, field: Any, ticks: Any = None) -> Any:  # noqa: D102 (inherited)
        field = check_field(field, self.shape[0])
        out, n = backend_of(field).zeros((field.shape[0], self.shape[1]), "complex64"), self.medium.shape[0]
        for mode, (medium, amplitude) in enumerate(zip(self.media, self.amplitudes, strict=True)):
            out += medium.adjoint(field[:, mode * n : (mode + 1) * n], ticks) * amplitude
        return out

    def block(self, rows: slice, cols: slice, tick: int = 0) -> NDArray[np.complex64]:  # noqa: D102 (inherited)
        n_out, n_in = self.shape
        wanted = range(n_out)[rows]
        if wanted.step < 0:
            upward = wanted[::-1]
            return self.block(slice(upward.start, upward.stop, upward.step), cols, tick)[::-1]
        n, pieces = self.medium.shape[0], [np.empty((0, len(range(n_in)[cols])), np.complex64)]
        for mode, (medium, amplitude) in enumerate(zip(self.media, self.amplitudes, strict=True)):
            first = max(-(-(mode * n - wanted.start) // wanted.step), 0)  # of the wanted rows, in or after this mode
            start, stop = wanted.start + first * wanted.step - mode * n, wanted.stop - mode * n
            if start < min(stop, n):
                pieces.append(medium.block(slice(start, min(stop, n), wanted.step), cols, tick) * amplitude)
        return np.concatenate(pieces)

    def fresh(self, seed: int) -> "Modes":  # noqa: D102 (inherited)
        # Other words for the modes than for the medium: else modes of modes would share their media.
        return Modes(self.medium.fresh(derived_seed(seed, COPY)), self.weights, derived_seed(seed, COPY, 1))

    def _arguments(self) -> dict[str, Any]:
        return {"weights": list(self.weights), "seed": self.seed}


class Dispersive(Effect):
    """A medium whose paths are of different lengths, so that a broad line blurs its speckle.

    The field of a single wavelength is that of the medium inside. A laser of finite linewidth makes of it `Modes` with
    the weights of its coherence: for a Lorentzian line of width dv and exponential path times of mean tau,
    contrast^2 is ``1 / (1 + 2 pi tau dv)``.

    Parameters
    ----------
    medium : ScatteringMedium
        The medium inside.
    path_time_s : float
        Spread of path times (the mean of their exponential law), seconds, 0 or more: about L^2 / (pi^2 D) for a slab of
        thickness L with diffusion constant D. It belongs to a sample.

    Raises
    ------
    ValueError
        If the time is out of range.
    """

    parameters = ("path_time_s",)

    def __init__(self, medium: ScatteringMedium, path_time_s: float) -> None:
        super().__init__(medium)
        if not 0 <= number(path_time_s) < np.inf:
            raise ValueError(f"path_time_s must be 0 or more, got {path_time_s!r}")
        self.path_time_s = float(path_time_s)
