"""How an error becomes something that binary mirrors can show."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Ternary"]


@dataclass(frozen=True, kw_only=True)
class Ternary:
    """Ternarise the error: its sign where its magnitude exceeds a threshold, 0 elsewhere.

    The threshold does not follow the sample, so the code empties as the sample is learned and the feedback vanishes
    with the error: that, more than any noise, decides how well the network trains. An empty code is not shown.

    Parameters
    ----------
    threshold : float, optional
        Fixed threshold, in units of the error of one sample (softmax minus one-hot lies between -1 and 1).
    deviations : float, optional
        Threshold in standard deviations of the error over the batch. 1 if neither is given.

    Raises
    ------
    ValueError
        If both are given, or one is negative or not finite.
    """

    threshold: float | None = None
    deviations: float | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and self.deviations is not None:
            raise ValueError(
                f"threshold and deviations exclude each other, got threshold={self.threshold}, "
                f"deviations={self.deviations}"
            )
        if self.threshold is None and self.deviations is None:
            object.__setattr__(self, "deviations", 1.0)
        for name in ("threshold", "deviations"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be 0 or more and finite, got {value!r}")

    def __call__(self, error: Tensor) -> Tensor:
        """Codes -1, 0, 1 as int8 of the error's shape.

        Raises
        ------
        ValueError
            If the error is not finite.
        """
        if not torch.isfinite(error).all():
            raise ValueError("error must be finite, got NaN or infinity: training has diverged")
        threshold = self.threshold
        if threshold is None:
            threshold = self.deviations * error.std(correction=0)
        return (error.sign() * (error.abs() > threshold)).to(torch.int8)
