"""Linearity of a bench with a reference beam: whether the beam changes the reading of the speckle."""

import math
import warnings

import numpy as np

from calibration.fields.sideband import Sideband
from photonics.arrays import BoolArray, ComplexArray, FloatArray

__all__ = ["bend_of", "overtone_bend"]

MIN_BEND = 0.01
"""Smallest change of the speckle's reading by the beam that is told."""
MIN_OVERTONE = 0.02
"""Smallest relative error of fields that is told from the second harmonic of fringes; sound benches show 0.012."""
MAX_OVERTONE_FRAMES = 16
"""Largest number of frames whose second harmonic is looked at."""


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


def overtone_bend(
    images: FloatArray,
    fields: ComplexArray,
    variance: FloatArray,
    lost: BoolArray,
    reference_dn: FloatArray,
    sideband: Sideband,
    known: float = 0.0,
) -> float:
    """Relative error of fields by a response that is not linear, from the fields' own frames; 0 if none is seen.

    A camera that reads ``I - k I^2`` writes the square of the fringes, ``-2 k Re(ramp^2 G^2)``, into a frame. A linear
    one does not, whatever the field. The relative error of the field is ``2 k (|R|^2 + 2 |y|^2)``. A warning
    is given if it is significant.

    Parameters
    ----------
    images : ndarray, shape (batch, n_out)
        Frames less that of the beam alone.
    fields : ndarray, shape (batch, n_out)
        ``conj(R) y``, as `Sideband.demodulate` returns it.
    variance : ndarray, shape (batch, n_out)
        Variance of the frames' noise.
    lost : ndarray, shape (batch, n_out)
        Lost pixels.
    reference_dn : ndarray, shape (n_out,)
        Intensity of the beam alone.
    sideband : Sideband
        The fringes.
    known : float
        Relative error that the calibration found, which is not told again.
    """
    some = np.unique(np.linspace(0, len(images) - 1, MAX_OVERTONE_FRAMES).astype(int))
    images, fields, variance = images[some], fields[some], variance[some]
    kept = ~lost[some] & (reference_dn > 0.0)
    power = np.where(kept, np.abs(fields) ** 2 / np.maximum(reference_dn, np.float32(1e-3)), np.float32(0.0))
    rest = np.where(kept, sideband.subtract_fringes(images, lost[some]), np.float32(0.0))
    # The field's own intensity is not part of the harmonic, but lost pixels would make it look so.
    share = (rest * power).sum(axis=1) / np.maximum((power**2).sum(axis=1), 1e-9)
    rest = rest - share[:, None] * power
    overtone = np.where(kept, sideband.overtone(fields), np.float32(0.0))
    size = float((overtone**2).sum())
    if size <= 0.0:
        return 0.0
    light = 2.0 * float(reference_dn[kept.any(axis=0)].mean() + 2.0 * power.sum() / kept.sum())
    found = -light * float((rest * overtone).sum()) / size
    error = light * math.sqrt(float((variance * overtone**2).sum())) / size
    if abs(found) < max(MIN_OVERTONE, 5.0 * error, 1.5 * known):
        return 0.0
    warnings.warn(
        f"frames do not fit the model: the second harmonic of their fringes shows a camera that is not linear, which "
        f"changes fields by {-found:.1%} (noise: {error:.1%}); the stated error contains it",
        stacklevel=5,
    )
    return abs(found)
