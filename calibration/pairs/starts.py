"""First guesses of a row's fields from the frames of any patterns."""

import numpy as np
from numpy.typing import NDArray

from calibration.pairs.columns import Columns
from photonics import draws
from photonics.arrays import ComplexArray, HostArray, RealArray
from photonics.random import PatternSet, Stream

__all__ = ["reference_starts", "spectral_start"]

POWER_STEPS = 40
"""Power iterations of `spectral_start`."""
MIN_BACKGROUND = 0.02
"""Lower bound of the mean pattern's intensity over the mean intensity."""


def spectral_start(columns: Columns, light: RealArray, seed: int, rows: NDArray[np.intp], number: int) -> ComplexArray:
    """Start without a reference, (n + 1, n_rows) or (n, n_rows) without an offset: real parts, then a power iteration.

    With c the field of the mean pattern, real, and ``z = s u`` for the signs s, ``I = c^2 + 2 c Re z + |z|^2``. Least
    squares on s give ``c Re u`` (exactly if each pattern has its complement), and dark mirrors ``c^2``, the sum of
    ``center c Re u``. If other inputs are always ON, c^2 is that with which real and imaginary part of z have the same
    power. The rest, ``(Im z)^2``, is real phase retrieval as in `calibration.recovery.phase_retrieval.PhaseRetrieval`.

    Parameters
    ----------
    light : ndarray, shape (frames, n_rows)
        DN above dark at one exposure.
    rows : ndarray of int, shape (n_rows,)
        Numbers of the rows in the whole matrix.
    number : int
        Number of the start; each begins at another vector.
    """
    signs, count = columns.signs, len(columns.signs)
    inverse, mean = columns.inverse.astype(np.float32), np.maximum(light.mean(axis=0), np.float32(1e-3))
    real = inverse @ (signs.T @ (light - light.mean(axis=0))) / np.float32(2 * count)
    squared = columns.center @ real
    if columns.background:  # c^2 + 2 <(c Re z)^2> / c^2 is the mean light
        square = mean**2 - 8.0 * ((signs @ real) ** 2).mean(axis=0)
        squared = (mean + np.sqrt(np.maximum(square, 0.0))) / np.float32(2.0)
    squared = np.maximum(squared, MIN_BACKGROUND * mean)
    real /= np.sqrt(squared)
    along = signs @ real
    power = light - squared - 2.0 * np.sqrt(squared) * along - along**2
    level = np.maximum(power.mean(axis=0), 1e-3 * mean)
    relative = np.maximum(power / level, 0.0)
    weight = (relative - 1.0) / (relative + np.float32(np.sqrt(max(count / signs.shape[1], 1.01)) - 1.0))
    index, tick = np.arange(signs.shape[1])[:, None], PatternSet.START_VECTOR + number * 2**32 + rows
    vector: RealArray = draws.normals(seed, Stream.PROBES, index, tick).reshape(signs.shape[1], -1)
    for _ in range(POWER_STEPS + 20 * number):
        vector = inverse @ (signs.T @ (weight * (signs @ vector))) / np.float32(count) + np.float32(0.5) * vector
        vector /= np.maximum(np.linalg.norm(vector, axis=0), 1e-30)
    vector *= np.sqrt(level / np.maximum(((signs @ vector) ** 2).mean(axis=0), 1e-30))
    fields = real + 1j * vector
    return with_offset(columns, fields, np.sqrt(squared)).astype(np.complex64)


def with_offset(columns: Columns, fields: HostArray, middle: HostArray) -> HostArray:
    """Append the field of the mean pattern if it is an unknown."""
    return np.concatenate([fields, middle[None]]) if columns.has_offset else fields


def reference_starts(
    columns: Columns, light: RealArray, phase: RealArray, group: NDArray[np.intp]
) -> list[ComplexArray]:
    """Two starts from frames with the reference at known phases, the beam last: (n + 2, n_rows) each.

    ``I = |y|^2 + |R|^2 + 2 Re(conj(R) exp(-i phi) y)``. The last term is linear in ``conj(R) u``; the others are the
    same in all frames of a pattern, whose mean is subtracted. Two values of ``|R|^2`` explain the mean, of which
    shorter residuals choose.

    Raises
    ------
    ValueError
        If phases and patterns do not determine the fields.
    """
    a = np.concatenate([columns.signs, np.ones_like(columns.signs[:, :1])], axis=1) if columns.has_offset else None
    a = columns.signs + columns.center if a is None else a
    waves = np.concatenate([a * np.cos(phase)[:, None], a * np.sin(phase)[:, None]], axis=1) * np.float32(2.0)
    members = np.bincount(group)
    alone = members[group] == 1
    label = np.where(alone, 0, group + 1)

    def center(values: RealArray) -> RealArray:
        sums = np.zeros((label.max() + 1, values.shape[1]))
        np.add.at(sums, label, values)
        count = np.maximum(np.bincount(label, minlength=len(sums)), 1)
        return (values - (sums / count[:, None])[label]).astype(np.float32)

    known, _, rank, _ = np.linalg.lstsq(center(waves), center(light), rcond=1e-5)
    if rank < waves.shape[1]:
        raise ValueError(
            "reference_phase must take 3 or more values with the same patterns, or the reference be tilted "
            f"(imaging.reference.angle_x_rad), got frames that determine {rank} of {waves.shape[1]} numbers of a row"
        )
    half = len(known) // 2
    products = known[:half] + 1j * known[half:]
    level = np.maximum((light - waves @ known).mean(axis=0), 1e-3)
    both = (np.abs(a @ products) ** 2).mean(axis=0)  # |R|^2 times the mean of |y|^2
    root = np.sqrt(np.maximum(level**2 - 4.0 * both, 0.0))
    starts = []
    for sign in (1.0, -1.0):
        beam = np.sqrt(np.maximum((level + sign * root) / 2.0, 1e-3 * level))
        starts.append(np.concatenate([products / beam, beam[None]]).astype(np.complex64))
    return starts
