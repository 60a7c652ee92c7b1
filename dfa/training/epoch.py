"""The record of a training run at one evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["FEEDBACK", "Epoch"]

FEEDBACK = ("nonzero", "shown", "saturated", "snr_db", "correlation_frames", "correlation", "hidden_rate")
"""Fields of an `Epoch` that describe the feedback."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """A training run at one evaluation: after an epoch, or for text after a number of steps.

    Gradients and figures of the feedback are means over the watched steps since the last record: the first step of a
    run, every 20th step and the last step before the record. They are None or empty without diagnostics. For
    graphs they are also None or empty in the epochs between two records.
    """

    epoch: int
    """Epochs so far, from 1. An epoch of a graph is one step. Text has no epochs: this is then equal to `step`."""
    step: int
    """Steps of the optimiser so far."""
    loss: float
    """Training loss since the last evaluation, mean over the samples, nats."""
    validation: float
    """Score on the validation part: share of samples classified correctly, or bits per character. NaN if empty."""
    test: float
    """Score on the test part. Text has one held-out part, so that `validation` and `test` are equal."""
    frames: int
    """Frames that the device has taken so far, calibration included."""
    seconds: float = field(compare=False)
    """Wall time of the steps since the last evaluation. It is the only field that differs if a run is repeated."""
    angles: Mapping[str, float] = field(default_factory=dict)
    """Angle between the update of each block and the true gradient, degrees, on the same samples each time."""
    gradients: Mapping[str, float] = field(default_factory=dict)
    """Norm of the gradient of each block, as the optimiser receives it (after clipping)."""
    nonzero: float | None = None
    """Share of the codes that are not zero, over all rows of the error."""
    shown: float | None = None
    """Share of the rows whose code is not empty. Only these rows are sent."""
    saturated: float | None = None
    """Share of the feedback's values that are wrong because of a saturated pixel."""
    snr_db: float | None = None
    """Power of the optical feedback over the expected variance of its noise, dB, mean of the decibels. On a device that
    moves, the share of the power that is stale since the last calibration counts as noise."""
    correlation_frames: float | None = None
    """Correlation time of the medium's field, frames, as the frames of the run show it; None if nothing moves."""
    correlation: float | None = None
    """Correlation of the optical feedback with that of the last calibration; None if nothing moves."""
    hidden_rate: float | None = None
    """Factor on the learning rate of the hidden blocks; None if nothing moves."""

    def row(self) -> dict[str, float | None]:
        """All figures as one flat row, except wall time, so that a resumed run writes the same row as an unbroken run.

        The angles and gradients of a block are named ``angle/<block>`` and ``gradient/<block>``.
        """
        named = {"angle": self.angles, "gradient": self.gradients}
        flat = {f"{kind}/{block}": value for kind, values in named.items() for block, value in values.items()}
        first = ("epoch", "step", "loss", "validation", "test", "frames")
        return {name: getattr(self, name) for name in (*first, *FEEDBACK)} | flat
