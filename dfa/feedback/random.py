"""Feedback through a Gaussian matrix drawn from a seed."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from dfa.feedback.base import CodedFeedback, State
from dfa.feedback.encoding import Code, Encoder
from photonics import draws
from photonics.random import Stream, check_seed

__all__ = ["RandomFeedback", "gaussian"]

SEPARATE = 2**46
"""First tick of the blocks' separate matrices in the stream of feedback. Encoders draw at lower ticks."""


class RandomFeedback(CodedFeedback):
    """Feedback through an exact Gaussian matrix B, entries N(0, 1/width) for a block of that width.

    Parameters
    ----------
    seed : int
        The matrices are a function of it.
    encoder : callable, optional
        Encodes the error before the projection, such as `Ternary`; none by default.
    shared : bool
        True: one matrix for the concatenated width, of which each block takes a slice, as with a device. False: a
        separate matrix for each block, which does not change with the sizes of the others.
    matrix : array_like, shape (width, classes), optional
        Matrix of unit variance to use instead of a drawn one, such as one recovered from a device. Blocks take slices
        of it in order, from the first row on.

    Raises
    ------
    ValueError
        If the seed is out of range, or `matrix` is not two-dimensional or is combined with ``shared=False``.
    """

    variant = "random"

    def __init__(
        self,
        seed: int = 0,
        encoder: Encoder | None = None,
        shared: bool = True,
        matrix: ArrayLike | Tensor | None = None,
    ) -> None:
        super().__init__(encoder)
        self.seed, self.shared = check_seed(seed), bool(shared)
        self._given = None if matrix is None else torch.as_tensor(matrix).detach()
        if self._given is not None and (self._given.ndim != 2 or not self.shared):
            raise ValueError(f"matrix must be (width, classes) and shared, got {tuple(self._given.shape)}")
        if self._given is not None and not bool(torch.isfinite(self._given).all()):
            raise ValueError("matrix must be finite, got NaN or infinity")
        self._matrices: dict[tuple[int, int, int], Tensor] = {}
        self._moved: dict[tuple[int | None, int, int, torch.device, torch.dtype], Tensor] = {}

    def _signals(self, code: Code, widths: Sequence[int], dtype: torch.dtype) -> list[Tensor]:
        values = code.values.to(dtype) if code.scale is None else code.values * code.scale.to(dtype)
        values = values.detach()
        if self.shared:
            signals = (values @ self._matrix_like(values, sum(widths)).T).split(list(widths), dim=1)
        else:
            signals = [values @ self._matrix_like(values, width, k).T for k, width in enumerate(widths)]
        return [signal.div_(math.sqrt(width)) for signal, width in zip(signals, widths, strict=True)]

    def _matrix_like(self, values: Tensor, width: int, block: int | None = None) -> Tensor:
        """Matrix on the device and with the type of the values, converted once and then kept."""
        key = block, width, values.shape[1], values.device, values.dtype
        if key not in self._moved:
            self._moved = {k: m for k, m in self._moved.items() if k[0] != block}
            self._moved[key] = self.matrix(width, values.shape[1], block).to(values)
        return self._moved[key]

    def matrix(self, width: int, classes: int, block: int | None = None) -> Tensor:
        """B with unit variance, (width, classes), before the block's scale.

        Parameters
        ----------
        width, classes : int
            Shape of the matrix.
        block : int, optional
            Block whose separate matrix is wanted; None for the shared one.
        """
        if self._given is not None:
            if self._given.shape[0] < width or self._given.shape[1] != classes:
                raise ValueError(f"matrix must be at least ({width}, {classes}), got {tuple(self._given.shape)}")
            return self._given[:width]
        tick = 0 if block is None else SEPARATE + block
        key = (width, classes, tick)
        if key not in self._matrices:
            self._matrices = {k: m for k, m in self._matrices.items() if k[2] != tick}  # keep one size of each
            self._matrices[key] = gaussian(self.seed, (width, classes), tick)
        return self._matrices[key]

    def state_dict(self) -> State:  # noqa: D102 (inherited)
        state = super().state_dict() | {"seed": self.seed, "shared": self.shared}
        return state if self._digest is None else state | {"matrix": self._digest}

    @cached_property
    def _digest(self) -> str | None:
        """SHA-256 of the user's matrix; None if matrices are drawn."""
        if self._given is None:
            return None
        content = self._given.cpu().contiguous().flatten().view(torch.uint8).numpy()
        return hashlib.sha256(content.tobytes()).hexdigest()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: D102 (inherited)
        if state.get("matrix", self._digest) != self._digest:
            raise ValueError("state must be of feedback with this matrix, got that of another matrix")
        super().load_state_dict(state)
        self.seed = check_seed(state.get("seed", self.seed))
        self.shared = bool(state.get("shared", self.shared))
        self._matrices.clear()
        self._moved.clear()


def gaussian(seed: int, shape: tuple[int, ...], tick: int) -> Tensor:
    """Draw a standard normal matrix, float32, a function of seed and tick."""
    entries = draws.normals(seed, Stream.FEEDBACK, np.arange(math.prod(shape)), tick)
    return torch.from_numpy(entries.reshape(shape))
