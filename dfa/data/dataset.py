"""Labelled samples in three parts."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Dataset", "split_training"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Features (n, d) float32 and labels (n,) int64, in three parts without common samples."""

    name: str
    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    classes: int
    colours: int = 1
    """Channels of an image, whose pixels lie one channel after the other; 1 for grey images and other features."""

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {len(getattr(self, name)[1])}" for name in ("train", "validation", "test"))
        return f"Dataset({self.name}: {counts}; {self.features} features, {self.classes} classes)"

    @property
    def features(self) -> int:
        """Number of features of a sample."""
        return self.train[0].shape[1]


def split_training(
    name: str, images: Sequence[Tensor], labels: Sequence[Tensor], validation: int, classes: int, colours: int = 1
) -> Dataset:
    """Return a data set of training and test samples; the last `validation` training samples are for validation."""
    (x, x_test), (y, y_test) = images, labels
    if not 0 <= validation < len(x):
        raise ValueError(f"validation must be 0 to {len(x) - 1}, got {validation}")
    split = len(x) - validation
    return Dataset(name, (x[:split], y[:split]), (x[split:], y[split:]), (x_test, y_test), classes, colours)
