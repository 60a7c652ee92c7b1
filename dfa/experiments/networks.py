"""The networks that can be trained: the data that each learns, its default settings and its score."""

from dataclasses import dataclass, field

from dfa.data import DATASETS, GRAPHS, TEXTS
from dfa.feedback.encoding import Ternary

__all__ = ["ACCURACY", "BITS", "NETWORKS", "Metric", "Network", "networks_for"]


@dataclass(frozen=True)
class Metric:
    """The score of a run."""

    name: str
    unit: str
    factor: float
    """Factor that converts a score to `unit`."""
    higher_is_better: bool


ACCURACY = Metric("test accuracy", "%", 100.0, True)
BITS = Metric("bits per character", "bits", 1.0, False)


@dataclass(frozen=True, kw_only=True)
class Network:
    """A kind of network; settings of None do not apply to it."""

    data: tuple[str, ...] = tuple(DATASETS)
    """Names of the data sets that it can learn."""
    metric: Metric = ACCURACY
    hidden: tuple[int, ...]
    learning_rate: float = 1e-3
    encoder: Ternary = field(default_factory=Ternary)
    hidden_rate: float = 1.0
    epochs: int | None = None
    steps: int | None = None
    batch_size: int | None = None


NETWORKS = {
    "mlp": Network(hidden=(1024, 1024), epochs=5, batch_size=128),
    "cnn": Network(hidden=(16, 32, 128), epochs=5, batch_size=128),
    "norm-cnn": Network(hidden=(32, 64, 128, 96), epochs=8, batch_size=64),
    "gcn": Network(
        data=tuple(GRAPHS), hidden=(16,), learning_rate=0.01, encoder=Ternary(threshold=0.2), epochs=250
    ),
    "transformer": Network(
        data=tuple(TEXTS), metric=BITS, hidden=(128, 128, 128, 128), learning_rate=3e-3,
        encoder=Ternary(stochastic=1.0, pairs=True), hidden_rate=0.1, steps=600, batch_size=32,
    ),
}  # fmt: skip
"""Networks by name. A plan takes the values that it does not set from here."""


def networks_for(data: str) -> list[str]:
    """Names of the networks that can learn a data set; the first one is its default.

    Raises
    ------
    ValueError
        If there is no such data set.
    """
    names = [name for name, network in NETWORKS.items() if data in network.data]
    if not names:
        known = dict.fromkeys(one for network in NETWORKS.values() for one in network.data)
        raise ValueError(f"data must be one of {', '.join(known)}, got {data!r}")
    return names
