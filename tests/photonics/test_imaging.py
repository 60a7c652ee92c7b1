"""From the field behind the medium to a photon rate on each pixel."""

import numpy as np

from photonics import GaussianMedium, Imaging


def test_intensity_is_throughput_times_field_squared(rng):
    """To float32, whatever the memory layout, field left alone. Catches: |E|, a conjugate product, in-place squares."""
    field = (rng.normal(size=(7, 90)) + 1j * rng.normal(size=(7, 90))).astype(np.complex64)
    before = field.copy()
    for view in (field, field[:, ::2], np.asfortranarray(field), field[2:3], field[:0]):
        rate = Imaging(throughput=3e-4).intensity(view)
        assert rate.dtype == np.float32
        assert rate.shape == view.shape
        np.testing.assert_allclose(rate, 3e-4 * np.abs(view.astype(np.complex128)) ** 2, rtol=1e-6)
    np.testing.assert_array_equal(field, before)


def test_photon_budget():
    """All ON, the mean pixel gets the throughput times the mean input, within 4 SE. Catches: a factor n_in."""
    n_out, throughput = 20_000, 1e-3
    light = np.linspace(1, 3, 64, dtype=np.float32)[None]
    rate = Imaging(throughput=throughput).intensity(GaussianMedium(64, n_out).propagate(light))
    expected = throughput * (light**2).mean()
    assert abs(rate.mean() / expected - 1) < 4 / np.sqrt(n_out)
