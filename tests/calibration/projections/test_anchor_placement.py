"""Places of anchors in the complex plane."""

import numpy as np

from calibration.projections.anchor_placement import anchor_sets, place


def test_a_row_without_light_has_finite_positions():
    """Rows of zeros among others have finite places. Catches: a singular normal matrix."""
    members = anchor_sets(4)
    intensity = np.random.default_rng(0).exponential(50.0, (6, len(members))).astype(np.float32)
    intensity[2] = 0.0
    found = place(intensity, np.ones_like(intensity), members, 0.05)
    assert np.isfinite(found.positions).all()
    np.testing.assert_allclose(found.positions[2], 0.0, atol=1e-6)
