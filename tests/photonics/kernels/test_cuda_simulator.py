"""The GPU kernels and the products built on them, on numba's simulator: `cuda_simulator.py`, without a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[3]
CHECKS = [
    "entries_agree",
    "halves_agree",
    "projections_agree",
    "frames_agree",
    "screens_agree",
    "nothing_is_launched_for_nothing",
    "products_agree",
    "devices_agree",
]


@pytest.fixture(scope="module")
def report():
    """Output of the checks, in a process whose numba simulates CUDA."""
    simulated = os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "-W",
        "ignore",
        str(HERE / "cuda_simulator.py"),
    ]  # scalars of numpy warn where words wrap
    run = subprocess.run(command, capture_output=True, text=True, env=simulated, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("check", CHECKS)
def test_kernels_agree_with_the_processors(report, check):
    """Entries to rounding (three bits exactly), products and screens to 1e-6, camera frames exactly.

    Catches: a draw for the wrong thread, threads beyond the end, a slice of the columns visited twice, a switch of
    the Poisson draw at another mean, a tile that is multiplied before it is drawn, a word for the wrong mode,
    dark modes left as they were, a sign, a launch for an empty batch.
    """
    assert f"passed {check}\n" in report, report


def test_every_check_runs(report):
    """Catches: a check that is never called."""
    assert report.count("passed ") + report.count("failed ") == len(CHECKS)
