"""Base classes for sources of teaching signals."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from dfa.feedback.encoding import Code, Encoder, encode
from photonics.component import changed

__all__ = ["CodedFeedback", "Feedback", "FeedbackFunction", "FunctionFeedback", "State", "as_feedback", "scale_of"]

State: TypeAlias = dict[str, Any]
"""State that a checkpoint keeps: tensors, numbers, strings, and lists and dictionaries of these."""

FeedbackFunction: TypeAlias = Callable[[Tensor, Sequence[int]], list[Tensor]]
"""``feedback(error, widths)``: maps errors (rows, classes) to one signal (rows, width) for each width."""


class Feedback(ABC):
    """A fixed random linear map from the output's error to every hidden block at once.

    A subclass must define the call. The other methods describe feedback without state and without a device; a subclass
    replaces those that do not apply to it. `DirectFeedback` also takes a plain function (`FeedbackFunction`).
    """

    default_scale: ClassVar[float] = 1.0
    """Scale of the signals in `DirectFeedback` if none is given."""
    proportional: bool = True
    """Whether the signals are proportional to the error, so that its scale does not matter."""
    shrinks: bool = True
    """Whether the signal of a row is smaller for a smaller error, on average."""
    watch: bool = False
    """Measure saturation and noise in each step, for `statistics`, if the feedback has any."""
    rests: bool = True
    """Whether the feedback may send nothing while `hidden_rate` is 0."""

    @abstractmethod
    def __call__(self, error: Tensor, widths: Sequence[int]) -> list[Tensor]:
        """Teaching signals of the blocks: (rows, classes) -> one (rows, width) tensor for each width."""

    @property
    def frames(self) -> int:
        """Frames that the device has taken, calibration included; 0 without a device."""
        return 0

    @property
    def hidden_rate(self) -> float:
        """Factor on the learning rate of the hidden blocks, under 1 if the feedback changes faster than they follow."""
        return 1.0

    def statistics(self) -> dict[str, float]:
        """Figures of the last step, by name; empty before the first step."""
        return {}

    def state_dict(self) -> State:
        """State that a resumed run needs; empty if there is none."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state.

        Raises
        ------
        ValueError
            If the state does not belong to this feedback.
        """
        if state:
            raise ValueError(f"state must be empty for this feedback, got {state}")

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Context whose calls leave the state unchanged, so that measuring the alignment does not change a run."""
        yield


class FunctionFeedback(Feedback):
    """Feedback by a function without state."""

    def __init__(self, function: FeedbackFunction) -> None:
        self.function = function

    def __repr__(self) -> str:
        return f"FunctionFeedback({getattr(self.function, '__qualname__', type(self.function).__qualname__)})"

    def __call__(self, error: Tensor, widths: Sequence[int]) -> list[Tensor]:
        """Signals that the function returns."""
        return self.function(error, widths)


def as_feedback(feedback: Feedback | FeedbackFunction | None) -> Feedback | None:
    """Return `Feedback` and None unchanged, and a function as `FunctionFeedback`.

    Raises
    ------
    ValueError
        If it is neither of these.
    """
    if feedback is None or isinstance(feedback, Feedback):
        return feedback
    if not callable(feedback):
        raise ValueError(f"feedback must be Feedback, a function or None, got {type(feedback).__name__}")
    return FunctionFeedback(feedback)


def scale_of(feedback: Feedback | None, given: float | None) -> float:
    """Scale of the signals: the given one, or the default of the feedback."""
    if given is not None:
        return given
    return 1.0 if feedback is None else feedback.default_scale


class CodedFeedback(Feedback):
    """Feedback that encodes the error, and counts its steps so that a resumed run draws the same random numbers."""

    variant: ClassVar[str]
    default_scale: ClassVar[float] = 1.0 / math.sqrt(3.0)
    """B then has the variance of torch's initial weights, 1/(3 width)."""

    def __init__(self, encoder: Encoder | None) -> None:
        if encoder is not None and not callable(encoder):
            raise ValueError(f"encoder must be a function of the error, or None, got {encoder!r:.80}")
        self.encoder = encoder
        self.proportional = encoder is None or getattr(encoder, "proportional", False)
        self.shrinks = getattr(encoder, "shrinks", True)
        self.steps = 0
        """Number of calls so far."""
        self._code: Code | None = None
        self._others = 0, 0

    def __repr__(self) -> str:
        encoder = changed(self.encoder) if is_dataclass(self.encoder) else self._encoder_name
        return f"{type(self).__name__}({self._source()}, encoder={encoder}, steps={self.steps})"

    def _source(self) -> str:
        """Describe where the signals come from, in a few words."""
        return self.variant

    def __call__(self, error: Tensor, widths: Sequence[int]) -> list[Tensor]:
        """Teaching signals of the blocks: (rows, classes) -> one (rows, width) tensor for each width."""
        return self.signals(self.encode(error), widths, error.dtype)

    def encode(self, error: Tensor) -> Code:
        """Encode the error of this step."""
        return encode(self.encoder, error, self.steps)

    def frames_of(self, code: Tensor) -> int:
        """Frames that the device takes to show codes, (rows, classes); 0 without a device."""
        return 0

    def signals(
        self,
        code: Code,
        widths: Sequence[int],
        dtype: torch.dtype = torch.float32,
        others: tuple[int, int] = (0, 0),
    ) -> list[Tensor]:
        """Teaching signals of an encoded error; counts as a step.

        The error may have been encoded in another process. `others` are frames that the device takes before and after
        those of this code, for other rows of the same batch (replicas of `LayerParallel`).
        """
        self._others = others
        signals = self._signals(code, widths, dtype)
        self._code = code
        self.steps += 1
        return signals

    def skip(self, code: Code, others: tuple[int, int] = (0, 0)) -> None:
        """Count a step whose code teaches no block of this process."""
        self.steps += 1

    @abstractmethod
    def _signals(self, code: Code, widths: Sequence[int], dtype: torch.dtype) -> list[Tensor]:
        """Project a code. The result is new tensors without a graph, which the caller may change."""

    def statistics(self) -> dict[str, float]:
        """Figures of the last code, computed when requested; empty before the first step.

        ``rows`` of the error, the number of rows ``shown`` (the others have an empty code), and the share of
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

    def state_dict(self) -> State:
        """Kind of feedback, encoder and number of steps, in plain types."""
        return {"variant": self.variant, "steps": self.steps, "encoder": self._encoder_name}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state.

        Raises
        ------
        ValueError
            If the state belongs to another kind of feedback, or to feedback with another encoder.
        """
        if state.get("variant", self.variant) != self.variant:
            raise ValueError(f"state must be of {self.variant} feedback, got that of {state['variant']} feedback")
        if state.get("encoder", self._encoder_name) != self._encoder_name:
            raise ValueError(
                f"state must be of feedback with encoder {self._encoder_name}, got that of {state['encoder']}"
            )
        self.steps = int(state.get("steps", 0))

    @property
    def _encoder_name(self) -> str:
        if self.encoder is None or is_dataclass(self.encoder):
            return repr(self.encoder)
        return getattr(self.encoder, "__qualname__", type(self.encoder).__qualname__)

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Context whose calls leave the step count and the statistics unchanged."""
        kept = self.steps, self._code
        try:
            yield
        finally:
            self.steps, self._code = kept
