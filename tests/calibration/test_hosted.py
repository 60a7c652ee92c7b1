"""A device on a GPU gives the same calibration results as on the host."""

import numpy as np
import pytest

from calibration import Hosted
from calibration.device import check_device
from photonics.backend import HOST, to_host
from tests.calibration.benches import METHODS, bench, calibrate


def pair(name, backend):
    """The same device on the host and on another backend."""
    here, there = bench("lab_bench", name), bench("lab_bench", name)
    there.backend = backend
    return here, Hosted(there)


@pytest.mark.parametrize("name", METHODS)
def test_projections_are_the_hosts(name, device, rng):
    """Values, noise, clock and exposure equal those on the host, up to pixels that rounding moves by one DN.

    Catches: patterns that are not sent, the phase of the reference lost on the way, frames that stay.
    """
    here, there = pair(name, device)
    ours, theirs = calibrate(there, name), calibrate(here, name)
    x = rng.choice([-1, 0, 1], (4, ours.n_inputs))
    found, expected = ours.measure(x), theirs.measure(x)
    assert isinstance(found.values, np.ndarray)
    size = np.sqrt(np.mean(np.abs(expected.values) ** 2))
    apart = np.abs(found.values - expected.values)
    assert np.mean(apart > 1e-3 * size) <= 0.02
    assert apart.max() <= size
    assert np.mean(found.saturated != expected.saturated) <= 1e-3
    assert there.clock.frames == here.clock.frames > 0
    there.exposure_s *= 0.5
    assert there.exposure_s == there.device.exposure_s == 0.5 * here.exposure_s


def test_frames_are_the_hosts(device, half_on):
    """Patterns that are lists or 0 and 1, dark frames, the device itself untouched. Catches: a moved device."""
    here, there = pair("4 steps", device)
    x = half_on(3, here.n_in)
    for a, b in [
        (there.measure(x.astype(int).tolist(), reference_phase=0.3), here.measure(x, reference_phase=0.3)),
        (there.measure(x, 2e-4), here.measure(x, 2e-4)),
        (there.dark(2), here.dark(2)),
    ]:
        assert type(a) is np.ndarray
        assert np.abs(a.astype(int) - b).sum() <= 2e-3 * b.size
    assert there.device.backend == device
    assert not isinstance(there.device.measure(device.asarray(x)), np.ndarray)
    with pytest.raises(ValueError, match=r"^patterns must be binary"):
        there.measure(2 * x.astype(int))


def test_a_device_on_the_host_is_passed_on_to(half_on):
    """Bit for bit. Catches: a second copy of the device."""
    here, there = pair("4 steps", HOST)
    x = half_on(3, here.n_in)
    np.testing.assert_array_equal(there.measure(x), to_host(here.measure(x)))
    assert check_device(there) is there
    assert there.to_dict() == here.to_dict()
