"""Where the teaching signal of the hidden blocks comes from."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from dfa.feedback.encoding import Code, Encoder, encode

__all__ = ["CodedFeedback", "Feedback"]


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
