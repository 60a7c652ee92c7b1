"""Fields with one unsaturated reading, or none: they lie on a circle, and the stated variance is right."""

import numpy as np

from calibration.camera.noise import NoiseModel
from calibration.fields.saturated import Prior, estimate_on_circle

TOP = 255.0
NOISE = NoiseModel(0.2, 0.025, 10.0)


def drawn(steps, count, seed=0):
    """Speckle fields with exactly one unsaturated reading, and their readings."""
    rng = np.random.default_rng(seed)
    spread = 60.0
    y = (rng.normal(size=count) + 1j * rng.normal(size=count)) * np.sqrt(spread / 2.0) + (2.0 - 1.0j)
    beams = 7.0 * np.exp(2j * np.pi * np.arange(steps) / steps)[:, None] * np.ones(count)
    light = np.abs(y + beams) ** 2 + NOISE.dark_dn
    seen = np.minimum(np.rint(light + rng.normal(size=light.shape) * np.sqrt(NOISE.variance(light))), TOP)
    kept = (seen < TOP).sum(axis=0) == 1
    prior = Prior(np.full(kept.sum(), 2.0 - 1.0j, np.complex64), np.full(kept.sum(), spread, np.float32))
    return y[kept], seen[:, kept].astype(np.float32), beams[:, kept].astype(np.complex64), prior


def test_a_field_without_a_reading_is_on_the_side_of_the_prior():
    """Error over stated one, rms, is at most 1.1 with and without a prior direction, and the mean has that direction.

    Catches: a climb from 0 in any direction (error 4 times the stated one where the mean of a pixel is bright).
    """
    rng, count = np.random.default_rng(0), 200_000
    for mean, spread, least in ((12.0 + 3.0j, 13.0, 0.4), (0.0j, 90.0, 0.8)):
        y = (rng.normal(size=count) + 1j * rng.normal(size=count)) * np.sqrt(spread / 2.0) + mean
        beams = 2.4 * np.exp(2j * np.pi * np.arange(8) / 8)[:, None].astype(np.complex64) * np.ones(count, np.float32)
        y = y[(np.abs(y + beams) ** 2 + NOISE.dark_dn > TOP).all(axis=0)]
        assert len(y) > 20
        beams, readings = beams[:, : len(y)], np.full((8, len(y)), TOP, np.float32)
        prior = Prior(np.full(len(y), mean, np.complex64), np.full(len(y), spread, np.float32))
        values, variance = estimate_on_circle(readings, beams, prior, NOISE, TOP)
        ratio = np.sqrt(np.mean(np.abs(values - y) ** 2) / variance.mean())
        assert least < ratio < 1.1
        assert mean == 0 or abs(np.angle(values.mean() / mean)) < 0.05


def test_the_stated_variance_is_that_of_the_error():
    """Mean squared error over stated variance is 1 within four standard errors, and no bias is left within four.

    Catches: the saturated readings or the prior left out (0.4 and 1.6), a weight of points by their distance.
    """
    for steps in (3, 4):
        y, readings, beams, prior = drawn(steps, 100_000)
        assert len(y) > 300
        values, variance = estimate_on_circle(readings, beams, prior, NOISE, TOP)
        error = values - y
        ratio = np.abs(error) ** 2 / variance.mean()
        assert abs(ratio.mean() - 1.0) < 4.0 * ratio.std() / np.sqrt(len(y))
        for part in (error.real, error.imag):
            assert abs(part.mean()) < 4.0 * part.std() / np.sqrt(len(y))
        loose, _ = estimate_on_circle(readings, beams, prior._replace(spread=prior.spread * 1e6), NOISE, TOP)
        assert np.mean(np.abs(error) ** 2) < np.mean(np.abs(loose - y) ** 2)
