"""Speckle with straight light: its contrast, and the correlation time of the medium from looks at one pattern."""

import numpy as np
import pytest

from calibration import fit_device, record_bench
from calibration.twin.looks import Looks, best_time
from calibration.twin.speckle import half_on_covariance
from photonics import presets
from photonics.medium import Ballistic


def test_straight_light_does_not_shorten_the_correlation_time():
    """Fields that decorrelate in 1.4e5 frames, with straight light on half of the pixels: time to 5 %, contrast to 3.

    One standard error is 1.5 % of the time and 1 % of the contrast (20 000 pixels, one series).

    Catches: twice the product of straight light and speckle, without the straight light that stays: 9 % too short a
    time at a ratio of 0.19; the contrast of all inputs ON, 0.75 at a ratio of 1, where it is 1.
    """
    random, time, pixels = np.random.default_rng(3), 1.4e5, 20_000
    looks = object.__new__(Looks)
    looks.times = np.concatenate([[0.0], np.geomspace(10.0, 2.5e6, 40)])
    for ratio, fields in ((0.0, 1), (0.19, 1), (1.0, 1), (1.0, 2)):
        scale = 0.5 / np.sqrt(fields)  # half ON: a mean intensity of 1/2
        field = scale * random.normal(size=(2 * fields, pixels))
        straight, means = np.sqrt(ratio / fields) * (np.arange(pixels) % 2), []
        for kept in np.exp(-np.diff(looks.times, prepend=0.0) / time):
            field = kept * field + np.sqrt(1.0 - kept**2) * scale * random.normal(size=(2 * fields, pixels))
            means.append(((field[:fields] + straight) ** 2 + field[fields:] ** 2).sum(axis=0))
        looks.means, looks.variance = np.array(means, np.float32), np.zeros((len(means), pixels), np.float32)
        assert np.exp(best_time(looks, np.arange(pixels), ratio, fields)[0]) == pytest.approx(time, rel=0.05)
        contrast = np.std(means[0]) / np.mean(means[0])
        assert float(half_on_covariance(1.0, ratio, fields)) ** 0.5 == pytest.approx(contrast, rel=0.03)


def test_much_straight_light_is_no_pupil(tmp_path):
    """Neighbouring pixels onto which one input is imaged, with twice as much straight light as speckle.

    Catches: a numerical aperture, and neither straight light nor the number of polarisations.
    """
    bench = presets.lab_bench(n_in=32, n_out=400, seed=9).replace(**{"camera.bit_depth": 12})
    bench = bench.replace(medium=Ballistic(bench.medium, 2.0))
    bench.autoexpose(0.5)
    twin = fit_device(record_bench(bench, tmp_path / "bench.h5", reference=False))
    found = twin["medium.ratio"].estimate
    assert abs(found.value - 2.0) < 4.0 * found.error
    assert twin["imaging.polarisations"].estimate.value == 1 and not twin["imaging.numerical_aperture"].known
