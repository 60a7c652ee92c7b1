"""Phase screens on a GPU: the law of `photonics.kernels.screens`, in place on cupy's arrays.

With ``NUMBA_ENABLE_CUDASIM=1`` the same code runs on numpy's arrays, without a GPU. Import it where it is needed: it
loads `numba.cuda`.
"""

# pyright: reportCallIssue=false
# (its stubs know cuda.grid as a class)
from typing import Any

import numpy as np
from numba import cuda

from photonics.kernels.cuda import launch
from photonics.kernels.laws import U32, inlined, phasor, philox
from photonics.random import Stream

__all__ = ["screen_fields"]


@inlined
def turn(pairs, modes, mode, word, amplitude, sign):
    """Turn one mode of every frame, if there is such a mode."""
    if mode < modes:
        c, s = phasor(word)
        c, s = c * amplitude, s * (amplitude * sign)
        for frame in range(pairs.shape[0]):
            x, y = pairs[frame, 2 * mode], pairs[frame, 2 * mode + 1]
            pairs[frame, 2 * mode] = x * c - y * s
            pairs[frame, 2 * mode + 1] = x * s + y * c


@cuda.jit
def screen_kernel(pairs, modes, layer, stream, k0, k1, amplitude, sign):
    """``field *= amplitude * exp(sign * i * phase)``: a thread turns the four neighbouring modes of a call.

    `pairs` are the fields as (frames, 2 * modes or more) float32.
    """
    call = cuda.grid(1)
    mode = 4 * call
    if mode < modes:
        w0, w1, w2, w3 = philox(U32(call), U32(layer), U32(0), U32(stream), U32(k0), U32(k1))
        turn(pairs, modes, mode, w0, amplitude, sign)
        turn(pairs, modes, mode + 1, w1, amplitude, sign)
        turn(pairs, modes, mode + 2, w2, amplitude, sign)
        turn(pairs, modes, mode + 3, w3, amplitude, sign)


def screen_fields(
    field: Any,
    layer: int,
    key: tuple[np.uint32, np.uint32],
    conj: bool = False,
    amplitude: float = 1.0,
    modes: int | None = None,
) -> None:
    """``field *= amplitude * exp(i * phase)`` in place, for each frame.

    Parameters
    ----------
    field : cupy array of complex64, shape (frames, n_modes), C-contiguous
        A numpy array under numba's CUDA simulator.
    layer : int
        Which screen.
    key : tuple of 2 uint32
        Philox key, as from `photonics.draw.key`.
    conj : bool
        Whether to take the conjugate screen.
    amplitude : float
        Common factor.
    modes : int, optional
        How many modes to turn, the others being left as they are; all if not given.
    """
    turned = int(field.shape[1] if modes is None else modes)
    factor, sign = np.float32(amplitude), np.float32(-1.0 if conj else 1.0)
    pairs = field.view(np.float32)
    launch(screen_kernel, -(-turned // 4), pairs, turned, layer, int(Stream.SCREEN), *key, factor, sign)
