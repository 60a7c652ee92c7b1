"""The sideband of a frame is cut out exactly, also with lost pixels."""

import math

import numpy as np
import pytest

from calibration.fields.sideband import Sideband, disc, pixel_transfer
from calibration.fields.sideband_place import find_sideband


def test_a_sideband_is_cut_exactly():
    """A band-limited field on a carrier that does not fit the sensor, with its own intensity: back to 2e-5 everywhere.

    And to 1e-4 with the 30 brightest of its 2000 pixels lost. Catches: the plain cut (0.3 at the edges); the pixel's
    width forgotten; parts fitted by turns (6e-5, and 1.3e-3 around the lost pixels).
    """
    rng = np.random.default_rng(0)
    shape, center, band, samples = (40, 50), (-0.262, -0.27), 0.08, 2
    spectrum = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) * disc(shape, (0.0, 0.0), band)
    field = np.fft.ifft2(spectrum)
    field /= np.sqrt(np.mean(np.abs(field) ** 2))
    x, y = np.fft.fftfreq(shape[1])[None, :] + center[0], np.fft.fftfreq(shape[0])[:, None] + center[1]
    seen = np.fft.ifft2(np.fft.fft2(field) * pixel_transfer(x, samples) * pixel_transfer(y, samples))
    column, row = np.arange(shape[1])[None, :], np.arange(shape[0])[:, None]
    ramp = np.exp(2j * np.pi * (center[0] * column + center[1] * row))
    frame = (np.abs(field) ** 2 + 2.0 * np.real(ramp * seen)).astype(np.float32)
    power = np.abs(np.fft.fft2(frame - frame.mean())) ** 2 * (1 - disc(shape, (0.0, 0.0), 2.2 * band))
    found = find_sideband(power, band, (-0.25, -0.25))
    assert np.abs(np.subtract(found, center)).max() < 0.6 / 40
    sideband = Sideband.at(shape, center, 0.09, band, samples)
    got = sideband.demodulate(frame.reshape(1, -1)).reshape(shape)
    assert np.abs(got - field).max() < 2e-5 * np.abs(field).max()
    lost = frame >= np.sort(frame, axis=None)[-30]
    spoilt = np.where(lost, frame.min(), frame).reshape(1, -1)
    got = sideband.demodulate(spoilt, lost.reshape(1, -1)).reshape(shape)
    assert np.abs(got - field).max() < 1e-4 * np.abs(field).max()
    # The variance that it foretells is what white noise leaves.
    noise = rng.normal(size=(200, math.prod(shape))).astype(np.float32)
    left = sideband.demodulate(noise)
    told = sideband.variance(np.ones((1, math.prod(shape)), np.float32))
    assert left.real.var() == pytest.approx(told.mean(), rel=0.03)
    assert left.imag.var() == pytest.approx(told.mean(), rel=0.03)
