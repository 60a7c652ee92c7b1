"""Random phase screens, drawn when they are applied: the law, and its loops for the CPU.

Mode m of the screen of a layer takes word ``m % 4`` of the Philox call ``(m // 4, layer, 0, stream)``: one call gives
four neighbouring modes their phases. Words are drawn in short blocks, so that both loops vectorise and everything but
the field stays in the first-level cache.
"""

import numpy as np

from photonics.kernels.compiled import compiled, widen_vectors
from photonics.kernels.laws import U32, inline, phasor, philox

BLOCK = 64
"""Philox calls in a block: words and phasors take 3 KB."""

jit = compiled(error_model="numpy")


@inline
def fill_phasors(first_call, layer, stream, k0, k1, amplitude, sign, words, cosines, sines):
    """Phasors of consecutive calls, four from each, times `amplitude`; conjugate if `sign` is -1."""
    for i in range(words.size // 4):
        w0, w1, w2, w3 = philox(U32(first_call + i), U32(layer), U32(0), U32(stream), U32(k0), U32(k1))
        words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3] = w0, w1, w2, w3
    # A separate loop: combined with the stores of complex numbers it would not vectorise (20x slower).
    for m in range(words.size):
        c, s = phasor(words[m])
        cosines[m] = c * amplitude
        sines[m] = s * (amplitude * sign)


@jit
def screen(field, modes, layer, stream, k0, k1, amplitude, sign):
    """``field *= amplitude * exp(sign * i * phase)`` for each frame, in place.

    Parameters
    ----------
    field : ndarray of complex64, shape (frames, modes or more)
        Fields on the screen.
    modes : int
        Number of modes to multiply; the others are unchanged.
    layer, stream : int
        Number of the screen, and stream of the generator.
    k0, k1 : int
        Philox key.
    amplitude, sign : float32
        Common factor, and 1 or -1: the screen or its conjugate.
    """
    widen_vectors()
    words = np.empty(4 * BLOCK, np.uint32)
    cosines, sines = np.empty(4 * BLOCK, np.float32), np.empty(4 * BLOCK, np.float32)
    for start in range(0, modes, 4 * BLOCK):
        stop = min(start + 4 * BLOCK, modes)
        used = (stop - start + 3) & ~3
        fill_phasors(start >> 2, layer, stream, k0, k1, amplitude, sign, words[:used], cosines, sines)
        for f in range(field.shape[0]):
            turned = field[f, start:stop]
            for m in range(turned.size):
                x, y = turned[m].real, turned[m].imag
                turned[m] = complex(x * cosines[m] - y * sines[m], x * sines[m] + y * cosines[m])


@jit
def screen_into(source, modes, layer, stream, k0, k1, amplitude, sign, out):
    """``out = source * amplitude * exp(sign * i * phase)``; `source` is real or complex, the rest as for `screen`."""
    widen_vectors()
    words = np.empty(4 * BLOCK, np.uint32)
    cosines, sines = np.empty(4 * BLOCK, np.float32), np.empty(4 * BLOCK, np.float32)
    for start in range(0, modes, 4 * BLOCK):
        stop = min(start + 4 * BLOCK, modes)
        used = (stop - start + 3) & ~3
        fill_phasors(start >> 2, layer, stream, k0, k1, amplitude, sign, words[:used], cosines, sines)
        for f in range(out.shape[0]):
            given, turned = source[f, start:stop], out[f, start:stop]
            for m in range(turned.size):
                x, y = given[m].real, given[m].imag
                turned[m] = complex(x * cosines[m] - y * sines[m], x * sines[m] + y * cosines[m])
