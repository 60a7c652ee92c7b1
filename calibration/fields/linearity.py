"""Linearity of a bench with a reference beam: whether the beam changes the reading of the speckle."""

import math
import warnings

import numpy as np

from photonics.arrays import FloatArray

__all__ = ["bend_of"]

MIN_BEND = 0.01
"""Smallest change of the speckle's reading by the beam that is told."""


def bend_of(
    rest: FloatArray, speckle: FloatArray, reference_dn: FloatArray, drift_rms: float, stacklevel: int = 2
) -> float:
    """Relative change of the speckle's reading when the beam is added: 0 for a linear camera, within its error.

    A linear camera leaves no rest of frames of both, less those of each alone and the fringes. The rest is fitted by
    the beam and the speckle. If the camera reads ``I - k I^2``, the coefficient of the speckle is ``-2 k |R|^2``, the
    relative error of the field is as large, and a warning is given.

    Parameters
    ----------
    rest : ndarray, shape (probes, n_out)
        The rest, DN; 0 on lost pixels.
    speckle : ndarray, shape (probes, n_out)
        Frames without the beam, less the dark level; 0 on lost pixels.
    reference_dn : ndarray, shape (n_out,)
        Intensity of the beam alone.
    drift_rms : float
        Relative rms drift of the laser's power between the frames.
    stacklevel : int
        Number of calls from here to the line that the warning names.
    """
    lit = np.where(speckle != 0, reference_dn, np.float32(0.0))
    aa, ab, bb = (lit**2).sum(axis=1), (speckle * lit).sum(axis=1), (speckle**2).sum(axis=1)
    found = aa * (rest * speckle).sum(axis=1) - ab * (rest * lit).sum(axis=1)
    found /= np.maximum(aa * bb - ab**2, 1e-9 * aa * bb + 1e-9)
    error = math.hypot(float(found.std()) / math.sqrt(len(found) - 1), drift_rms)
    bend = abs(float(found.mean()))
    if bend < max(MIN_BEND, 4.0 * error):
        return 0.0
    warnings.warn(
        f"frames do not fit the model: the beam changes the reading of the speckle by {found.mean():.1%} (noise and "
        f"drift: {error:.1%}); the stated error contains it. The camera may not be linear, or frames lost or doubled",
        stacklevel=stacklevel + 1,
    )
    return bend
