"""Pixels that are blind, by the spread of their readings in a call."""

import numpy as np

from calibration.camera.call import blind_pixels


def test_a_dark_pixel_of_a_single_pattern_is_not_blind():
    """Fringes of one pattern have an exponential law over the pixels, those of many a narrow one.

    One of 500 pixels shows noise alone: it is blind only beside the narrow law. Catches: dark speckle of repeated
    patterns taken for a dead pixel.
    """
    share, noise, judged = (np.arange(500) + 0.5) / 500, np.full(500, 2.0), np.ones(500, np.bool_)
    single = -2e4 * np.log1p(-share)
    many = 2e4 * np.exp(0.2 * np.linspace(-3.0, 3.0, 500))
    for law, blind in ((single, False), (many, True)):
        variance = noise + law
        variance[7] = noise[7] * 1.1
        found = blind_pixels(variance, noise, 160, judged)
        assert found[7] == blind and found.sum() == blind
