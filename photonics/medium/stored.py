"""Media whose transmission matrix is held in memory."""

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photonics.medium.base import ScatteringMedium, adjoint_product, check_field, product

__all__ = ["StoredMedium"]


class StoredMedium(ScatteringMedium):
    """A medium that keeps T as float32, real and imaginary parts in alternate rows."""

    @property
    @abstractmethod
    def _rows(self) -> NDArray[np.float32]:
        """Interleaved real form of T, shape (2 n_out, n_in); see `photonics.medium.base.interleave`."""

    def propagate(self, field: NDArray[Any], ticks: Any = None) -> NDArray[np.complex64]:  # noqa: D102 (inherited)
        return product(check_field(field, self.shape[1], "field"), self._rows)

    def adjoint(self, field: NDArray[Any], ticks: Any = None) -> NDArray[np.complex64]:  # noqa: D102 (inherited)
        return adjoint_product(check_field(field, self.shape[0], "field"), self._rows)

    def block(self, rows: slice, cols: slice, tick: int = 0) -> NDArray[np.complex64]:  # noqa: D102 (inherited)
        parts = self._rows.reshape(-1, 2, self.shape[1])[rows, :, cols]
        return (parts[:, 0] + 1j * parts[:, 1]).astype(np.complex64, copy=False)
