"""The error of a training run that cannot continue, and the check of a loss that raises it."""

import math

from torch import Tensor

__all__ = ["Diverged", "check_loss"]


class Diverged(ValueError):
    """Training cannot continue: the loss or a weight is NaN or infinite, or the feedback teaches nothing."""


def check_loss(loss: Tensor) -> None:
    """Raise a ``ValueError`` if the loss is not a scalar, and `Diverged` if it is not finite."""
    if loss.numel() != 1:
        raise ValueError(f"loss must be a scalar, got shape {tuple(loss.shape)}")
    if not math.isfinite(value := loss.item()):
        raise Diverged(f"loss must be finite, got {value}: training has diverged, lower the learning rate")
