"""Feedback through a Gaussian matrix drawn from a seed, in memory or again for each product."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from dfa.feedback.base import CodedFeedback, State
from dfa.feedback.encoding import Code, Encoder
from dfa.feedback.medium import project
from photonics import GaussianMedium, draws
from photonics.draws import further_seed
from photonics.random import Stream, check_seed

__all__ = ["RandomFeedback", "gaussian"]

SEPARATE = 2**46
"""First tick of the blocks' separate matrices in the stream of feedback. Encoders draw at lower ticks."""
MAX_ENTRIES = 2**32
"""Number of values of the counter's index."""
TOGETHER = 2**20
"""Entries that are drawn together."""


class RandomFeedback(CodedFeedback):
    """Feedback through an exact Gaussian matrix B, entries N(0, 1/width) for a block of that width.

    By default B is a float32 matrix in memory, 4 bytes an entry. With `storage` B consists of the real and imaginary
    parts of a `photonics.GaussianMedium`: another matrix of the same law, whose products are computed by the medium's
    kernels, in float32. "stored" and "streamed" then give the same signals, bit for bit.

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
    storage : {"stored", "streamed", "auto"}, optional
        As for `photonics.GaussianMedium`. "stored" keeps the medium's matrix, 4 bytes an entry of B. "streamed" draws
        the entries again for each product and needs no memory beyond the signals; a code with few entries that are not
        zero (`Ternary` with many classes) costs only these columns. "auto" stores a matrix that takes less than a
        quarter of the free memory. None, the default, is the matrix of earlier versions.

    Raises
    ------
    ValueError
        If the seed is out of range, `matrix` is not two-dimensional or is combined with ``shared=False`` or `storage`,
        or `storage` is unknown. In a call without `storage`: if B has more than 2**32 entries.
    """

    variant = "random"

    def __init__(
        self,
        seed: int = 0,
        encoder: Encoder | None = None,
        shared: bool = True,
        matrix: ArrayLike | Tensor | None = None,
        storage: Literal["stored", "streamed", "auto"] | None = None,
    ) -> None:
        super().__init__(encoder)
        self.seed, self.shared = check_seed(seed), bool(shared)
        if storage not in (None, "stored", "streamed", "auto"):
            raise ValueError(f"storage must be 'stored', 'streamed', 'auto' or None, got {storage!r}")
        if storage is not None and matrix is not None:
            raise ValueError(f"storage must be left out if a matrix is given, got {storage!r}")
        self.storage: Literal["stored", "streamed", "auto"] | None = storage
        self._given = None if matrix is None else torch.as_tensor(matrix).detach()
        if self._given is not None and (self._given.ndim != 2 or not self.shared):
            raise ValueError(f"matrix must be (width, classes) and shared, got {tuple(self._given.shape)}")
        if self._given is not None and not bool(torch.isfinite(self._given).all()):
            raise ValueError("matrix must be finite, got NaN or infinity")
        self._media: dict[int | None, GaussianMedium] = {}
        self._matrices: dict[tuple[int, int, int], Tensor] = {}
        self._moved: dict[tuple[int | None, int, int, torch.device, torch.dtype], Tensor] = {}

    def _source(self) -> str:
        given = "" if self._given is None else f", matrix={' x '.join(map(str, self._given.shape))}"
        return f"seed={self.seed}, shared={self.shared}{given}"

    def _signals(self, code: Code, widths: Sequence[int], dtype: torch.dtype) -> list[Tensor]:
        if self.storage is not None:
            return self._from_media(code, widths, dtype)
        values = code.values.to(dtype) if code.scale is None else code.values * code.scale.to(dtype)
        values = values.detach()
        if self.shared:
            signals = (values @ self._matrix_like(values, sum(widths)).T).split(list(widths), dim=1)
        else:
            signals = [values @ self._matrix_like(values, width, k).T for k, width in enumerate(widths)]
        return [signal.div_(math.sqrt(width)) for signal, width in zip(signals, widths, strict=True)]

    def _from_media(self, code: Code, widths: Sequence[int], dtype: torch.dtype) -> list[Tensor]:
        """Signals through Gaussian media, which keep or draw their entries."""
        matrices = [(None, sum(widths))] if self.shared else list(enumerate(widths))
        found = []
        for block, width in matrices:
            projected = project(self.medium(width, code.values.shape[1], block), code.values, width, dtype)
            found.append(projected if code.scale is None else projected.mul_(code.scale.detach().to(projected)))
        signals = found[0].split(list(widths), dim=1) if self.shared else found
        return [signal.div_(math.sqrt(width)) for signal, width in zip(signals, widths, strict=True)]

    def medium(self, width: int, classes: int, block: int | None = None) -> GaussianMedium:
        """Return the medium whose parts are B; the arguments are those of `matrix`. For feedback with `storage`."""
        shape = classes, -(-width // 2)
        if block not in self._media or self._media[block].shape != shape[::-1]:
            # Seeds at ticks that no other draw of the stream uses.
            seed = further_seed(self.seed, Stream.FEEDBACK, (SEPARATE - 1 if block is None else SEPARATE + block) << 32)
            self._media[block] = GaussianMedium(*shape, seed, self.storage or "stored")
        return self._media[block]

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
        if self.storage is not None:
            state |= {"medium": "gaussian"}
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
        if ("medium" in state) != (self.storage is not None) and "variant" in state:
            kinds = ["without storage", "with storage"]
            raise ValueError(
                f"state must be of feedback {kinds[self.storage is not None]}, got that of feedback "
                f"{kinds['medium' in state]}: they have different matrices"
            )
        super().load_state_dict(state)
        self.seed = check_seed(state.get("seed", self.seed))
        self.shared = bool(state.get("shared", self.shared))
        self._media.clear()
        self._matrices.clear()
        self._moved.clear()


def gaussian(seed: int, shape: tuple[int, ...], tick: int) -> Tensor:
    """Draw a standard normal matrix, float32, a function of seed and tick.

    Raises
    ------
    ValueError
        If it has more than 2**32 entries: the generator's counter would start again, and entries would repeat.
    """
    total = math.prod(shape)
    if total > MAX_ENTRIES:
        raise ValueError(
            f"a feedback matrix must have at most 2**32 entries, got {' x '.join(map(str, shape))}: use "
            'RandomFeedback(storage="streamed")'
        )
    entries = np.empty(total, np.float32)
    for start in range(0, total, TOGETHER):  # the indices of a draw take eight times the memory of its entries
        stop = min(start + TOGETHER, total)
        entries[start:stop] = draws.normals(seed, Stream.FEEDBACK, np.arange(start, stop), tick)
    return torch.from_numpy(entries.reshape(shape))
