"""Encoders: they turn an error into codes that the device can show."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

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
"""Fields of `Ternary` that select a policy and have a value."""
DEFAULT = {"stochastic": 1.0, "pairs": True, "restore": True}
"""Policy of `Ternary` if none is given: it holds for every activation (docs/codes.md)."""


class Code(NamedTuple):
    """An encoded error."""

    values: Tensor
    """Codes, shape (rows, classes); a row of zeros is not shown."""
    scale: Tensor | None
    """Factor of each row's projection, shape (rows, 1); None for no factor."""


Encoder: TypeAlias = Callable[[Tensor], Tensor | tuple[Tensor, Tensor]]
"""Maps an error (rows, classes) to codes of that shape, or to codes and a factor for each row, (rows, 1)."""


@dataclass(frozen=True, kw_only=True)
class Ternary:
    """Ternarise the error: its sign where its magnitude exceeds a threshold, 0 elsewhere.

    A network trains well if the feedback vanishes with the error; this matters more than any noise. With `threshold`
    and `deviations` the code becomes empty as a sample is learned. With `restore` and with `stochastic` the signal
    shrinks with the error. With `sign`, or with `relative` but without `restore`, it does not shrink, and a network
    loses 4 to 5 points on MNIST. An empty code is not shown. A row whose error is zero (outside of the loss) always has
    an empty code.

    Without a policy the code is ``Ternary(stochastic=1.0, pairs=True, restore=True)``, whatever `pairs` and `restore`
    are. It is unbiased, so it does not depend on the network's activation: with ReLU, the thresholds lose up to 50
    points. Every row with an error is shown in each step. ``Ternary(stochastic=1.0, pairs=True)`` saves frames, because
    rows that are learned are shown less often, and adds variance.

    Parameters
    ----------
    threshold : float, optional
        Fixed threshold, in units of the error of one row (softmax minus one-hot lies between -1 and 1).
    deviations : float, optional
        Threshold in standard deviations of the error over the batch, without rows of zeros. For tanh units.
    relative : float, optional
        Threshold as a share of the row's largest magnitude, 0 to 1. Use it with `restore`.
    stochastic : float, optional
        Each entry is its sign with probability ``min(|e| / stochastic, 1)``, else 0, and the projection is multiplied
        by `stochastic`. This is unbiased for errors up to `stochastic`. Use it with many classes (characters, words),
        where almost all entries are below any threshold.
    pairs : bool
        With `stochastic`, draw at most one entry of each sign in a row, both by the same random number, with
        probabilities proportional to their magnitudes. This is always unbiased: in a row whose entries of one sign have
        a larger sum than `stochastic` (the sum is at most 1 for softmax minus one-hot, at most 2 for two heads), that
        sum replaces `stochastic`. If the errors of a row sum to zero, every code that is shown has one 1 and one -1. A
        constant offset that the device adds to every pattern (because of drift or a rounded calibration) then cancels
        in each code. Otherwise it would accumulate over a batch to a signal without any error.
    sign : bool
        Sign without a threshold; for comparison, because it trains badly.
    restore : bool
        Multiply the projection of each row by its own scale. The scale is the mean magnitude of the entries shown, for
        which the code is closest to the error. With `stochastic` it is `stochastic` times the row's largest magnitude
        (with `pairs`, times the larger sum of magnitudes of one sign). The device's noise then also shrinks with the
        signal.
    seed : int
        Seed of the random numbers of `stochastic`, which are a function of seed, call number and position.

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
            for name, value in DEFAULT.items():
                object.__setattr__(self, name, value)
        for name, value in given.items():
            if not 0 <= number(value) < float("inf"):
                raise ValueError(f"{name} must be 0 or more and finite, got {value!r}")
        if self.relative is not None and self.relative >= 1:
            raise ValueError(f"relative must be less than 1, got {self.relative!r}")
        if self.stochastic == 0:
            raise ValueError("stochastic must be greater than 0, got 0")
        if self.pairs and self.stochastic is None:
            raise ValueError("pairs must be used with stochastic, got pairs=True without it")
        object.__setattr__(self, "seed", check_seed(self.seed))

    @property
    def proportional(self) -> bool:
        """Whether the scaled code is proportional to the error, so that a factor of the loss does not matter."""
        return self.restore and self.threshold is None

    @property
    def shrinks(self) -> bool:
        """Whether the signal of a row that is shown is smaller for a smaller error, on average."""
        return self.restore or self.stochastic is not None

    def __call__(self, error: Tensor, tick: int = 0) -> Tensor | tuple[Tensor, Tensor]:
        """Encode errors as -1, 0, 1, int8 of the same shape. With `restore` or `stochastic` return the scales, too.

        Parameters
        ----------
        error : Tensor, shape (..., classes)
            Errors, one row along the last dimension.
        tick : int
            Number of the call. It determines the random numbers of `stochastic`.

        Raises
        ------
        ValueError
            If the error is not finite.
        """
        check_finite(error)
        size = error.abs()
        if self.stochastic is not None:
            return self._draw_pairs(error, tick) if self.pairs else self._draw(error, size, tick)
        code = self._signs(error, size > self._threshold(error, size))
        if not self.restore:
            return code
        shown = code != 0
        return code, (size * shown).sum(-1, keepdim=True) / shown.sum(-1, keepdim=True).clamp(min=1)

    def _draw(self, error: Tensor, size: Tensor, tick: int) -> tuple[Tensor, Tensor]:
        """Draw each entry independently."""
        scale = self._start_scale(error)
        if self.restore:
            scale *= size.amax(dim=-1, keepdim=True)
        return self._signs(error, size > self._uniforms(error, tick) * scale), scale

    def _draw_pairs(self, error: Tensor, tick: int) -> tuple[Tensor, Tensor]:
        """Draw at most one entry of each sign in a row, both by the same random number.

        The magnitudes of each sign are intervals that lie end to end. The random number selects the entry of each sign
        whose interval contains it, or none if it is beyond the last interval.
        """
        scale = self._start_scale(error)
        lengths = torch.stack([error, -error]).clamp(min=0)
        ends = lengths.cumsum(dim=-1, dtype=torch.promote_types(error.dtype, torch.float32))
        longest = ends[..., -1:].amax(dim=0)
        if self.restore:
            scale *= longest
        # The tolerance ignores differences from the rounding of a sum.
        scale = torch.where(longest > (1.0 + 1e-5) * scale, longest.to(scale), scale)
        hit = self._uniforms(scale, tick) * scale
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

    def _start_scale(self, error: Tensor) -> Tensor:
        """`stochastic` for each row, shape (..., 1)."""
        assert self.stochastic is not None
        return torch.full_like(error[..., :1], self.stochastic)

    def _uniforms(self, like: Tensor, tick: int) -> Tensor:
        """Draw uniform numbers from 0 to 1 in the shape of a tensor, on its device."""
        numbers = draws.uniforms(
            self.seed, Stream.FEEDBACK, np.arange(like.numel()), 1 + tick
        )  # RandomFeedback uses tick 0
        return to_tensor(numbers).to(like.device).view_as(like)

    @staticmethod
    def _signs(error: Tensor, shown: Tensor) -> Tensor:
        return (error.sign() * shown).to(torch.int8)


@dataclass(frozen=True)
class Graded:
    """Show the error itself: each row is divided by its largest magnitude, and its projection multiplied by it.

    For projections that show real numbers from -1 to 1 by bit planes. They take up to `bits` times as many frames.
    """

    proportional = True

    def __call__(self, error: Tensor) -> tuple[Tensor, Tensor]:
        """Encode errors as values from -1 to 1, shape (..., classes), with the rows' scales, (..., 1)."""
        check_finite(error)
        scale = error.abs().amax(dim=-1, keepdim=True)
        return error / torch.where(scale > 0, scale, 1.0), scale


def encode(encoder: Encoder | None, error: Tensor, tick: int) -> Code:
    """Encode an error. Without an encoder the code is the error itself."""
    if encoder is None:
        return Code(error, None)
    code = encoder(error, tick) if isinstance(encoder, Ternary) else encoder(error)
    return Code(code, None) if isinstance(code, Tensor) else Code(*code)


def check_finite(error: Tensor) -> None:
    """Raise `Diverged` if an error contains NaN or infinity."""
    if not torch.isfinite(error).all():
        raise Diverged("error must be finite, got NaN or infinity: training has diverged")
