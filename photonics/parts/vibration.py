"""Vibration of a mount: one line of a spectrum, a sine in time."""

import math

import numpy as np
from numpy.typing import NDArray

from photonics import draws
from photonics.arrays import IntArray
from photonics.component import number
from photonics.random import Stream

__all__ = ["ARM", "POINTING", "vibration"]

POINTING, ARM = (0, 1), 2
"""Indices in `Stream.VIBRATION`: the two axes of the beam, and the reference arm."""


def vibration(ticks: IntArray, hz: float, frame_period_s: float, seed: int, index: int) -> NDArray[np.float64]:
    """``sqrt(2) sin(2 pi (hz t + u))`` in each frame, of rms 1, shape (batch,).

    The time is that of the frame's number, ``t = frame_period_s tick``; the start u, uniform from 0 to 1, belongs to
    `seed` and `index`. A frame shows the value at its time: the mean over an exposure t_e is smaller by a factor of
    ``sinc(hz t_e)``, about ``1 - (pi hz t_e)^2 / 6``, which is not modelled. The line has no width.

    Raises
    ------
    ValueError
        If the frame period is not above 0.
    """
    if not 0 < number(frame_period_s) < math.inf:
        raise ValueError(f"frame_period_s must be above 0 for a vibration, got {frame_period_s!r}")
    start = draws.uniforms(seed, Stream.VIBRATION, index)[0]
    turns = np.modf(hz * frame_period_s * ticks.astype(np.float64))[0]
    return math.sqrt(2.0) * np.sin(2.0 * math.pi * (turns + start))
