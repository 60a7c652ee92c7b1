"""Two hidden devices, recorded as benches and fitted once for all tests of this folder."""

import pytest

from benchmarks.twin_devices import Bench, hidden
from calibration import fit_device, record_bench

DEVICES = {5: "12 bits, a pupil", 4: "8 bits, two polarisations"}
PIXELS = {5: 400, 4: 144}


@pytest.fixture(scope="session")
def recordings(tmp_path_factory):
    """Device, recording and twin by the seed of the device; 32 inputs."""
    found, folder = {}, tmp_path_factory.mktemp("twin")
    for seed in DEVICES:
        device = hidden(seed, n_in=32, pixels=PIXELS[seed], flawed=False)
        path = record_bench(Bench(device), folder / f"{seed}.h5", seed=seed)
        found[seed] = device, path, fit_device(path)
    return found
