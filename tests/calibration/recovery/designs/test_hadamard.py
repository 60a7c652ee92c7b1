"""Hadamard matrices are orthogonal and of small order."""

import numpy as np
import pytest

from calibration.recovery.designs.hadamard import hadamard


@pytest.mark.parametrize("least", [1, 2, 13, 33, 60, 500])
def test_rows_are_orthogonal(least):
    """``H H^T = N``, entries +-1, N at most 25 % beyond. Catches: residues of a composite q, a sign of the border."""
    h = hadamard(least)
    np.testing.assert_array_equal(np.abs(h), 1.0)
    np.testing.assert_array_equal(h @ h.T, len(h) * np.eye(len(h)))
    assert least <= len(h) <= max(1.25 * least, 4)
