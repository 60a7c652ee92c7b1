"""Designs of +-1 patterns are the linear maps of their patterns."""

import numpy as np
import pytest

from calibration.recovery.interferometry import anchored_design


@pytest.mark.parametrize(("n", "anchors", "frames"), [(64, 5, 900), (9, 4, 200)])
def test_design_is_the_linear_map_of_its_patterns(n, anchors, frames):
    """`forward` and `adjoint` are products with the +-1 of the patterns and a 1; its condition number is theirs.

    Catches: a mask applied twice, + and - swapped, parts of the patterns that begin at the wrong frame.
    """
    design = anchored_design(n, anchors, frames, 3)
    patterns = design.patterns(0, design.frames)
    assert abs(design.frames - frames) <= 1
    matrix = np.concatenate([2.0 * patterns - 1.0, np.ones((len(patterns), 1))], axis=1)
    x, y = np.random.default_rng(0).normal(size=(n + 1, 6)), np.random.default_rng(1).normal(size=(design.frames, 6))
    np.testing.assert_allclose(design.forward(x.astype(np.float32)), matrix @ x, atol=1e-4)
    np.testing.assert_allclose(design.adjoint(y.astype(np.float32)), matrix.T @ y, atol=1e-3)
    assert design.condition_number == pytest.approx(np.linalg.cond(matrix), rel=1e-6)
    parts = [design.patterns(a, b) for a, b in ((0, 1), (1, 130), (130, 130), (130, design.frames))]
    np.testing.assert_array_equal(np.concatenate(parts), patterns)
