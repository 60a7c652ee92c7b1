"""Where the teaching signal of the hidden blocks comes from."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from dfa.feedback.encoding import Code, Encoder, encode
from photonics import draws
from photonics.random import Stream, check_seed

__all__ = ["CodedFeedback", "Feedback", "RandomFeedback", "gaussian"]

SEPARATE = 2**46
"""First tick of the matrices of separate blocks, in the stream of feedback; encoders draw at ticks below."""


class Feedback(Protocol):
    """A fixed random linear map from the output's error to every hidden block at once."""

    def __call__(self, error: Tensor, widths: Sequence[int]) -> list[Tensor]:
        """Teaching signals of the blocks: (rows, classes) -> one (rows, width) tensor for each width."""
        ...


class CodedFeedback(ABC):
    """Feedback that encodes the error and counts its steps, so that a resumed run goes on with the same draws."""

    variant: ClassVar[str]

    def __init__(self, encoder: Encoder | None) -> None:
        self.encoder = encoder
        self.steps = 0
        """Calls so far."""
        self._code: Code | None = None

    def __call__(self, error: Tensor, widths: Sequence[int]) -> list[Tensor]:
        """Teaching signals of the blocks: (rows, classes) -> one (rows, width) tensor for each width."""
        return self.signals(self.encode(error), widths, error.dtype)

    def encode(self, error: Tensor) -> Code:
        """The code of this step's error."""
        return encode(self.encoder, error, self.steps)

    def signals(self, code: Code, widths: Sequence[int], dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """Teaching signals of an error's code, wherever it was encoded; a step."""
        signals = self._signals(code, widths, dtype)
        self._code = code
        self.steps += 1
        return signals

    @abstractmethod
    def _signals(self, code: Code, widths: Sequence[int], dtype: torch.dtype) -> list[Tensor]:
        """Project a code: new tensors, without a graph, which the caller may change."""

    def statistics(self) -> dict[str, float]:
        """What the last step sent, computed when asked for; empty before the first one.

        ``rows`` of the error, how many of them were ``shown`` (the others had an empty code), and the share of
        ``nonzero`` codes over all rows.
        """
        if self._code is None:
            return {}
        nonzero = self._code.values != 0
        return {
            "rows": len(nonzero),
            "shown": int(nonzero.any(dim=1).sum()),
            "nonzero": float(nonzero.sum()) / max(nonzero.numel(), 1),
        }

    def state_dict(self) -> dict[str, Any]:
        """What kind of feedback it is, and what changes while training, in plain types."""
        return {"variant": self.variant, "steps": self.steps, "encoder": self._encoder_name}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state.

        Raises
        ------
        ValueError
            If it is of another kind of feedback, or of one with another encoder.
        """
        if state.get("variant", self.variant) != self.variant:
            raise ValueError(f"state is of {state['variant']} feedback, this one is {self.variant}")
        if state.get("encoder", self._encoder_name) != self._encoder_name:
            raise ValueError(
                f"state is of feedback with encoder {state['encoder']}, this one's is {self._encoder_name}"
            )
        self.steps = int(state.get("steps", 0))

    @property
    def _encoder_name(self) -> str:
        if self.encoder is None or is_dataclass(self.encoder):
            return repr(self.encoder)
        return getattr(self.encoder, "__qualname__", type(self.encoder).__qualname__)

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Calls inside do not count: looking at a run must not change it."""
        kept = self.steps, self._code
        try:
            yield
        finally:
            self.steps, self._code = kept


class RandomFeedback(CodedFeedback):
    """Feedback through an exact Gaussian matrix B, entries N(0, 1/width) for a block of that width.

    Parameters
    ----------
    seed : int
        The matrices are a function of it.
    encoder : callable, optional
        Maps the error before the projection, such as `Ternary`; none by default.
    shared : bool
        One matrix for the concatenated width, of which blocks take their slices, as they do of a device; or a separate
        one for each block, which does not change with the sizes of the others.
    matrix : array_like, shape (width, classes), optional
        Use this one, of unit variance, instead of drawing it: one recovered from a device, say. Blocks take their
        slices from the first row on.

    Raises
    ------
    ValueError
        If the seed is no seed, or a matrix is given that is none or goes with separate ones.
    """

    variant = "random"

    def __init__(self, seed: int = 0, encoder: Encoder | None = None, shared: bool = True, matrix: Any = None) -> None:
        super().__init__(encoder)
        self.seed, self.shared = check_seed(seed), bool(shared)
        self._given = None if matrix is None else torch.as_tensor(matrix).detach()
        if self._given is not None and (self._given.ndim != 2 or not self.shared):
            raise ValueError(f"matrix must be (width, classes) and shared, got {tuple(self._given.shape)}")
        self._matrices: dict[tuple[int, int, int], Tensor] = {}
        self._moved: dict[tuple[Any, ...], Tensor] = {}

    def _signals(self, code: Code, widths: Sequence[int], dtype: torch.dtype) -> list[Tensor]:
        values = code.values.to(dtype) if code.scale is None else code.values * code.scale.to(dtype)
        values = values.detach()
        if self.shared:
            signals = (values @ self._near(values, sum(widths)).T).split(list(widths), dim=1)
        else:
            signals = [values @ self._near(values, width, k).T for k, width in enumerate(widths)]
        return [signal.div_(math.sqrt(width)) for signal, width in zip(signals, widths, strict=True)]

    def _near(self, values: Tensor, width: int, block: int | None = None) -> Tensor:
        """The matrix where the values are, in their type; moved there once, not in every step."""
        which = block, width, values.shape[1], values.device, values.dtype
        if which not in self._moved:
            self._moved = {k: m for k, m in self._moved.items() if k[0] != block}
            self._moved[which] = self.matrix(width, values.shape[1], block).to(values)
        return self._moved[which]

    def matrix(self, width: int, classes: int, block: int | None = None) -> Tensor:
        """B with unit variance, (width, classes), before each block's scale; a block's own if one is given."""
        if self._given is not None:
            if self._given.shape[0] < width or self._given.shape[1] != classes:
                raise ValueError(f"matrix must be at least ({width}, {classes}), got {tuple(self._given.shape)}")
            return self._given[:width]
        tick = 0 if block is None else SEPARATE + block
        key = (width, classes, tick)
        if key not in self._matrices:
            self._matrices = {k: m for k, m in self._matrices.items() if k[2] != tick}  # the last size of each, only
            self._matrices[key] = gaussian(self.seed, (width, classes), tick)
        return self._matrices[key]

    def state_dict(self) -> dict[str, Any]:  # noqa: D102 (inherited)
        return super().state_dict() | {"seed": self.seed, "shared": self.shared}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: D102 (inherited)
        super().load_state_dict(state)
        self.seed = check_seed(state.get("seed", self.seed))
        self.shared = bool(state.get("shared", self.shared))
        self._matrices.clear()
        self._moved.clear()


def gaussian(seed: int, shape: tuple[int, ...], tick: int) -> Tensor:
    """Standard normal matrix, float32, a function of seed and tick."""
    entries = draws.normals(seed, Stream.FEEDBACK, np.arange(math.prod(shape)), tick)
    return torch.from_numpy(entries.reshape(shape))
