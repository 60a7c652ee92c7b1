"""The same study on this machine's processes and on a cluster started apart; lost workers and schedulers."""

import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from dask import config
from distributed import LocalCluster

from benchmarks.child import environment
from benchmarks.sweeps import Logged, kill_sweeps
from dfa import sweep
from dfa.cli.main import main
from dfa.experiments.plans import Plan
from dfa.robustness import TrainingStudy
from dfa.robustness.results import load_results
from dfa.sweeps.cluster.connection import connect
from dfa.sweeps.cluster.running import Places, Task, Waiting
from dfa.sweeps.keys import Code
from dfa.sweeps.protocol import Outcome
from dfa.sweeps.store import Job

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


STUDY_FILE = """
K = 2.0
class Mine:
    def check(self, settings): pass
    def run(self, settings, seed): return {"value": 2.0 * settings["x"]}
    def describe(self): return {}
    def units(self): return {}
"""
SWEEP = "from edited import Mine; from dfa import sweep; print(sweep(Mine(), {'x': [1]}, progress=False).value.item())"


def test_a_worker_with_old_code_is_refused(cluster):
    """Catches: values of the worker's old module that are stored under the key of the edited study."""
    address, folder = cluster
    env = environment() | {"DASK_SCHEDULER_ADDRESS": address}
    env["PYTHONPATH"] = os.pathsep.join([str(folder), env["PYTHONPATH"]])

    def swept(text):
        (folder / "edited.py").write_text(text)
        return subprocess.run([sys.executable, "-c", SWEEP], env=env, capture_output=True, text=True, timeout=100)

    assert swept(STUDY_FILE).stdout.split() == ["2.0"]
    again = swept(STUDY_FILE.replace("2.0 *", "100.0 *"))
    assert again.stdout == ""
    assert again.stderr.splitlines()[-1].startswith(
        "ConnectionError: a worker must have the same code of edited as this process"
    )


def test_a_script_needs_no_main_guard(tmp_path):
    """Workers get its study and do not execute the script. Catches: a sweep in each worker; a lost ``__file__``."""
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
    """A client of a cluster that loses its workers; `cluster` is None for one that the user started."""

    def __init__(self, cluster=None):
        self.threads, self.cluster = [{"a": 2}, {}, {}, {"b": 1}], cluster

    def nthreads(self):
        return self.threads.pop(0)


def test_a_cluster_without_workers_gives_one_warning(monkeypatch):
    """Points wait, and each worker that comes takes as many as it has threads.

    Catches: a sweep that waits without a warning; a warning every few seconds; a point behind another one.
    """
    monkeypatch.setattr("dfa.sweeps.cluster.running.REFRESH_S", -1.0)
    places = Places(Threads())
    assert places.find_free(["a"]) == "a"
    with pytest.warns(UserWarning, match="waiting for workers"):
        assert places.find_free([]) is None
    assert places.find_free([]) is None
    assert places.find_free(["b", "a"]) is None


def test_short_points_share_a_task_and_long_ones_do_not(monkeypatch):
    """Catches: 20 ms of processor time for each point of 1 ms; a point behind one that hangs, or behind a long one.

    A task in flight for long has its points computed elsewhere, too. The outcome that comes first counts.
    """
    jobs = [Job(str(k), {}, k) for k in range(300)]
    left, waiting = {job.key: job for job in jobs}, Waiting(jobs)

    def run(seconds, ended=None):
        task = Task(waiting.take(left), "a")
        found = [Outcome(metrics={}, seconds=seconds) for _ in task.jobs[:ended]]
        waiting.learn(task, found)
        for job in task.jobs[:ended]:
            del left[job.key]
        return len(task.jobs)

    assert [run(1e-4) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 64, 64]
    begun = list(left)
    assert [run(1.0, ended=1), run(1.0), run(1.0)] == [64, 1, 1]
    assert begun[3:] == list(left) == [job.key for job in waiting.jobs]
    waiting.size = 4
    hung, alone = Task(waiting.take(left), "a"), Task([jobs[-1]], "b")
    monkeypatch.setattr("dfa.sweeps.cluster.running.OVERDUE_S", -1.0)
    waiting.repeat_overdue([hung, alone])
    waiting.repeat_overdue([hung, alone])
    assert (hung.repeated, alone.repeated, waiting.size) == (True, False, 1)
    del left[hung.jobs[0].key]
    assert [waiting.take(left) for _ in range(4)] == [
        [job] for job in [*hung.jobs[1:], jobs[len(jobs) - len(left) + 3]]
    ]


def test_a_restarted_worker_of_a_local_cluster_gives_no_warning(monkeypatch):
    """Catches: a warning, an error in tests, while the new worker starts on a busy machine."""
    monkeypatch.setattr("dfa.sweeps.cluster.running.REFRESH_S", -1.0)
    places = Places(Threads(cluster=SimpleNamespace(workers={0: None}, worker_spec={0: None})))
    assert [places.find_free([]) for _ in range(4)] == ["a", None, None, "b"]


def test_a_worker_that_a_local_cluster_gave_up_is_replaced(monkeypatch):
    """Its process died while it started, or took too long to come back.

    Catches: a sweep that waits for ever, with no worker left, after points that killed their workers.
    """
    monkeypatch.setattr("dfa.sweeps.cluster.running.REFRESH_S", -1.0)
    with connect(1) as client, config.set({"distributed.deploy.lost-worker-timeout": "50ms"}):
        places = Places(client)
        (lost,) = client.nthreads()
        client.cluster.sync(next(iter(client.cluster.workers.values())).close)
        deadline = time.monotonic() + 30.0
        while (found := places.find_free([])) in (None, lost) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert found not in (None, lost)


def test_points_in_flight_are_not_lost_with_all_workers(tmp_path, monkeypatch):
    """The user's cluster loses its only worker during a point, and gets another one.

    Catches: a sweep that waits for ever, since the scheduler keeps the point for the lost worker.
    """
    log, found = tmp_path / "log", []
    monkeypatch.setattr("dfa.sweeps.cluster.running.REFRESH_S", 0.1)
    kwargs = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}  # any port that is free
    apart = LocalCluster(1, threads_per_worker=1, processes=False, protocol="tcp", scheduler_kwargs=kwargs)
    with apart, pytest.warns(UserWarning, match="waiting for workers"):
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", apart.scheduler_address)
        run = threading.Thread(
            target=lambda: found.append(sweep(Logged(str(log), 0.2), {"x": [1, 2, 3]}, progress=False)), daemon=True
        )
        run.start()
        while not log.exists():
            time.sleep(0.02)
        apart.scale(0)
        time.sleep(1.0)
        apart.scale(1)
        run.join(60.0)
    assert found and not found[0].value.isnull().any()


def test_a_scheduler_that_is_lost_at_the_start_is_a_one_line_error(cluster, monkeypatch):
    """Catches: an error of dask while the sweep waits for the first worker."""

    def lost(*_, **__):
        raise OSError("Timed out trying to connect")

    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster[0])
    monkeypatch.setattr("distributed.Client.wait_for_workers", lost)
    with pytest.raises(ConnectionError, match=r"the dask scheduler .* is lost"):
        sweep(Logged("", 0.0), {"x": [1]}, progress=False)


def test_kills_lose_no_points():
    """Worker, parent and scheduler, one each; the full run is ``python -m benchmarks.sweeps --kills 20``."""
    found = kill_sweeps(3, points=20)
    assert found["killed"] == 3
    bad = ("lost", "twice", "different", "orphans", "unclear")
    assert {name: found[name] for name in bad} == dict.fromkeys(bad, 0)


def test_a_study_that_cannot_be_pickled_is_refused():
    """Catches: a cluster that is started before the error; pickle's own message."""
    study = Logged("", 0.0)
    study.lock = threading.Lock()
    with pytest.raises(ValueError, match="study must be picklable for other processes"):
        sweep(study, {"x": [1]}, workers=1, progress=False)


def test_a_training_is_the_same_on_a_cluster_started_apart(cluster, tmp_path, monkeypatch):
    """By the command and by the function, with the address of a scheduler.

    Workers with other code or libraries and an address without a scheduler are refused.

    Catches: a local cluster instead; sums that depend on the number of threads.
    """
    here = sweep(TrainingStudy(PLAN), OVER, workers=1, progress=False)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster[0])
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
        with pytest.raises(ConnectionError, match="a worker must have the same code"):
            sweep(Logged("", 0.0), {"x": [1]}, progress=False)
    with monkeypatch.context() as with_other_libraries:
        with_other_libraries.setattr("dfa.sweeps.cluster.running.libraries", lambda: "python 3.1")
        with pytest.raises(ConnectionError, match="a worker must have the same libraries as this process, got python"):
            sweep(Logged("", 0.0), {"x": [1]}, progress=False)
        with_other_libraries.setattr("dfa.sweeps.cluster.running.compute_in_worker", lambda *_: {}["gone"])
        with pytest.raises(ConnectionError, match=r"the same code of opu-sim as this process \(KeyError: 'gone'\)"):
            sweep(Logged("", 0.0), {"x": [1]}, progress=False)
    for address in ("nonsense", "foo://127.0.0.1:1"):
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
        with pytest.raises(ConnectionError, match=f"no dask scheduler answers at {address}"):
            sweep(Logged("", 0.0), {"x": [1]}, progress=False)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:1")
    monkeypatch.setattr("dfa.sweeps.cluster.connection.START_S", 2.0)
    with pytest.raises(ConnectionError, match="no dask scheduler answers"):
        sweep(Logged("", 0.0), {"x": [1]}, progress=False)
