"""The judged twin: what it reproduces, and what it does not."""

import json
from dataclasses import replace

import numpy as np
import pytest

from calibration import Recording, check_twin, fit_device
from calibration.camera.estimate import Estimate
from calibration.twin.check import answer, compare_line, draw_twin, statistics
from calibration.twin.evidence import read_evidence
from calibration.twin.pixels import CURVE, two_exposures
from calibration.twin.sensor import read_sensor
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


LINES = {
    "row": ("variance that the pixels of a row share, DN^2, or 0", {"camera.row_noise_e": 4.0}),
    "column": ("variance that the pixels of a column share, DN^2, or 0", {"camera.column_noise_e": 4.0}),
    "hot": (
        "largest growth of a dark level over that of a hot pixel, or 1",
        {"camera.hot_pixels": 0.02, "camera.hot_current_e_per_s": 3e4},
    ),
    "curve": ("curve of the level against exposure, 1/DN", {CURVE: -3e-5}),
}
"""Line of the check, and the flaw."""


@pytest.fixture(scope="module")
def sound(recordings):
    """Requests of a part of a recording, the twin without a flaw, and statistics of its draws."""
    seen, twin = read_evidence(recordings[5][1]), recordings[5][2]
    pairs = seen.pairs()[:80]
    asked = np.concatenate([*(i for two in two_exposures(seen) for i in two), *seen.bursts()[:6], pairs, pairs + 1])
    asked = seen.take(np.union1d(asked, np.flatnonzero(~seen.laser_on)))
    return asked, twin, draws(twin, asked, 0, 6)


def draws(twin, asked, first, count):
    """Statistics of draws of a twin."""
    found = [answer(draw_twin(twin, k).build(k, same=False), asked) for k in range(first, first + count)]
    return [statistics(one, read_sensor(one)) for one in found]


@pytest.mark.parametrize("flaw", LINES)
def test_a_flaw_that_the_twin_lacks_differs(sound, flaw):
    """A bench with the flaw: its line differs from a twin without it, and a twin with it reproduces the line.

    Without the flaw, all four lines of the bench are reproduced. Catches: a parameter that the twin lacks, which counts
    as reproduced because it cannot be compared.
    """
    asked, twin, without = sound
    name, values = LINES[flaw]
    estimates = {one: Estimate(value, 0.05 * abs(value)) for one, value in values.items()}
    parameters = tuple(replace(p, estimate=estimates.get(p.name, p.estimate)) for p in twin.parameters)
    flawed = replace(twin, parameters=parameters)
    bench, *drawn = draws(flawed, asked, 10, 4)

    def line(name, bench, runs):
        return compare_line("frames", name, bench[name], np.array([run[name] for run in runs]))

    assert line(name, bench, without).z * np.sign(bench[name]) > 3.0
    assert line(name, bench, drawn).reproduced
    assert all(line(other, without[0], without[1:]).reproduced for other, _ in LINES.values())
