"""The most likely sequence of patterns behind a sequence of frames, by dynamic programming over offsets."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from photonics.arrays import BoolArray

__all__ = ["CHANGE", "LATE", "Path", "align", "change_probability"]

CHANGE = 14.0
"""Gain in log-likelihood that one change of the offset must bring, nats; `sqrt(2)` times as much from two on."""
LATE = 14.0
"""Gain that one late frame must bring, nats."""

Gains = NDArray[np.float64]


class Path(NamedTuple):
    """An offset for each frame, and the late frames."""

    state: NDArray[np.intp]
    """Index of the offset: (n_frames,)."""
    late: BoolArray
    """Frames that show the pattern before as well: (n_frames,)."""

    @property
    def changes(self) -> int:
        """Number of changes of the offset."""
        return int(np.count_nonzero(np.diff(self.state)))

    def score(self, one: Gains, two: Gains) -> float:
        """Gain of all frames less the cost of changes and late frames, nats."""
        at, states = (np.arange(len(one)), self.state), one.shape[1]
        moves = cost_of_change(states)[self.state[:-1], self.state[1:]].sum()
        return float(np.maximum(one, two - LATE)[at].sum() - moves - cost_of_start(states)[self.state[0]])


def cost_of_change(states: int) -> Gains:
    """Cost of a change from one offset to another, nats: (states, states)."""
    away = np.abs(np.arange(states)[:, None] - np.arange(states)[None, :])
    return CHANGE * np.sqrt(np.minimum(away, 2))


def cost_of_start(states: int) -> Gains:
    """Cost of an offset in the first frame, nats; none for that in the middle: (states,)."""
    return CHANGE * np.minimum(np.abs(np.arange(states) - states // 2), 1)


def align(one: Gains, two: Gains) -> Path:
    """Find the best sequence of offsets (Viterbi, IEEE Trans. Inf. Theory 13, 260, 1967).

    Parameters
    ----------
    one, two : ndarray, shape (n_frames, states)
        Gain of each frame with the pattern at each offset; and with that pattern and the one before it.
    """
    count, states = one.shape
    best, cost = np.maximum(one, two - LATE), cost_of_change(states)
    value, back = best[0] - cost_of_start(states), np.zeros((count, states), np.intp)
    rows = np.arange(states)
    for k in range(1, count):
        total = value[None, :] - cost
        back[k] = total.argmax(axis=1)
        value = total[rows, back[k]] + best[k]
    state = np.zeros(count, np.intp)
    state[-1] = value.argmax()
    for k in range(count - 1, 0, -1):
        state[k - 1] = back[k, state[k]]
    at = np.arange(count), state
    return Path(state, two[at] - LATE > one[at])


def change_probability(one: Gains, two: Gains, path: Path) -> NDArray[np.float64]:
    """Probability of each step of a path, by the forward-backward algorithm: (n_frames,).

    Entry k is the probability that frames k - 1 and k have the offsets of the path, and that frame k is late or not
    as in the path. (Rabiner, Proc. IEEE 77, 257, 1989.)
    """
    count, states = one.shape
    emission = np.logaddexp(one, two - LATE)
    move = np.exp(-cost_of_change(states))
    top = emission.max(axis=1, keepdims=True)
    likely = np.exp(emission - top)
    forward, backward = np.empty((count, states)), np.ones((count, states))
    forward[0] = likely[0] * np.exp(-cost_of_start(states))
    forward[0] /= forward[0].sum()
    for k in range(1, count):
        forward[k] = (forward[k - 1] @ move) * likely[k]
        forward[k] /= forward[k].sum()
    for k in range(count - 2, -1, -1):
        backward[k] = move @ (likely[k + 1] * backward[k + 1])
        backward[k] /= backward[k].sum()
    state, before = path.state, np.roll(path.state, 1)
    at = np.arange(count)
    joint = np.roll(forward, 1, axis=0)[at, before] * move[before, state] * (likely * backward)[at, state]
    joint[1:] /= np.einsum("ki,ij,kj->k", forward[:-1], move, likely[1:] * backward[1:])
    first = forward[0] * backward[0]
    joint[0] = first[state[0]] / first.sum()
    of_path = np.where(path.late, two[at, state] - LATE, one[at, state]) - emission[at, state]
    return joint * np.exp(of_path)
