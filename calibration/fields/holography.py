"""Interference terms from frames: intensities are quadratic in the field, interference terms are linear in it.

Model of a frame: ``I(x) = |T x + c|^2 + dark``, where x is the binary pattern and c a fixed background field (the light
that OFF mirrors leak). Differences of frames cancel the dark level, and the formulas below are *exactly* linear in x
for any background.
"""

import numpy as np
from numpy.typing import NDArray

from calibration.arrays import as_complex, difference
from photonics import kernels
from photonics.arrays import Array
from photonics.backend import backend_of

__all__ = [
    "anchor_interference",
    "disjoint_anchor",
    "fringe_basis",
    "step_phases",
    "stepped_interference",
    "superset_anchor",
]


def disjoint_anchor(both: Array, alone: Array, anchor: Array) -> Array:
    """Interference of a pattern x with an anchor b on other mirrors, ``Re(conj(T b) T x)``.

    It is ``(I(x + b) - I(x) - [I(b) - I(0)]) / 2``. The terms ``2 Re(conj(c) T b)`` of a background c, in both
    differences, cancel.

    Parameters
    ----------
    both, alone : ndarray, shape (batch, n_out)
        Array of ``x + b`` and of ``x``.
    anchor : ndarray, shape (n_out,)
        ``I(b) - I(0)``: frame of the anchor minus that of all mirrors OFF.

    References
    ----------
    R. Ohana et al., arXiv:2305.12988 (linear projections by anchors).
    """
    found = difference(both, alone)
    found -= anchor
    found /= 2.0
    return found


def superset_anchor(pattern: Array, rest: Array, anchor: Array) -> Array:
    """Interference of a pattern x with an anchor a that contains it, ``Re(conj(T a + 2 c) T x)``.

    It is ``(I(x) - I(a - x) + [I(a) - I(0)]) / 2``. A background c is added twice to the anchor, and the map stays
    linear. If c is the leakage of equally lit mirrors, ``c = eps T 1`` with eps real, only the map's scale changes, by
    ``sqrt(1 - eps^2)`` after division by the root of the measured anchor.

    Parameters
    ----------
    pattern, rest : ndarray, shape (batch, n_out)
        Array of ``x`` and of ``a - x``.
    anchor : ndarray, shape (n_out,)
        ``I(a) - I(0)``: frame of the anchor minus that of all mirrors OFF.
    """
    found = difference(pattern, rest)
    found += anchor
    found /= 2.0
    return found


def anchor_interference(frames: Array, anchor: Array, contained: bool) -> Array:
    """Interference with a single anchor, from the two frames of each pattern; on the host in one pass.

    Parameters
    ----------
    frames : ndarray, shape (batch, 2, n_out)
        Each pattern alone, then the exclusive or of pattern and anchor.
    anchor : ndarray, shape (n_out,)
        Frame of the anchor minus that of all mirrors OFF.
    contained : bool
        Whether the anchor contains the patterns (`superset_anchor`) or lies on other mirrors (`disjoint_anchor`).
    """
    in_memory = isinstance(frames, np.ndarray) and frames.flags.c_contiguous and anchor.dtype == np.float32
    if not (in_memory and frames.dtype in (np.uint8, np.uint16)):
        alone, other = frames[:, 0, :], frames[:, 1, :]
        return superset_anchor(alone, other, anchor) if contained else disjoint_anchor(other, alone, anchor)
    found = np.empty((frames.shape[0], frames.shape[2]), np.float32)
    kernels.cpu.half_difference(frames, np.float32(1.0 if contained else -1.0), anchor, found)
    return found


def step_phases(steps: int) -> NDArray[np.float64]:
    """Phases of the reference beam in equal steps over a full turn, ``2 pi k / steps``, radians.

    Examples
    --------
    >>> step_phases(4) / np.pi
    array([0. , 0.5, 1. , 1.5])
    """
    return 2.0 * np.pi * np.arange(steps) / steps


def fringe_basis(phases_rad: NDArray[np.floating]) -> NDArray[np.floating]:
    """Factors of a, Re z and Im z in readings ``I_k = a + 2 Re(z exp(-i phase_k))``: (..., P) -> (..., P, 3)."""
    return np.stack([np.ones_like(phases_rad), 2.0 * np.cos(phases_rad), 2.0 * np.sin(phases_rad)], axis=-1)


def stepped_interference(frames: Array, phases_rad: NDArray[np.float64]) -> Array:
    """Interference of a field y with a reference beam R, ``conj(R) y``, from equal phase steps over a full turn.

    It is ``P^-1 sum_k I_k exp(i phi_k)`` with ``I_k = |y + R exp(i phi_k)|^2`` and P >= 3 steps. Terms that do not
    depend on the phase (``|y|^2``, ``|R|^2``, the dark level) cancel.

    Parameters
    ----------
    frames : ndarray, shape (batch, P, n_out)
        A frame at each phase.
    phases_rad : ndarray, shape (P,)
        The phases, as `step_phases` gives them.

    Returns
    -------
    array of complex64, shape (batch, n_out)

    References
    ----------
    I. Yamaguchi and T. Zhang, Opt. Lett. 22, 1268 (1997).
    """
    weights = np.exp(1j * phases_rad) / len(phases_rad)
    backend, shape = backend_of(frames), (frames.shape[0], frames.shape[2])
    real, imaginary = backend.zeros(shape, "float32"), backend.zeros(shape, "float32")
    for step, weight in enumerate(weights):
        # Real and imaginary parts are added one by one: a product with a complex number would copy the frame first.
        seen = backend.xp.astype(frames[:, step, :], backend.xp.float32)
        real += seen * float(weight.real)
        imaginary += seen * float(weight.imag)
    return as_complex(real, imaginary)
