"""The same study on this machine's own processes and on a cluster that somebody else has started."""

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from benchmarks.sweeps import Logged
from dfa import sweep
from dfa.cli.main import main
from dfa.experiments.plans import Plan
from dfa.robustness import TrainingStudy
from dfa.robustness.results import load_results
from dfa.sweeps.cluster.links import Link

PLAN = Plan(data="digits", hidden=(16,), epochs=1, samples=200)
OVER = {"camera.read_noise_e": [0.0, 40.0], "training.method": ["optical", "bp"]}


STUDY = """
references = []
seeds = 1
[over]
"camera.read_noise_e" = [0.0, 40.0]
[plan]
data = "digits"
hidden = [16]
epochs = 1
samples = 200
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Scheduler and worker as ``dask scheduler`` and ``dask worker`` start them, and the address."""
    folder = tmp_path_factory.mktemp("cluster")
    file = folder / "scheduler.json"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)) + os.pathsep + os.getcwd()}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": env, "cwd": folder}
    dask = [sys.executable, "-m", "dask"]
    given = ["--scheduler-file", str(file)]
    scheduler = subprocess.Popen([*dask, "scheduler", "--port", "0", "--no-dashboard", *given], **quiet)
    worker = subprocess.Popen([*dask, "worker", "--nthreads", "1", "--no-nanny", "--no-dashboard", *given], **quiet)
    try:
        deadline = time.monotonic() + 60
        while not (file.exists() and file.read_text().endswith("}")) and time.monotonic() < deadline:
            time.sleep(0.1)
        yield scheduler, json.loads(file.read_text())["address"], folder
    finally:
        for process in (worker, scheduler):
            process.kill()
            process.wait()


def test_the_command_takes_the_cluster_that_the_environment_names(cluster, tmp_path, monkeypatch):
    """The same data set as on this machine's processes. Catches: a command that starts a cluster of its own."""
    (tmp_path / "study.toml").write_text(STUDY)
    found = []
    for place in ("here", "there"):
        arguments = ["--out", str(tmp_path / place), "--workers", "1" if found else "0", "--quiet"]
        with pytest.raises(SystemExit) as stopped:
            main(["sweep", str(tmp_path / "study.toml"), *arguments])
        assert not stopped.value.code
        found.append(load_results(tmp_path / place))
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster[1])
        monkeypatch.setattr("dfa.sweeps.cluster.links.own_cluster", lambda _: pytest.fail("a cluster of its own"))
    here, there = found
    assert (here.error == "").all()
    assert here.equals(there)
    assert {**here.attrs, "measured": ""} == {**there.attrs, "measured": ""}


STUDY_FILE = """
K = 2.0
class Mine:
    def check(self, settings): pass
    def run(self, settings, seed): return {"value": K * settings["x"]}
    def describe(self): return {}
    def units(self): return {}
"""
SWEEP = "from edited import Mine; from dfa import sweep; print(sweep(Mine(), {'x': [1]}, progress=False).value.item())"


def test_a_worker_that_holds_old_code_is_refused(cluster):
    """Catches: an edited study whose new key gets the values of the worker's old module."""
    _, address, folder = cluster
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), os.getcwd()]), "DASK_SCHEDULER_ADDRESS": address}

    def swept(text):
        (folder / "edited.py").write_text(text)
        return subprocess.run([sys.executable, "-c", SWEEP], env=env, capture_output=True, text=True, timeout=100)

    assert swept(STUDY_FILE).stdout.split() == ["2.0"]
    again = swept(STUDY_FILE.replace("K = 2.0", "K = 100.0"))
    assert again.stdout == ""
    assert again.stderr.splitlines()[-1].startswith(
        "ConnectionError: a worker has other code of edited than this process"
    )


def test_a_cluster_without_workers_is_told_once(monkeypatch):
    """Catches: a sweep that waits for ever and says nothing; a warning at each look."""
    threads = [{"a": 2}, {}, {}, {"b": 1}]
    link = Link(SimpleNamespace(nthreads=lambda: threads.pop(0)))
    monkeypatch.setattr("dfa.sweeps.cluster.links.REFRESH_S", -1.0)
    assert link.width == 4
    with pytest.warns(UserWarning, match="waiting for workers"):
        assert link.width == 2
    assert [link.width, link.width] == [2, 2]


def test_a_training_is_the_same_on_a_cluster_started_apart(cluster, tmp_path, monkeypatch):
    """A scheduler and a worker by address alone. Catches: a local cluster instead; sums by another number of threads.

    Then workers with other code than this process, and no scheduler any more.
    """
    here = sweep(TrainingStudy(PLAN), OVER, workers=1, progress=False)
    scheduler, address, _ = cluster
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
        with_other_code.setattr("dfa.sweeps.cluster.running.project_version", lambda: "other")
        with pytest.raises(ConnectionError, match="a worker runs other code"):
            sweep(Logged("", 0.0), {"x": [1]}, progress=False)
    scheduler.kill()
    scheduler.wait()
    monkeypatch.setattr("dfa.sweeps.cluster.links.START_S", 4.0)
    with pytest.raises(ConnectionError, match="no dask scheduler answers"):
        sweep(Logged("", 0.0), {"x": [1]}, progress=False)
