"""The judged twin: what it reproduces, and what it does not."""

import json
from dataclasses import replace

import numpy as np
import pytest

from calibration import Recording, check_twin, fit_device
from calibration.camera.estimate import Estimate
from calibration.twin.check import compare_line
from calibration.twin.evidence import read_evidence
from tests.command import opu


@pytest.fixture(scope="module")
def short(recordings, tmp_path_factory):
    """Some frames of a recording, so that a run of the twin takes a quarter of a second."""
    path = recordings[4][1]
    seen = read_evidence(path)
    wanted = ~seen.laser_on | (seen.plain & ((seen.on == 0) | (seen.on == seen.n_in)))
    wanted[np.concatenate([*seen.bursts()[:18], seen.pairs()[:200], seen.pairs()[:200] + 1])] = True
    record = Recording.from_arrays(
        seen.patterns[wanted],
        seen.frames[wanted],
        seen.exposure_s[wanted],
        device=Recording(path).device,
        reference_phase=seen.phase[wanted],
        laser_on=seen.laser_on[wanted],
        frame_number=seen.number[wanted],
    )
    return record.save(tmp_path_factory.mktemp("short") / "bench.h5")


def test_a_twin_is_told_from_another_bench(capfd, short):
    """A twin reproduces its bench; one with three times the read noise and a fifth of the leakage does not.

    Catches: z values that are always small, frames that were not asked of the twin, a verdict that names nothing, a
    command that compares nothing.
    """
    twin = fit_device(short)
    assert opu("twin", "--recorded", short, "--check", "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert found["missed"] == []
    assert [line["group"] for line in found["check"]].count("pixels") == 1
    assert {"camera.read_noise_e", "leakage", "dark variance, DN^2"} <= {line["name"] for line in found["check"]}
    factors = {"camera.read_noise_e": 3.0, "leakage": 0.2}
    wrong = replace(
        twin,
        parameters=tuple(
            replace(p, estimate=Estimate(p.estimate.value * factors.get(p.name, 1.0), p.estimate.error))
            for p in twin.parameters
        ),
    )
    found = check_twin(wrong, short, runs=3)
    assert {*factors, "dark variance, DN^2"} <= set(found.missed)
    assert "Not reproduced: " in str(found)
    assert "differs" in found.html()


def test_z_is_that_of_a_normal_variable():
    """Runs and bench from one law, 3 to 8 runs. Catches: a spread without that of the mean, few runs taken as many."""
    random = np.random.default_rng(3)
    z = [compare_line("", "", random.normal(), random.normal(size=n)).z for n in (3, 5, 8) for _ in range(700)]
    assert abs(np.std(z) - 1.0) < 3.0 / np.sqrt(2 * len(z))
