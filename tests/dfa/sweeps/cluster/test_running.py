"""The same study on this machine's processes and on a cluster started apart; lost workers and schedulers."""

import os
import subprocess
import sys
import threading

import pytest

from benchmarks.child import environment
from benchmarks.sweeps import Logged, kills, outside_cluster
from dfa import sweep
from dfa.cli.main import main
from dfa.experiments.plans import Plan
from dfa.robustness import TrainingStudy
from dfa.robustness.results import load_results
from dfa.sweeps.cluster.running import Width
from dfa.sweeps.keys import Code
from dfa.sweeps.store import Store

PLAN = Plan(data="digits", hidden=(16,), epochs=1, samples=200)
OVER = {"camera.read_noise_e": [0.0, 40.0], "training.method": ["optical", "bp"]}
STUDY = """
references = []
seeds = 1
[over]
"camera.read_noise_e" = [0.0, 40.0]
"training.method" = ["optical", "bp"]
[plan]
data = "digits"
hidden = [16]
epochs = 1
samples = 200
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Scheduler, address and folder of a cluster that the command line of dask has started."""
    folder = tmp_path_factory.mktemp("cluster")
    with outside_cluster(folder) as (scheduler, address):
        yield scheduler, address, folder


STUDY_FILE = """
K = 2.0
class Mine:
    def check(self, settings): pass
    def run(self, settings, seed): return {"value": 2.0 * settings["x"]}
    def describe(self): return {}
    def units(self): return {}
"""
SWEEP = "from edited import Mine; from dfa import sweep; print(sweep(Mine(), {'x': [1]}, progress=False).value.item())"


def test_a_worker_that_holds_old_code_is_refused(cluster):
    """Catches: an edited study whose new key gets the values of the worker's old module."""
    _, address, folder = cluster
    env = environment() | {"DASK_SCHEDULER_ADDRESS": address}
    env["PYTHONPATH"] = os.pathsep.join([str(folder), env["PYTHONPATH"]])

    def swept(text):
        (folder / "edited.py").write_text(text)
        return subprocess.run([sys.executable, "-c", SWEEP], env=env, capture_output=True, text=True, timeout=100)

    assert swept(STUDY_FILE).stdout.split() == ["2.0"]
    again = swept(STUDY_FILE.replace("2.0 *", "100.0 *"))
    assert again.stdout == ""
    assert again.stderr.splitlines()[-1].startswith(
        "ConnectionError: a worker has other code of edited than this process"
    )


class Taking(Logged):
    """Takes out of the settings what it reads, to the last bit of a list."""

    def check(self, settings):
        settings["x"].clear()

    def run(self, settings, seed):
        return {"value": settings["x"].pop() + settings.pop("y")}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_study_may_change_the_settings_that_it_is_given(cluster, tmp_path, monkeypatch, workers):
    """Catches: seeds that share one dict, settings that are stored or checked for names as the study left them."""
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster[1])
    more = {"seeds": (0, 1), "workers": workers, "progress": False}
    found = sweep(Taking("", 0.0), {"x": [[1], [2]], "y": [10.0]}, store=tmp_path / "x.db", **more)
    assert found.value.values[:, 0].tolist() == [[11, 11], [12, 12]]
    with Store(tmp_path / "x.db") as rows:
        stored = rows.rows.execute("SELECT settings FROM points").fetchall()
    assert {settings for (settings,) in stored} == {'{"x": [1], "y": 10.0}', '{"x": [2], "y": 10.0}'}


def test_a_script_needs_no_guard(tmp_path):
    """Workers get its study and do not run its lines. Catches: a sweep in each worker; a lost ``__file__``."""
    script = tmp_path / "script.py"
    script.write_text(
        STUDY_FILE.replace("2.0 *", "K *")
        + "from dfa import sweep\nprint('once')\n"
        + "print(sweep(Mine(), {'x': [1, 2]}, workers=1, progress=False).value.values.sum(), __file__)\n"
    )
    run = subprocess.run([sys.executable, script], env=environment(), capture_output=True, text=True, timeout=100)
    assert run.stdout.split() == ["once", "6.0", str(script)], run.stderr
    assert run.stderr == ""


class Threads:
    """A client of a cluster that loses its workers."""

    def __init__(self):
        self.threads = [{"a": 2}, {}, {}, {"b": 1}]

    def nthreads(self):
        return self.threads.pop(0)


def test_a_cluster_without_workers_is_told_once(monkeypatch):
    """Catches: a sweep that waits for ever and says nothing; a warning at each look."""
    monkeypatch.setattr("dfa.sweeps.cluster.running.REFRESH_S", -1.0)
    width = Width(Threads())
    assert width.now() == 4
    with pytest.warns(UserWarning, match="waiting for workers"):
        assert width.now() == 2
    assert [width.now(), width.now()] == [2, 2]


class Deadly(Logged):
    """Takes its process with it at one place."""

    def run(self, settings, seed):
        if settings["x"] == 3:
            os._exit(1)
        return super().run(settings, seed)


def test_a_point_that_kills_its_worker_is_recorded_alone():
    """Catches: neighbours blamed for it; a sweep that never ends."""
    found = sweep(Deadly("", 0.05), {"x": [1, 2, 3, 4, 5, 6]}, workers=1, progress=False)
    errors = found.error.values[:, 0].tolist()
    assert [bool(error) for error in errors] == [False, False, True, False, False, False]
    assert errors[2].startswith("WorkerDied")


def test_kills_lose_nothing():
    """Worker, parent and scheduler, one each; the full run is ``python -m benchmarks.sweeps --kills 20``."""
    found = kills(3, points=20)
    assert found["killed"] == 3
    bad = ("lost", "twice", "different", "orphans", "unclear")
    assert {name: found[name] for name in bad} == dict.fromkeys(bad, 0)


def test_a_study_that_cannot_travel_is_refused():
    """Catches: a cluster started for it, and pickle's own words."""
    study = Logged("", 0.0)
    study.lock = threading.Lock()
    with pytest.raises(ValueError, match="study must be one that pickle can send"):
        sweep(study, {"x": [1]}, workers=1, progress=False)


def test_a_training_is_the_same_on_a_cluster_started_apart(cluster, tmp_path, monkeypatch):
    """By the command and by the function, with a scheduler and a worker by address alone.

    Catches: a local cluster instead; sums by another number of threads. Then workers with other code than this
    process, and no scheduler any more.
    """
    here = sweep(TrainingStudy(PLAN), OVER, workers=1, progress=False)
    scheduler, address, _ = cluster
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
    monkeypatch.setattr("dfa.sweeps.cluster.connection.start_cluster", lambda _: pytest.fail("a cluster of its own"))
    log = tmp_path / "log"
    sweep(Logged(str(log), 0.0), {"x": [1, 2]}, workers=2, progress=False)
    assert len(log.read_text().splitlines()) == 2
    (tmp_path / "study.toml").write_text(STUDY)
    with pytest.raises(SystemExit) as stopped:
        main(["sweep", str(tmp_path / "study.toml"), "--out", str(tmp_path / "there"), "--quiet"])
    assert not stopped.value.code
    there = load_results(tmp_path / "there")
    assert (here.error == "").all()
    assert here.equals(there)
    for name in ("accuracy", "angle", "snr_db"):
        assert here[name].values.tobytes() == there[name].values.tobytes()
    kept = {name: value for name, value in there.attrs.items() if name != "view"}
    assert {**here.attrs, "measured": ""} == {**kept, "measured": ""}
    with monkeypatch.context() as with_other_code:
        with_other_code.setattr("dfa.sweeps.sweeping.code_of", lambda _: Code("other", "other"))
        with pytest.raises(ConnectionError, match="a worker runs other code"):
            sweep(Logged("", 0.0), {"x": [1]}, progress=False)
    scheduler.kill()
    scheduler.wait()
    monkeypatch.setattr("dfa.sweeps.cluster.connection.START_S", 4.0)
    with pytest.raises(ConnectionError, match="no dask scheduler answers"):
        sweep(Logged("", 0.0), {"x": [1]}, progress=False)
