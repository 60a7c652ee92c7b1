"""Share of rows whose anchors are too dark or too similar."""

import math

import numpy as np
import pytest

from calibration.projections.dark_rows import flat_anchor_share


@pytest.mark.parametrize("anchors", [3, 4, 5, 8])
def test_expected_share_of_anchors_on_a_line(anchors, rng):
    """Of 250 000 draws, within four standard errors; for three anchors it is ``1 - exp(-3 limit)``.

    Catches: the law of a complex Wishart matrix in place of the real one.
    """
    share, draws = flat_anchor_share(anchors, 0.05), 250_000
    real, imag = rng.normal(size=(2, draws, anchors)) / np.sqrt(2.0)
    power, square = (real**2 + imag**2).sum(axis=1), np.abs(((real + 1j * imag) ** 2).sum(axis=1))
    found = np.mean((power - square) / 2.0 < 0.05 * anchors / 2.0)
    assert abs(found - share) < 4.0 * np.sqrt(share / draws)
    if anchors == 3:
        assert share == pytest.approx(1.0 - math.exp(-0.15), rel=1e-3)
