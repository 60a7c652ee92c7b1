"""Phase screens on a GPU: the law of `photonics.kernels.screens` on cupy arrays.

With ``NUMBA_ENABLE_CUDASIM=1`` the same code runs on numpy arrays, without a GPU. Import it where it is needed: it
loads `numba.cuda`.
"""

# pyright: reportCallIssue=false, reportArgumentType=false, reportOptionalSubscript=false, reportOperatorIssue=false
# (numba's stubs lack the CUDA names)
import numba
import numpy as np
from numba import cuda
from numba.extending import overload

from photonics.arrays import Array
from photonics.kernels.cuda import THREADS, key_on_gpu, launch
from photonics.kernels.laws import F32, U32, bits, from_bits, inline, phasor, philox
from photonics.random import Stream

__all__ = ["screen_into"]

FOUR = 4
"""Modes of a Philox call."""
WORDS = FOUR * THREADS
LOW = np.int64(0xFFFFFFFF)


def real_parts(value):
    """Real and imaginary part of a float32 or a bool."""
    return F32(value), F32(0.0)


def complex_parts(value):
    """Real and imaginary part of a complex number given as an int64: one load instead of two."""
    return from_bits(np.int32(value & LOW)), from_bits(np.int32(value >> np.int64(32)))


def parts(value):
    """Real and imaginary part of a float32 or a bool, or of a complex number given as int64."""
    return complex_parts(value) if isinstance(value, np.int64) else real_parts(value)


@overload(parts, jit_options={"forceinline": True})
def compile_parts(value):
    """Compile `parts`, by the type of its argument."""
    return complex_parts if value == numba.types.int64 else real_parts


@inline
def join(real, imaginary):
    """Pack two float32 into an int64: one store instead of two."""
    return (np.int64(bits(F32(imaginary))) << np.int64(32)) | (np.int64(bits(F32(real))) & LOW)


@cuda.jit
def screen_kernel(source, modes, layer, stream, k0, k1, amplitude, sign, out, count):
    """``out = source * amplitude * exp(sign * i * phase)`` on the first `modes` modes of every frame, 0 up to `count`.

    `source` (frames, modes or more) has bools, float32, or complex numbers as int64. `out` has complex numbers as int64
    and may be `source`. Each thread of a block draws four words into shared memory, so that neighbouring threads
    multiply neighbouring modes.
    """
    words = cuda.shared.array(WORDS, np.uint32)
    t, threads = cuda.threadIdx.x, cuda.blockDim.x
    call = cuda.blockIdx.x * threads + t
    w0, w1, w2, w3 = philox(U32(call), U32(layer), U32(0), U32(stream), U32(k0), U32(k1))
    words[FOUR * t], words[FOUR * t + 1], words[FOUR * t + 2], words[FOUR * t + 3] = w0, w1, w2, w3
    cuda.syncthreads()
    cosines, sines = cuda.local.array(FOUR, np.float32), cuda.local.array(FOUR, np.float32)
    for k in range(FOUR):
        c, s = phasor(words[t + k * threads])
        cosines[k], sines[k] = c * amplitude, s * (amplitude * sign)
    first = FOUR * threads * cuda.blockIdx.x + t
    real, imaginary = cuda.local.array(FOUR, np.float32), cuda.local.array(FOUR, np.float32)
    for frame in range(out.shape[0]):
        for k in range(FOUR):  # all reads before all writes, so that four reads run at a time
            mode = first + k * threads
            real[k], imaginary[k] = F32(0.0), F32(0.0)
            if mode < modes:
                real[k], imaginary[k] = parts(source[frame, mode])
        for k in range(FOUR):
            mode = first + k * threads
            if mode < count:
                x, y, c, s = real[k], imaginary[k], cosines[k], sines[k]
                out[frame, mode] = join(x * c - y * s, x * s + y * c)


def screen_into(
    source: Array,
    out: Array,
    layer: int,
    key: tuple[int, int],
    conj: bool = False,
    amplitude: float = 1.0,
) -> None:
    """``out = source * amplitude * exp(i * phase)`` for each frame, 0 where there is no source.

    Parameters
    ----------
    source : cupy array of bool, float32 or complex64, shape (frames, modes)
        A numpy array under numba's CUDA simulator. Modes beyond the width of `out` are not used.
    out : cupy array of complex64, shape (frames, n_modes)
        May be `source`.
    layer : int
        Number of the screen.
    key : tuple of 2 int
        Philox key, as from `photonics.draws.key`.
    conj : bool
        Whether to take the conjugate screen.
    amplitude : float
        Common factor.
    """
    given, count = source.view(np.int64) if source.dtype.kind == "c" else source, int(out.shape[1])
    modes, factor, sign = min(int(source.shape[1]), count), np.float32(amplitude), np.float32(-1.0 if conj else 1.0)
    which = layer, *key_on_gpu((int(Stream.SCREEN), *key)), factor, sign
    launch(screen_kernel, -(-count // FOUR), 1 if len(out) else 0, given, modes, *which, out.view(np.int64), count)
