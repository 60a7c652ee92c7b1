"""The judged twin: what it reproduces, and what it does not."""

from dataclasses import replace

import numpy as np

from benchmarks.twin_devices import Bench, hidden
from calibration import check_twin, fit_device, record_bench
from calibration.camera.estimate import Estimate
from calibration.twin.check import compare_line


def test_a_twin_is_told_from_another_bench(tmp_path):
    """A twin reproduces its bench; one with three times the read noise and a fifth of the leakage does not.

    Catches: z values that are always small, frames that were not asked of the twin, a verdict that names nothing.
    """
    path = record_bench(Bench(hidden(4, n_in=16, pixels=144)), tmp_path / "bench.h5", reference=False)
    twin = fit_device(path)
    right = check_twin(twin, path, runs=3)
    assert not right.missed, str(right)
    factors = {"camera.read_noise_e": 3.0, "leakage": 0.2}
    wrong = replace(
        twin,
        parameters=tuple(
            replace(p, estimate=Estimate(p.estimate.value * factors.get(p.name, 1.0), p.estimate.error))
            for p in twin.parameters
        ),
    )
    found = check_twin(wrong, path, runs=3)
    assert {*factors, "dark variance, DN^2"} <= set(found.missed)
    assert "Not reproduced: " in str(found)
    assert "differs" in found.html()


def test_z_is_that_of_a_normal_variable():
    """Runs and bench from one law, 3 to 8 runs. Catches: a spread without that of the mean, few runs taken as many."""
    random = np.random.default_rng(3)
    z = [compare_line("", "", random.normal(), random.normal(size=n)).z for n in (3, 5, 8) for _ in range(700)]
    assert abs(np.std(z) - 1.0) < 3.0 / np.sqrt(2 * len(z))
