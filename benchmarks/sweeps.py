"""Benchmarks of sweeps: cost of scheduling, memory over many points, and what is lost or repeated after kills.

``python -m benchmarks.sweeps [--kills 20]`` prints the rows; the kills take worker, parent and scheduler in turn.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks.child import call_in_new_process, environment
from benchmarks.report import show
from benchmarks.row import Row
from dfa import sweep
from dfa.sweeps.store import Store

__all__ = ["Logged", "kill_sweeps", "outside_cluster", "rows"]

ROLES = ("worker", "parent", "scheduler")
OVER_SEEDS = (0, 1)
RESULTS = ("killed", "sweeps", "stored", "lost", "twice", "different", "orphans", "unclear")


class Logged:
    """A study that waits, computes an irrational number, and logs each point that it starts."""

    def __init__(self, log: str, wait_s: float) -> None:
        self.log, self.wait_s = log, wait_s

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raise a ``ValueError`` for unknown parameters."""
        if not set(settings) <= {"x", "y"}:
            raise ValueError(f"x and y are the parameters, got {', '.join(settings)}")

    def run(self, settings: Mapping[str, Any], seed: int) -> dict[str, float]:
        """Wait, and return a number that needs all its digits; fail at one value of x."""
        if self.log:
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(f"{time.time()} {settings['x']},{seed}\n")
        time.sleep(self.wait_s)
        if settings["x"] == 7:
            raise ArithmeticError("seven")
        return {"value": (settings["x"] + 1) ** 0.5 / (seed + 3)}

    def describe(self) -> dict[str, Any]:
        """Return an empty description: only the settings determine the result."""
        return {}

    def units(self) -> dict[str, str]:
        """Return an arbitrary unit."""
        return {"value": "1"}


@contextmanager
def outside_cluster(folder: Path, workers: int = 1) -> "Iterator[tuple[subprocess.Popen[Any], str]]":
    """Start scheduler and workers as ``dask scheduler`` and ``dask worker`` do; yield the scheduler and its address."""
    file = folder / "scheduler.json"
    file.unlink(missing_ok=True)
    more: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    more["env"] = environment() | {"PYTHONPATH": os.pathsep.join([environment()["PYTHONPATH"], str(folder)])}
    dask, given = [sys.executable, "-m", "dask"], ["--no-dashboard", "--scheduler-file", str(file)]
    threads = ["--nthreads", "1", "--nworkers", str(workers)]
    scheduler = subprocess.Popen([*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", *given], **more)
    worker = subprocess.Popen([*dask, "worker", *threads, *given], **more)
    try:
        deadline = time.monotonic() + 60
        while not (file.exists() and file.read_text().endswith("}")) and time.monotonic() < deadline:
            time.sleep(0.1)
        yield scheduler, json.loads(file.read_text())["address"]
    finally:
        for process in (worker, scheduler):
            process.kill()
            process.wait()


class KilledSweep:
    """A sweep in separate processes, which are killed.

    The parent starts its own cluster. If the scheduler is to be killed next, it uses one that is started apart.
    """

    def __init__(self, folder: Path, points: int, wait_s: float, role: str) -> None:
        self.folder, self.role = folder, role
        self.code = (
            "from benchmarks.sweeps import Logged; from dfa import sweep; "
            f"sweep(Logged({str(folder / 'log')!r}, {wait_s}), {{'x': range({points})}}, seeds={OVER_SEEDS}, "
            f"store={str(folder / 'store.db')!r}, workers=2, progress=False)"
        )
        self.cluster = ExitStack()
        self.start()

    def start(self) -> None:
        """Start the parent, again if it was killed."""
        self.cluster.close()
        environ = environment()
        self.scheduler: subprocess.Popen[bytes] | None = None
        if self.role == "scheduler":
            self.scheduler, address = self.cluster.enter_context(outside_cluster(self.folder, 2))
            environ["DASK_SCHEDULER_ADDRESS"] = address
        command = [sys.executable, "-P", "-c", self.code]
        with (self.folder / "stderr").open("wb") as errors:
            self.parent = subprocess.Popen(command, env=environ, stderr=errors)

    @property
    def has_ended(self) -> bool:
        """Whether the parent has ended normally, with all points computed."""
        return self.parent.poll() == 0

    @property
    def is_broken(self) -> bool:
        """Whether the parent was killed, or has lost its scheduler."""
        return self.parent.poll() not in (None, 0)

    def kill(self) -> tuple[bool, int]:
        """Kill the process of the role; return whether it was there, and how many processes were left behind."""
        try:
            parent = psutil.Process(self.parent.pid)
            children = parent.children(recursive=True)
            target = self.target(parent)
            if target is None or self.parent.poll() is not None:
                return False, 0
            target.kill()
        except psutil.NoSuchProcess:
            return False, 0
        left = 0
        if self.role != "worker":
            self.parent.wait()
            left = len(psutil.wait_procs(children, timeout=5)[1])
        return True, left

    def target(self, parent: psutil.Process) -> psutil.Process | None:
        """Return the process to kill; None if it is not there yet, or the parent has another kind of cluster."""
        if self.role == "scheduler":
            return psutil.Process(self.scheduler.pid) if self.scheduler else None
        if self.role == "parent":
            return parent
        workers = workers_of(parent)
        return random.choice(workers) if workers else None


def workers_of(parent: psutil.Process) -> list[psutil.Process]:
    """Return the processes that compute the points."""
    return [child for child in parent.children() if "spawn_main" in " ".join(child.cmdline())]


def kill_sweeps(count: int, points: int = 30, wait_s: float = 0.25, seed: int = 0) -> dict[str, int]:
    """Kill sweeps `count` times at random moments, let them end, and compare with one that was not disturbed.

    Three of four kills occur while points are computed; the others occur at any time, also while the cluster starts.

    Returns
    -------
    dict of str to int
        ``killed``; ``sweeps``, how many that took; ``stored``, points that were in the store when a parent ended early;
        ``lost``, those of them that are missing or changed at the end; ``twice``, points computed again after
        they had been stored; ``different``, sweeps whose results differ in a bit from the undisturbed one;
        ``orphans``, processes that outlived their parent by over 5 s; ``unclear``, parents that lost their scheduler
        and did not report it in the last line.
    """
    moments, result = random.Random(seed), Counter[str](dict.fromkeys(RESULTS, 0))
    with tempfile.TemporaryDirectory() as name:
        while result["killed"] < count:
            folder, before = Path(tempfile.mkdtemp(dir=name)), dict[str, str]()
            one = KilledSweep(folder, points, wait_s, ROLES[result["killed"] % len(ROLES)])
            with one.cluster:
                while not one.has_ended:
                    if one.is_broken:
                        if one.parent.returncode != -signal.SIGKILL:
                            last = (folder / "stderr").read_text().splitlines()[-1]
                            if not (last.startswith("ConnectionError: ") and "dask scheduler" in last):
                                result["unclear"] += 1
                                sys.stderr.write(f"a parent without scheduler ended with: {last}\n")
                        before |= stored_points(folder)
                        one.start()
                    if result["killed"] == count:
                        one.parent.wait()
                        continue
                    sleep_to_a_moment(one.parent, folder, moments)
                    killed, left = one.kill()
                    result["killed"] += killed
                    one.role = ROLES[result["killed"] % len(ROLES)]
                    result["orphans"] += left
            result["sweeps"] += 1
            result["stored"] += len(before)
            result["lost"] += len(before.items() - stored_points(folder).items())
            examine(folder, points, result)
    return dict(result)


def stored_points(folder: Path) -> dict[str, str]:
    """Return for each stored point when it was stored and how often it was computed."""
    with Store(folder / "store.db") as store:
        return dict(store.rows.execute("SELECT key, date || attempts FROM points"))


def sleep_to_a_moment(process: "subprocess.Popen[bytes]", folder: Path, moments: random.Random) -> None:
    """Wait for a random time, usually from when the next point begins."""
    log, wait_s = folder / "log", moments.uniform(0.0, 2.0)
    if moments.random() < 0.25:
        wait_s *= 3
    else:
        size = log.stat().st_size if log.exists() else 0
        while process.poll() is None and (log.stat().st_size if log.exists() else 0) == size:
            time.sleep(0.01)
    time.sleep(wait_s)


def examine(folder: Path, points: int, result: "Counter[str]") -> None:
    """Compare a sweep that was killed with one that was not, and its log with the times at which rows were stored."""
    over = {"x": range(points)}
    killed = sweep(Logged("", 0.0), over, OVER_SEEDS, store=folder / "store.db", workers=0, progress=False)
    whole = sweep(Logged("", 0.0), over, OVER_SEEDS, workers=0, progress=False)
    same = killed["value"].values.tobytes() == whole["value"].values.tobytes() and killed.equals(whole)
    result["different"] += not same
    with Store(folder / "store.db") as store:
        found = store.rows.execute("SELECT settings, seed, date FROM points").fetchall()
    dates = {f"{json.loads(settings)['x']},{seed}": datetime.fromisoformat(date) for settings, seed, date in found}
    for line in (folder / "log").read_text(encoding="utf-8").splitlines():
        begun, _, point = line.partition(" ")
        result["twice"] += datetime.fromtimestamp(float(begun), UTC) > dates[point]


def first_to_last_s(count: int, wait_s: float, workers: int) -> float:
    """Wall time of a sweep from the first point stored to the last; the cluster's start is apart."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "store.db"
        sweep(Logged("", wait_s), {"x": range(10, 10 + count)}, store=path, workers=workers, progress=False)
        with Store(path) as store:
            first, last = store.rows.execute("SELECT min(date), max(date) FROM points").fetchone()
    return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()


def overhead(count: int = 60, wait_s: float = 1.0) -> Row:
    """Wall time over that of the points alone, 2 workers, from the first result to the last."""
    took = first_to_last_s(count, wait_s, workers=2)
    # The first two points end together. The others, two at a time, are computed between the first and the last result.
    ideal = wait_s * (count / 2 - 1)
    return Row(
        name=f"sweep of {count} points that sleep for {wait_s:g} s, 2 workers: wall / points, scheduling over points",
        unit="s",
        values={"wall": took, "points": ideal},
        ratio=took / ideal - 1,
        target="<= 0.1",
        note="wall time from the first point stored to the last; the cluster's start is apart",
    )


def short_points(count: int = 10_000, workers: int = 8) -> Row:
    """Wall time of points that take no time over 10 ms for each of them."""
    took = first_to_last_s(count, 0.0, workers)
    return Row(
        name=f"sweep of {count} points that take no time, {workers} workers: wall / 10 ms for each",
        unit="s",
        values={"wall": took, "10 ms for each": 0.01 * count},
        ratio=took / (0.01 * count),
        target="<= 1",
        note="wall time from the first point stored to the last; the cluster's start is apart",
    )


def memory(count: int = 10_000) -> Iterator[Row]:
    """Memory of each process at the end, at half and at a tenth of a sweep; points take no time."""
    for role, peaks in call_in_new_process(peak_mb, count).items():
        end, half, tenth = peaks
        yield Row(
            name=f"sweep of {count} points: peak memory of the {role} at the end / half / a tenth, end over tenth",
            unit="MB",
            values={"end": end, "half": half, "tenth": tenth},
            ratio=end / tenth,
            target="<= 1.1",
            note="largest resident memory seen until then, 5 looks per second",
        )


def peak_mb(count: int) -> dict[str, list[float]]:
    """Return peaks of resident memory of parent and workers until the end, half and a tenth of a sweep."""
    sizes: dict[str, list[tuple[int, float]]] = {"parent, with scheduler": [], "larger worker": []}
    done = threading.Event()
    sweep(Logged("", 0.0), {"x": [1]}, workers=0, progress=False)  # loads all libraries
    with tempfile.TemporaryDirectory() as name:
        store, log = Path(name) / "store.db", Path(name) / "log"

        def watch() -> None:
            while not done.wait(0.2):
                with suppress(psutil.NoSuchProcess, OSError, IndexError, ValueError):
                    points, parent = log.read_bytes().count(b"\n"), psutil.Process()
                    for role, found in zip(sizes, ([parent], workers_of(parent)), strict=True):
                        sizes[role].append((points, max(process.memory_info().rss for process in found) / 1e6))

        watcher = threading.Thread(target=watch)
        watcher.start()
        sweep(Logged(str(log), 0.0), {"x": range(10, 10 + count)}, store=store, workers=2, progress=False)
        done.set()
        watcher.join()
    marks = (count, count / 2, count / 10)
    return {role: [max(mb for points, mb in seen if points <= mark) for mark in marks] for role, seen in sizes.items()}


def rows() -> Iterator[Row]:
    """Overhead and memory of sweeps."""
    yield overhead()
    yield short_points()
    yield from memory()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Overhead and memory of sweeps, or with --kills what is lost.")
    parser.add_argument("--kills", type=int, default=0, help="kill sweeps this many times instead")
    kills = parser.parse_args().kills
    if kills:
        print(json.dumps(kill_sweeps(kills)))
    else:
        show(list(rows()), "sweeps")
