"""Common parts of the recovery methods without a reference beam."""

import math
from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from calibration.arrays import mean
from calibration.fields.misfit import MAX_MISFIT, common_misfit
from calibration.fields.readings import Bench, RawFrames
from calibration.recovery.base import FREE_GAUGE, Block, Gauge, RecoveryMethod, RowDiagnostics, Shots
from calibration.recovery.designs.signs import SignDesign
from calibration.recovery.likelihood import MAX_EXPECTED_ERROR, Fit, Pixels, check_light, fit_limit
from photonics.arrays import RealArray
from photonics.backend import backend_of, to_host

__all__ = ["NoReferenceMethod", "build_block"]


class NoReferenceMethod(RecoveryMethod[None]):
    """A method that shows the patterns of a `SignDesign` and computes the most likely matrix from their frames."""

    @property
    @abstractmethod
    def design(self) -> SignDesign:
        """The patterns."""

    @property
    def frames(self) -> int:  # noqa: D102
        return self.design.frames

    @property
    def condition_number(self) -> float:  # noqa: D102
        return self.design.condition_number

    @property
    def gauge(self) -> Gauge:  # noqa: D102
        return FREE_GAUGE

    def shots(self, start: int, stop: int) -> Shots:  # noqa: D102
        patterns = self.design.patterns(start, stop)
        return Shots(np.pad(patterns, ((0, 0), (0, self.n_in - patterns.shape[1]))))

    def prepare(self, raw: RawFrames, bench: Bench) -> None:
        """Raise a ``ValueError`` if the frames are too dark or too often saturated."""
        check_light(self.design, raw, bench)


@np.errstate(invalid="ignore")  # rows whose fit diverged
def build_block(
    design: SignDesign,
    fit: Fit,
    pixels: Pixels,
    bench: Bench,
    *,
    n_inputs: int | None = None,
    max_misfit: float = MAX_MISFIT,
    max_error: float = MAX_EXPECTED_ERROR,
    rank_ratio: RealArray | None = None,
) -> Block:
    """Rows of the matrix in the unit of T from a fit.

    A row is valid if the fit is good, at most half of its readings are saturated and its relative error is at most
    `max_error`: in the noise of dimmer rows, wrong minima fit the frames as well as the right one. The gauge of a row
    is chosen so that the mean of the fields of all ON and all OFF is real and positive, and the first entry has no
    negative imaginary part. Where the misfit exceeds 1 (drift, faults), the stated error grows (`misfit_factor`).

    Parameters
    ----------
    n_inputs : int, optional
        Number of the design's inputs that belong to the matrix, the first ones; by default all.
    max_misfit : float
        Misfit above which a row is not valid, and no row of the block if it is the median.
    max_error : float
        Largest relative error of a valid row.
    rank_ratio : ndarray, shape (n_rows,), optional
        See `RowDiagnostics`.
    """
    xp = backend_of(fit.unknowns).xp
    middle = fit.unknowns[-1, :]
    size = xp.abs(middle)
    phase = xp.conj(middle) / xp.maximum(size, xp.full_like(size, 1e-30))
    entries = fit.unknowns[: design.n_inputs if n_inputs is None else n_inputs, :]
    matrix = (entries * phase).T * (2.0 / math.sqrt(bench.unit_dn))
    matrix = xp.where(xp.imag(matrix[:, :1]) < 0, xp.conj(matrix), matrix)
    length = to_host(xp.mean(xp.abs(matrix) ** 2, axis=1))
    sizes = np.array([len(group) for group in design.groups])
    squared = (fit.variance @ sizes) / sizes.sum() * 4.0 / bench.unit_dn * misfit_factor(design, fit.misfit)
    squared = np.where(squared >= 0, squared, np.inf)  # rows without information
    saturated = to_host(mean(pixels.signal >= pixels.ceiling, axis=0))
    valid = (fit.misfit < fit_limit(fit.misfit, design.frames)) & (fit.misfit < max_misfit)
    valid &= (saturated < 0.5) & (common_misfit(fit.misfit) < max_misfit)
    valid &= squared < max_error**2 * (length - squared)
    error = np.where(valid, np.sqrt(squared + length * bench.scale_error**2), np.inf).astype(np.float32)
    return Block(matrix, error, valid, RowDiagnostics(misfit=fit.misfit.astype(np.float32), rank_ratio=rank_ratio))


def misfit_factor(design: SignDesign, misfit: RealArray) -> NDArray[np.float64]:
    """Factor on the squared error of each row of a block, (n_rows,), by its misfit.

    Residuals of chance average out over the frames, and those of a fault do not. A fault is common to the rows, so the
    common misfit counts as often as there are frames for each unknown.
    """
    excess = common_misfit(misfit) - 1.0
    per_unknown = design.frames / (2.0 * (design.n_inputs + 1))
    return np.maximum(misfit, 1.0) + excess * max(per_unknown - 1.0, 0.0)
