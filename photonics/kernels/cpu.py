"""Loops over the laws of `photonics.kernels.laws`, compiled for the CPU; they release the interpreter's lock."""

import math

import numpy as np

from photonics.arrays import HostArray
from photonics.kernels.compiled import compiled, widen_vectors
from photonics.kernels.laws import (
    F32,
    RECIPROCAL,
    SHIFT,
    SWITCH,
    U32,
    exp_minus,
    larger,
    normal_pair,
    philox,
    poisson_large,
    poisson_small,
    round_even,
    smaller,
    uniform,
)
from photonics.kernels.vectors import LANES, WIDE, append_below

PIXELS = 4096
"""Pixels that the camera exposes at a time, so that their buffers stay in the cache."""
TERMS = 16
"""Terms of the inversion in float32; with a mean of 10, 5 % of the counts are larger."""
LEVELS = 50
"""Levels of the search of `ornstein_uhlenbeck`."""
RATIO = RECIPROCAL.astype(np.float32)
SURE = F32(2.0**-17)
"""Distance from every step of the distribution function from which on a count in float32 is right."""

jit = compiled(error_model="numpy")


@jit
def fill_words(index, tick, stream, k0, k1, out):
    """``out[i] = `` the four words of ``(index[i], tick[i])``."""
    for i in range(index.size):
        t = np.uint64(tick[i])
        w = philox(U32(index[i]), U32(t), U32(t >> SHIFT), U32(stream), U32(k0), U32(k1))
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = w


@jit
def fill_uniforms(index, tick, stream, k0, k1, out):
    """``out[i] = `` the uniform of the first word of ``(index[i], tick[i])``."""
    for i in range(index.size):
        t = np.uint64(tick[i])
        out[i] = uniform(philox(U32(index[i]), U32(t), U32(t >> SHIFT), U32(stream), U32(k0), U32(k1))[0])


@jit
def fill_normals(index, tick, stream, k0, k1, out):
    """``out[i] = `` the first normal of ``(index[i], tick[i])``."""
    for i in range(index.size):
        t = np.uint64(tick[i])
        w = philox(U32(index[i]), U32(t), U32(t >> SHIFT), U32(stream), U32(k0), U32(k1))
        out[i] = normal_pair(w[0], w[1])[0]


@jit
def find_dim(means, where):
    """``where[:dim] = `` the dim pixels (mean under `SWITCH`), int32, ascending; return their number `dim`."""
    dim, first = 0, 0
    if WIDE:
        first = means.size // LANES * LANES
        for p in range(0, first, LANES):
            dim = append_below(means, p, SWITCH, where, dim)  # pyright: ignore[reportCallIssue]
    for p in range(first, means.size):  # without a branch, which would be as likely as not
        where[dim] = p
        dim += 1 if means[p] < SWITCH else 0
    return dim


@jit
def redraw_dim(means, words, counts, where, mean, word, drawn):
    """Poisson counts of the dim pixels (mean under `SWITCH`) by inversion, in place of those in `counts`.

    The last four arguments are buffers of the same length. The counts equal those of
    `photonics.kernels.laws.poisson_small`, bit for bit, but most are found in float32, all dim pixels side by side.
    What is left of the uniform after each term has an error of 8e-7 there (at most 3e-6), so a count is right if none
    of these rests is closer to zero than `SURE`; otherwise it is drawn again in float64. The bounds of mean and term
    keep products out of the range of subnormal numbers, which are slow.
    """
    widen_vectors()
    dim = find_dim(means, where)
    for i in range(dim):
        mean[i], word[i] = means[where[i]], words[where[i]]
    for i in range(dim):
        m = larger(mean[i], F32(2.0**-40))
        term = exp_minus(m)
        rest = (F32(word[i]) + F32(0.5)) * F32(2.0**-32) - term
        nearest, count = abs(rest), F32(0.0)
        for k in range(1, TERMS):
            count += F32(1.0) if rest > F32(0.0) else F32(0.0)
            term = larger(term * (m * RATIO[k]), F32(2.0**-60))
            rest -= term
            nearest = smaller(nearest, abs(rest))
        drawn[i] = count if nearest > SURE and rest < F32(0.0) else F32(-1.0)
    for i in range(dim):
        counts[where[i]] = drawn[i] if drawn[i] >= F32(0.0) else poisson_small(mean[i], word[i])


def camera_buffers(pixels: int) -> tuple[HostArray, ...]:
    """Arrays in which `expose_rows` keeps a block of a frame of so many pixels."""
    block = max(min(PIXELS, pixels), 1)
    words, floats = (np.uint32,) * 3, (np.float32,) * 3
    kinds = *words, *floats, np.int32, np.float32, np.uint32, np.float32
    return tuple(np.empty(block, kind) for kind in kinds)


@jit
def expose_rows(
    photons, ticks, stream, k0, k1, places, response, offset_e, dark_e, read_e, well_e, gain, offset, top, buffers, out
):
    """The camera, from mean photons to digital numbers, for a block of frames.

    ``photons`` (frames, pixels); ``places`` (pixels,) uint32 are the numbers of the pixels on the chip, ``response``
    (pixels,) is QE * PRNU, ``offset_e`` (pixels,) the DSNU.
    The first passes use the Cornish-Fisher count everywhere and vectorise; then the dim pixels are drawn again, by
    inversion. Words and counts are two passes, since one loop of both is too long for a processor to start the next
    pixels meanwhile. Pixels go in blocks that stay in the cache. ``buffers`` are `camera_buffers`, since code that
    allocates takes long to compile.
    """
    widen_vectors()
    radial, angular, spare, means, noises, counts, where, mean, word, drawn = buffers
    block = means.size
    for f in range(photons.shape[0]):
        t = np.uint64(ticks[f])
        low, high = U32(t), U32(t >> SHIFT)
        for first in range(0, photons.shape[1], block):
            pixels = block if first + block < photons.shape[1] else photons.shape[1] - first
            light, rate = photons[f, first : first + pixels], response[first : first + pixels]
            place = places[first : first + pixels]
            fixed, frame = offset_e[first : first + pixels], out[f, first : first + pixels]
            for p in range(pixels):
                words = philox(place[p], low, high, U32(stream), U32(k0), U32(k1))
                radial[p], angular[p], spare[p] = words[0], words[1], words[2]
            for p in range(pixels):
                means[p] = light[p] * rate[p] + dark_e
                shot, read = normal_pair(radial[p], angular[p])
                noises[p] = read * read_e
                counts[p] = poisson_large(means[p], shot)
            redraw_dim(means[:pixels], spare, counts, where, mean, word, drawn)
            for p in range(pixels):
                e = smaller(counts[p] + noises[p] + fixed[p], well_e)
                dn = round_even(e * gain + offset)
                frame[p] = larger(smaller(dn, top), F32(0.0))


@jit
def finite_and_not_negative(values):
    """Whether no value of a flat float32 array is NaN, infinite or negative."""
    widen_vectors()
    sound = True
    for i in range(values.size):
        sound &= (values[i] >= F32(0.0)) & (values[i] < F32(math.inf))
    return sound


@jit
def half_difference(frames, sign, anchor, out):
    """``out[b] = sign (frames[b, 0] - frames[b, 1] + anchor) / 2``, float32; `sign` is 1 or -1.

    ``frames`` (batch, 2, pixels) are of any whole numbers, ``anchor`` has shape (pixels,).
    """
    widen_vectors()
    for b in range(out.shape[0]):
        first, second, row = frames[b, 0], frames[b, 1], out[b]
        for p in range(row.size):  # signs before the sum, so that a sum of 0 has the sign of the formula
            row[p] = (sign * F32(first[p]) - sign * F32(second[p]) + sign * anchor[p]) * F32(0.5)


@jit
def add_rows(values, terms, has, weights, sums):
    """``sums[b] += weights[terms[b]] values[terms[b]]`` where ``has[b]``, in float32.

    ``values`` (terms, parts), ``weights`` (terms,), ``terms`` and ``has`` (batch,), ``sums`` (batch, parts).
    """
    widen_vectors()
    for b in range(sums.shape[0]):
        if has[b]:
            weight, row, total = weights[terms[b]], values[terms[b]], sums[b]
            for p in range(total.size):
                total[p] += weight * row[p]


@jit
def square_modulus(parts, first, second, out):
    """``out[i] = (parts[2 i]^2 + parts[2 i + 1]^2) first second``, flat arrays and two float32 factors."""
    widen_vectors()
    for i in range(out.size):
        out[i] = (parts[2 * i] * parts[2 * i] + parts[2 * i + 1] * parts[2 * i + 1]) * first * second


@jit
def ornstein_uhlenbeck(ticks, stream, k0, k1, step, starts, lefts, rights, out):
    """Stationary unit-variance Ornstein-Uhlenbeck process at the given frame numbers.

    ``step`` is frame period / correlation time. The process is Markov, so its value between two known times depends on
    their two values alone. The search starts from two ends 2**48 frames apart. Each level halves the interval and draws
    the middle from its exact conditional law: with ``a = exp(-h)``, mean ``(left + right) a / (1 + a^2)``, variance
    ``(1 - a^2) / (1 + a^2)``. At most 48 draws reach any frame, in any order, with the exact correlation
    ``exp(-step |i - j|)``. The ends of each level are kept. A search resumes at the shortest of the intervals of the
    search before it that contains its frame, so consecutive frames take about two draws each. ``starts`` (int64),
    ``lefts`` and ``rights`` are buffers of `LEVELS` entries.
    """
    span = np.int64(1) << np.int64(48)
    w = philox(U32(0), U32(0), U32(0), U32(stream), U32(k0), U32(k1))
    left, end = normal_pair(w[0], w[1])
    far = math.exp(-step * span)
    starts[1], lefts[1], rights[1] = 0, left, far * left + math.sqrt(1.0 - far * far) * end
    level = 1
    for i in range(ticks.size):
        t = np.int64(ticks[i])
        while (t ^ starts[level]) >> np.int64(49 - level) != 0:
            level -= 1
        while t != starts[level]:
            half = span >> np.int64(level)
            middle_time = starts[level] + half
            w = philox(
                U32(level),
                U32(middle_time),
                U32(middle_time >> np.int64(32)),
                U32(stream),
                U32(k0),
                U32(k1),
            )
            a2 = math.exp(-2.0 * step * half)
            mean = (lefts[level] + rights[level]) * math.exp(-step * half) / (1.0 + a2)
            variance = -math.expm1(-2.0 * step * half) / (1.0 + a2)
            middle = mean + math.sqrt(variance) * normal_pair(w[0], w[1])[0]
            level += 1
            if t >= middle_time:
                starts[level], lefts[level], rights[level] = middle_time, middle, rights[level - 1]
            else:
                starts[level], lefts[level], rights[level] = starts[level - 1], lefts[level - 1], middle
        out[i] = lefts[level]


@jit
def code_moments(mean_e, normal, level, gain, real, imaginary, quiet, mean, variance):
    """`photonics.parts.rounding.code_moments` of flat arrays; ``real + i imaginary = exp(2 pi i k gain) - 1``."""
    electron = (2.0 * math.pi / gain) ** 2 / 2.0
    for i in range(mean.size):
        m, v, c = mean_e[i], normal[i], level[i]
        middle, noise = c + gain * m, gain * gain * m + v
        if noise < quiet * quiet:
            code, up, down = np.rint(middle), 0.0, 0.0
            if noise > 0.0:
                up = 0.5 * math.erfc((0.5 + (code - middle)) / math.sqrt(2.0 * noise))
                down = 0.5 * math.erfc((0.5 - (code - middle)) / math.sqrt(2.0 * noise))
            mean[i], variance[i] = code + up - down, up + down - (up - down) ** 2
            continue
        smooth = real.size * gain < 0.25 or v * electron > 10.0
        bias, square, product, sign = 0.0, 1.0 / 12.0, 0.0, 1.0
        for k in range(1, real.size + 1):
            a, sign = 2.0 * math.pi * k, -sign
            if smooth and noise * a * a > 50.0:
                break  # this term and all others are under 1e-11
            size = sign / (math.pi * k) * math.exp(m * real[k - 1] - v * a * a / 2.0)
            angle = m * imaginary[k - 1] + c * a
            sine, cosine = size * math.sin(angle), size * math.cos(angle)
            bias += sine
            square += cosine / (math.pi * k)
            product += sine * m * gain * real[k - 1] + cosine * (m * gain * imaginary[k - 1] + v * a)
        mean[i], variance[i] = middle + bias, max(noise + square - bias * bias + 2.0 * product, 0.0)
