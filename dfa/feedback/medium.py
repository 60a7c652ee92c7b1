"""Feedback through a scattering medium itself: no device, no noise, and no stored matrix if the medium has none."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dfa.arrays import to_array, to_tensor
from dfa.feedback.base import CodedFeedback, State
from dfa.feedback.encoding import Code, Encoder
from photonics.backend import HOST, Backend, find_backend
from photonics.medium.base import ScatteringMedium

__all__ = ["MediumFeedback", "project"]


class MediumFeedback(CodedFeedback):
    """Feedback through the transmission matrix of a medium, computed and not measured.

    B consists of the real and imaginary parts of T, one after the other: rows ``2 i`` and ``2 i + 1`` of B are those of
    row i of T. Signals are scaled as those of `RandomFeedback`: B has entries of variance 1/width for a block of that
    width. A medium that draws its entries again for each product (``GaussianMedium(..., storage="streamed")``) or has
    no entries (`photonics.ScatteringLayers`) needs no memory beyond the signals, for any size of B.

    Parameters
    ----------
    medium : ScatteringMedium
        One input for each class; at least half as many outputs as the hidden blocks have units together. A medium that
        changes in time is used as it is in frame 0.
    encoder : callable, optional
        Encodes the error before the projection, such as `Ternary`; none by default.

    Raises
    ------
    ValueError
        If `medium` is not a medium. In a call: if the error has another number of classes than the medium has inputs,
        or the medium has too few outputs.

    Examples
    --------
    >>> import torch
    >>> from dfa import MediumFeedback
    >>> from photonics import ScatteringLayers
    >>> feedback = MediumFeedback(ScatteringLayers(10, 500, seed=0, layers=4))
    >>> [tuple(signal.shape) for signal in feedback(torch.ones(2, 10), [600, 400])]
    [(2, 600), (2, 400)]
    """

    variant = "medium"

    def __init__(self, medium: ScatteringMedium, encoder: Encoder | None = None) -> None:
        super().__init__(encoder)
        if not isinstance(medium, ScatteringMedium):
            raise ValueError(f"medium must be a medium of photonics, got {type(medium).__name__}")
        self.medium = medium

    def _signals(self, code: Code, widths: Sequence[int], dtype: torch.dtype) -> list[Tensor]:
        values, scale = code
        signals = project(self.medium, values, sum(widths), dtype)
        if scale is not None:
            signals *= scale.detach().to(signals)
        parts = signals.split(list(widths), dim=1)
        return [part.div_(math.sqrt(width)) for part, width in zip(parts, widths, strict=True)]

    @cached_property
    def _digest(self) -> str:
        """SHA-256 of the medium's description."""
        description = json.dumps(self.medium.to_dict(), sort_keys=True, default=str)
        return hashlib.sha256(description.encode()).hexdigest()

    def state_dict(self) -> State:  # noqa: D102 (inherited)
        return super().state_dict() | {"medium": self._digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: D102 (inherited)
        if state.get("medium", self._digest) != self._digest:
            raise ValueError("state must be of feedback through this medium, got that of another medium")
        super().load_state_dict(state)


def project(medium: ScatteringMedium, values: Tensor, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Project codes by parts of T, scaled to unit variance: (rows, classes) -> (rows, width), new memory.

    The product is computed in float32. A row has the same result in any batch, bit for bit.

    Raises
    ------
    ValueError
        If the medium does not fit.
    """
    n_out, n_in = medium.shape
    if values.shape[1] != n_in:
        raise ValueError(f"medium must have as many inputs as the error has entries ({values.shape[1]}), got {n_in}")
    if width > 2 * n_out:
        raise ValueError(f"medium must have at least {-(-width // 2)} outputs for {width} units, got {n_out}")
    backend, rows = backend_for(values), len(values)
    field = to_array(values, backend)
    # One by one, frames cost only their inputs that are not zero; together, they cost all inputs once.
    if rows > 1 and not values.is_cuda and int((values != 0).sum()) <= n_in:
        signals = torch.zeros((rows, width), dtype=dtype)
        for row in range(rows):
            if field[row].any():
                signals[row] = real_parts(to_tensor(medium.propagate(field[row : row + 1])), width)[0]
    else:
        with backend.selected():
            signals = real_parts(to_tensor(medium.propagate(field)), width).to(values.device, dtype)
    return signals.mul_(math.sqrt(2.0 * n_in))


def real_parts(field: Tensor, width: int) -> Tensor:
    """Real and imaginary parts, one after the other: complex (rows, n) -> (rows, width)."""
    return torch.view_as_real(field).flatten(1)[:, :width]


def backend_for(tensor: Tensor) -> Backend:
    """Cupy on the GPU of the tensor, if cupy is installed; the host for all others."""
    if not tensor.is_cuda:
        return HOST
    try:
        return find_backend(f"cuda:{tensor.device.index}")
    except ValueError:
        return HOST
