"""Where the teaching signal of the hidden blocks comes from."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from calibration import LinearProjection
from dfa.encoding import Ternary
from photonics import draw
from photonics.random import Stream, check_seed

__all__ = ["Feedback", "OpticalFeedback", "RandomFeedback"]

Encoder = Callable[[Tensor], Tensor]


class Feedback(Protocol):
    """A fixed random linear map from the output's error to every hidden block at once."""

    def __call__(self, error: Tensor, widths: Sequence[int]) -> list[Tensor]:
        """Teaching signals of the blocks: (batch, classes) -> one (batch, width) tensor for each width."""
        ...


class RandomFeedback:
    """Feedback through an exact Gaussian matrix B, entries N(0, 1/width) for a block of that width.

    Parameters
    ----------
    seed : int
        The matrix is a function of it; one matrix for the concatenated width, of which blocks take their slices.
    encoder : callable, optional
        Maps the error before the projection, such as `Ternary`; none by default.
    """

    def __init__(self, seed: int = 0, encoder: Encoder | None = None) -> None:
        self.seed, self.encoder = check_seed(seed), encoder
        self._matrix = torch.empty(0, 0)

    def __call__(self, error: Tensor, widths: Sequence[int]) -> list[Tensor]:  # noqa: D102 (inherited)
        code = error if self.encoder is None else self.encoder(error).to(error.dtype)
        matrix = self.matrix(sum(widths), error.shape[1]).to(error)
        signals = (code @ matrix.T).split(list(widths), dim=1)
        return [signal / math.sqrt(width) for signal, width in zip(signals, widths, strict=True)]

    def matrix(self, width: int, classes: int) -> Tensor:
        """B with unit variance, (width, classes), before each block's scale."""
        if self._matrix.shape != (width, classes):
            entries = draw.normals(self.seed, Stream.FEEDBACK, np.arange(width * classes))
            self._matrix = torch.from_numpy(entries.reshape(width, classes))
        return self._matrix


class OpticalFeedback:
    """Feedback through the device: the error is ternarised, shown, and its linear projection read back.

    Each block reads its own pixels of one projection for all of them. Pixels whose anchor is dark are passed over.
    Signals are scaled like `RandomFeedback`'s: entries of variance 1/width for a block of that width.

    Parameters
    ----------
    projection : LinearProjection
        Measured through the device (`calibration.measure_projection`), with as many inputs as there are classes and
        at least as many valid outputs as the hidden blocks have units.
    encoder : Ternary, optional
        How the error becomes ternary; a sample whose code is empty is not sent and gets no feedback.
    """

    def __init__(self, projection: LinearProjection, encoder: Ternary | None = None) -> None:
        self.projection, self.encoder = projection, encoder or Ternary()
        self._rows = np.flatnonzero(projection.valid)
        self._scale = math.sqrt(2.0 * projection.opu.n_in)  # entries of the projection have variance 1/(2 n_in)

    def __call__(self, error: Tensor, widths: Sequence[int]) -> list[Tensor]:  # noqa: D102 (inherited)
        if error.shape[1] != self.projection.n_inputs:
            raise ValueError(
                f"projection must have as many inputs as the error has entries ({error.shape[1]}), "
                f"got {self.projection.n_inputs}"
            )
        if sum(widths) > self._rows.size:
            raise ValueError(
                f"projection must have at least {sum(widths)} valid outputs for the hidden blocks, "
                f"got {self._rows.size} of {self.projection.n_outputs}"
            )
        code = self.encoder(error).cpu().numpy()
        values = self.projection(code)[:, self._rows[: sum(widths)]]
        signals = torch.from_numpy(values).to(error).split(list(widths), dim=1)
        return [signal * (self._scale / math.sqrt(width)) for signal, width in zip(signals, widths, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """What changes while training: the frames on the device's clock."""
        return {"frames": self.projection.opu.clock.frames}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set the device's clock, so that a resumed run meets the noise that it would have met."""
        self.projection.opu.clock.frames = int(state["frames"])

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Frames taken inside do not count: looking at a run must not change it."""
        state = self.state_dict()
        try:
            yield
        finally:
            self.load_state_dict(state)
