"""How an error becomes something that mirrors can show."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dfa.arrays import to_tensor
from dfa.errors import Diverged
from photonics import draws
from photonics.component import number
from photonics.random import Stream, check_seed

__all__ = ["Code", "Encoder", "Graded", "Ternary", "encode"]

POLICIES = ("threshold", "deviations", "relative", "stochastic")


class Code(NamedTuple):
    """What the device shows of an error."""

    values: Tensor
    """Codes, shape (rows, classes); a row of zeros is not shown."""
    scale: Tensor | None
    """By what each row's projection is multiplied afterwards, shape (rows, 1)."""


Encoder = Callable[[Tensor], Tensor | tuple[Tensor, Tensor]]
"""Maps an error (rows, classes) to codes of that shape, or to codes and a scale for each row, (rows, 1)."""


@dataclass(frozen=True, kw_only=True)
class Ternary:
    """Ternarise the error: its sign where its magnitude exceeds a threshold, 0 elsewhere.

    What decides how well a network trains, more than any noise, is whether the feedback vanishes with the error. With
    the first two policies the code empties as a sample is learned; with the next two the scale follows; a bare sign, or
    a threshold that follows the sample without its scale, does not, and loses 4 to 5 points on MNIST. An empty code is
    not shown, and a row whose error is zero (outside of the loss) always gives one.

    Parameters
    ----------
    threshold : float, optional
        Fixed threshold, in units of the error of one row (softmax minus one-hot lies between -1 and 1).
    deviations : float, optional
        Threshold in standard deviations of the error over the batch, rows of zeros apart. 1 if no policy is given.
    relative : float, optional
        Threshold as a share of the row's largest magnitude, 0 to 1. Meant to go with `restore`.
    stochastic : float, optional
        Each entry is its sign with probability ``min(|e| / stochastic, 1)``, else 0, and the projection is multiplied
        by `stochastic`: unbiased for errors up to it. The choice with many classes (characters, words), where almost
        every entry is under any threshold.
    pairs : bool
        With `stochastic`, draw at most one entry of each sign in a row, with chances in proportion to their magnitudes,
        and the two together. Always unbiased: a row whose entries of one sign add up to more than `stochastic` (softmax
        minus one-hot has 1 at most, two heads together 2) has that sum in its place. Where a row's errors add up to
        zero, every code that is shown holds one 1 and one -1.
        What a device adds to every pattern alike (the offset of a drifted or rounded calibration) then cancels in
        each code, where otherwise it would add up over a batch to a signal that no error has caused.
    sign : bool
        The bare sign; for comparison, as it trains badly.
    restore : bool
        Give each row its own scale back, digitally, after the projection: the mean magnitude of the entries shown, with
        which the code is the nearest to the error; with `stochastic`, which then counts in units of the row's largest
        magnitude (with `pairs`, of the larger sum of magnitudes of one sign), that unit. The device's noise then
        shrinks with the signal, too.
    seed : int
        Of the random numbers of `stochastic`, which are a function of it, of the call's number and of the place.

    Raises
    ------
    ValueError
        If two policies are given, or a number is negative or not finite.

    Examples
    --------
    >>> import torch
    >>> Ternary(threshold=0.2)(torch.tensor([[0.3, -0.9, 0.1]]))
    tensor([[ 1, -1,  0]], dtype=torch.int8)
    >>> Ternary(relative=0.2, restore=True)(torch.tensor([[0.3, -0.9, 0.1]]))
    (tensor([[ 1, -1,  0]], dtype=torch.int8), tensor([[0.6000]]))
    """

    threshold: float | None = None
    deviations: float | None = None
    relative: float | None = None
    stochastic: float | None = None
    pairs: bool = False
    sign: bool = False
    restore: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("pairs", "sign", "restore"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, got {getattr(self, name)!r}")
        given = {name: getattr(self, name) for name in POLICIES if getattr(self, name) is not None}
        if len(given) + bool(self.sign) > 1:
            chosen = ", ".join([f"{name}={value}" for name, value in given.items()] + ["sign=True"] * bool(self.sign))
            raise ValueError(f"threshold, deviations, relative, stochastic and sign exclude each other, got {chosen}")
        if not given and not self.sign:
            object.__setattr__(self, "deviations", 1.0)
        for name, value in given.items():
            if not 0 <= number(value) < float("inf"):
                raise ValueError(f"{name} must be 0 or more and finite, got {value!r}")
        if self.relative is not None and self.relative >= 1:
            raise ValueError(f"relative must be below 1, got {self.relative!r}")
        if self.stochastic == 0:
            raise ValueError("stochastic must be over 0, got 0")
        if self.pairs and self.stochastic is None:
            raise ValueError("pairs must go with stochastic, got pairs=True alone")
        check_seed(self.seed)

    def __call__(self, error: Tensor, tick: int = 0) -> Tensor | tuple[Tensor, Tensor]:
        """Codes -1, 0, 1 as int8 of the error's shape, (..., classes); with a scale for each row if there is one.

        Parameters
        ----------
        error : Tensor, shape (..., classes)
            Errors; a row is the last dimension.
        tick : int
            Number of the call, for `stochastic`: the same number draws the same.

        Raises
        ------
        ValueError
            If the error is not finite.
        """
        check_finite(error)
        size = error.abs()
        if self.stochastic is not None:
            return self._drawn(error, size, tick)
        code = self._signs(error, size > self._threshold(error, size))
        if not self.restore:
            return code
        shown = code != 0
        return code, (size * shown).sum(-1, keepdim=True) / shown.sum(-1, keepdim=True).clamp(min=1)

    def _drawn(self, error: Tensor, size: Tensor, tick: int) -> tuple[Tensor, Tensor]:
        assert self.stochastic is not None
        scale = torch.full_like(error[..., :1], self.stochastic)
        if not self.pairs:
            if self.restore:
                scale *= size.amax(dim=-1, keepdim=True)
            chance = to_tensor(self._uniforms(error.numel(), tick)).to(error.device).view_as(error)
            return self._signs(error, size > chance * scale), scale
        # The magnitudes of each sign lie end to end on a line; one draw for the row hits an entry of either, or none.
        lengths = torch.stack([error, -error]).clamp(min=0)
        ends = lengths.cumsum(dim=-1, dtype=torch.promote_types(error.dtype, torch.float32))
        longest = ends[..., -1:].amax(dim=0)
        if self.restore:
            scale *= longest
        scale = torch.where(longest > (1.0 + 1e-5) * scale, longest.to(scale), scale)  # not for a sum's rounding
        hit = to_tensor(self._uniforms(scale.numel(), tick)).to(error.device).view_as(scale) * scale
        shown = (torch.nn.functional.pad(ends[..., :-1], (1, 0)) <= hit) & (hit < ends)
        return self._signs(error, shown.any(dim=0)), scale

    def _threshold(self, error: Tensor, size: Tensor) -> Tensor | float:
        if self.threshold is not None:
            return self.threshold
        if self.deviations is not None:
            taught = (error != 0).any(dim=-1)
            if not taught.any():
                return 0.0
            return self.deviations * (error if taught.all() else error[taught]).std(correction=0)
        return 0.0 if self.relative is None else self.relative * size.amax(dim=-1, keepdim=True)

    def _uniforms(self, count: int, tick: int) -> np.ndarray:
        # Tick 0 of this stream is `RandomFeedback`'s matrix.
        return draws.uniforms(self.seed, Stream.FEEDBACK, np.arange(count), 1 + tick)

    @staticmethod
    def _signs(error: Tensor, shown: Tensor) -> Tensor:
        return (error.sign() * shown).to(torch.int8)


@dataclass(frozen=True)
class Graded:
    """Show the error itself: each row divided by its largest magnitude, which is restored after the projection.

    For projections that show real numbers from -1 to 1 by bit planes: up to `bits` times as many frames.
    """

    def __call__(self, error: Tensor) -> tuple[Tensor, Tensor]:
        """Values from -1 to 1, shape (..., classes), and the rows' scales, (..., 1)."""
        check_finite(error)
        scale = error.abs().amax(dim=-1, keepdim=True)
        return error / torch.where(scale > 0, scale, 1.0), scale


def encode(encoder: Encoder | None, error: Tensor, tick: int) -> Code:
    """Codes of an error, and the rows' scales if the encoder gives them; without an encoder, the error."""
    if encoder is None:
        return Code(error, None)
    found = encoder(error, tick) if isinstance(encoder, Ternary) else encoder(error)
    return Code(found, None) if isinstance(found, Tensor) else Code(*found)


def check_finite(error: Tensor) -> None:
    """Raise `Diverged` if an error is no finite number."""
    if not torch.isfinite(error).all():
        raise Diverged("error must be finite, got NaN or infinity: training has diverged")
