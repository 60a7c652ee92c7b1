"""A run that is killed repeatedly ends as an unbroken one: weights and metrics files, bit for bit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder of all runs; see `tests.dfa.killed`."""
    folder = tmp_path_factory.mktemp("runs")
    command = [sys.executable, "-m", "tests.dfa.killed", str(folder), "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("kind", ["mlp", "cnn", "graph", "text"])
def test_a_killed_run_ends_as_an_unbroken_one(runs, kind):
    """Dropout, stochastic codes, a device that drifts and is calibrated on a schedule, the best epoch of a graph.

    Catches: a checkpoint without torch's random state, the learner's or the optimiser's state, the running loss, the
    sums of the diagnostics, or the best weights; another order of samples; rows that are written twice.
    """
    unbroken, killed = runs / kind / "unbroken", runs / kind / "killed"
    first, second = (torch.load(folder / "weights.pt", weights_only=True) for folder in (unbroken, killed))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name in ("metrics.csv", "metrics.json"):
        assert (unbroken / name).read_bytes() == (killed / name).read_bytes()
    assert sorted(os.listdir(killed)) == ["last.pt", "metrics.csv", "metrics.json", "weights.pt"]
