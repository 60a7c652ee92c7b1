"""Patterns of any kind as a design: random masks, several exposures, a reference beam at known phases."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from calibration.recovery.designs.signs import Probes, SignDesign
from photonics.arrays import ComplexArray, HostArray, RealArray
from photonics.backend import HOST

__all__ = ["DenseDesign"]

FRAMES = 512
"""Frames of a part, whose fields stay in the processor's cache."""
ROUNDS = 12
"""Fixed-point iterations of `DenseDesign.expected_variance`."""


@dataclass(frozen=True, eq=False, repr=False)
class DensePart(Probes):
    """Some frames: `rows` has a column for each unknown but the beam, of any real entries."""

    beam: ComplexArray | None = None
    """Factor of the reference in each frame, complex, 0 where its shutter is closed; None without a reference."""

    @property
    def count(self) -> int:
        """Number of frames."""
        return len(self.rows)

    def forward(self, unknowns: RealArray, out: RealArray) -> None:
        """Write the fields of these frames to `out`: (n, 2 m) -> (1, count, 1, 2 m), real parts first."""
        fields = out[0, :, 0]
        if self.beam is None:
            np.matmul(self.rows, unknowns, out=fields)
            return
        np.matmul(self.rows, unknowns[:-1], out=fields)
        half = fields.shape[1] // 2
        real, imag = self.beam.real[:, None], self.beam.imag[:, None]
        fields[:, :half] += real * unknowns[-1, :half] - imag * unknowns[-1, half:]
        fields[:, half:] += imag * unknowns[-1, :half] + real * unknowns[-1, half:]

    def add_adjoint(self, fields: RealArray, unknowns: RealArray) -> None:
        """Add the transpose of `forward` to `unknowns`."""
        values = fields[0, :, 0]
        if self.beam is None:
            unknowns += self.rows.T @ values
            return
        unknowns[:-1] += self.rows.T @ values
        half = values.shape[1] // 2
        real, imag = self.beam.real, self.beam.imag
        unknowns[-1, :half] += real @ values[:, :half] + imag @ values[:, half:]
        unknowns[-1, half:] += real @ values[:, half:] - imag @ values[:, :half]


class DenseDesign(SignDesign):
    """Frames whose fields are ``A u + b R``, with A real and known, and b the factor of a reference beam R if any.

    Parameters
    ----------
    rows : ndarray of float32, shape (frames, n)
        A, times the root of the relative exposure.
    beam : ndarray of complex64, shape (frames,), optional
        b, times the same root.
    wanted : int
        Number of the first unknowns whose error is asked for.
    """

    def __init__(self, rows: RealArray, beam: ComplexArray | None, wanted: int) -> None:
        self.backend, self._origin = HOST, None
        self.rows, self.beam, self.wanted = np.ascontiguousarray(rows, np.float32), beam, wanted
        self.frames = len(rows)
        self.n_inputs = rows.shape[1] - (beam is None)  # the unknowns but the last one
        self.groups = (np.arange(wanted),)
        every, one = np.arange(rows.shape[1]), np.ones(rows.shape[1], np.float32)
        self.probes = tuple(
            DensePart(
                self.rows[start : start + FRAMES], every, one, one[None],
                beam=None if beam is None else beam[start : start + FRAMES].astype(np.complex64),
            )
            for start in range(0, len(rows), FRAMES)
        )  # fmt: skip

    def prefix(self, frames: int) -> SignDesign:
        """Return the design itself."""
        return self

    def parts(self, values: HostArray) -> Iterator[tuple[Probes, HostArray]]:
        """Yield each part with its share of a (frames, ...) array, as a view (1, count, 1, ...)."""
        first = 0
        for part in self.probes:
            yield part, values[first : first + part.count].reshape(1, part.count, 1, *values.shape[1:])
            first += part.count

    @cached_property
    def gram(self) -> NDArray[np.float64]:
        """``A^T A / frames``, and that of the beam, on which the others depend through its phases alone."""
        own = self.rows.astype(np.float64)
        gram = own.T @ own / self.frames
        if self.beam is None:
            return gram
        full = np.zeros((len(gram) + 1, len(gram) + 1))
        full[:-1, :-1], full[-1, -1] = gram, float(np.mean(np.abs(self.beam) ** 2))
        return full

    def expected_variance(
        self, gain: float, real: RealArray, imag: RealArray, weight: RealArray
    ) -> NDArray[np.float64]:
        """Expected ``E|error|^2`` of the wanted unknowns, mean over them, (m, 1).

        In the limit of many random patterns the covariance C of an unknown, in the unit of ``(A^T A / frames)^-1``,
        solves ``C^-1 = sum_k q_k q_k^T / (1 + n / frames q_k^T C q_k)`` for the 2 x 2 informations ``q_k q_k^T = 4 w y
        y^T / K`` of the frames, as in the law of Marchenko and Pastur.
        """
        scale = np.sqrt(np.maximum(weight, 0.0) * (4.0 / gain))
        q = np.stack([scale * real, scale * imag], axis=-1).astype(np.float64)  # (frames, m, 2)
        share = (self.n_inputs + 1) / self.frames
        least = 1e-9 * np.maximum((q**2).sum(axis=(0, 2)), 1e-30)[:, None, None] * np.eye(2)
        c = np.linalg.inv(np.einsum("kmi,kmj->mij", q, q) + least)
        for _ in range(ROUNDS):
            load = 1.0 + share * self.frames * np.einsum("kmi,mij,kmj->km", q, c, q)
            c = np.linalg.inv(np.einsum("kmi,kmj,km->mij", q, q, 1.0 / load) + least)
        size = float(np.diag(self.inverse)[: self.wanted].mean())
        return (np.trace(c, axis1=1, axis2=2) * size)[:, None]
