"""The same study on this machine's own processes and on a cluster that somebody else has started."""

import json
import os
import subprocess
import sys
import time

import pytest

from benchmarks.sweeps import Logged
from dfa import sweep
from dfa.plans import Plan
from dfa.robustness import TrainingStudy

PLAN = Plan(data="digits", hidden=(16,), epochs=1, samples=200)
OVER = {"camera.read_noise_e": [0.0, 40.0], "training.method": ["optical", "bp"]}


@pytest.fixture
def cluster(tmp_path):
    """Scheduler and worker as ``dask scheduler`` and ``dask worker`` start them, and the address."""
    file = tmp_path / "scheduler.json"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)) + os.pathsep + os.getcwd()}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": env, "cwd": tmp_path}
    dask = [sys.executable, "-m", "dask"]
    given = ["--scheduler-file", str(file)]
    scheduler = subprocess.Popen([*dask, "scheduler", "--port", "0", "--no-dashboard", *given], **quiet)
    worker = subprocess.Popen([*dask, "worker", "--nthreads", "1", "--no-nanny", "--no-dashboard", *given], **quiet)
    try:
        deadline = time.monotonic() + 60
        while not (file.exists() and file.read_text().endswith("}")) and time.monotonic() < deadline:
            time.sleep(0.1)
        yield scheduler, json.loads(file.read_text())["address"]
    finally:
        for process in (worker, scheduler):
            process.kill()
            process.wait()


def test_a_training_is_the_same_on_a_cluster_started_apart(cluster, tmp_path, monkeypatch):
    """A scheduler and a worker by address alone. Catches: a local cluster instead; sums by another number of threads.

    Then workers with other code than this process, and no scheduler any more.
    """
    here = sweep(TrainingStudy(PLAN), OVER, workers=1, progress=False)
    scheduler, address = cluster
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
    log = tmp_path / "log"
    sweep(Logged(str(log), 0.0), {"x": [1, 2]}, workers=2, progress=False)
    assert len(log.read_text().splitlines()) == 2
    there = sweep(TrainingStudy(PLAN), OVER, progress=False)
    assert (here.error == "").all()
    assert here.equals(there)
    for name in ("accuracy", "angle", "snr_db"):
        assert here[name].values.tobytes() == there[name].values.tobytes()
    assert {**here.attrs, "measured": ""} == {**there.attrs, "measured": ""}
    with monkeypatch.context() as with_other_code:
        with_other_code.setattr("dfa.robustness.running.project_version", lambda: "other")
        with pytest.raises(ConnectionError, match="a worker runs other code"):
            sweep(Logged("", 0.0), {"x": [1]}, progress=False)
    scheduler.kill()
    scheduler.wait()
    monkeypatch.setattr("dfa.robustness.links.START_S", 4.0)
    with pytest.raises(ConnectionError, match="no dask scheduler answers"):
        sweep(Logged("", 0.0), {"x": [1]}, progress=False)
