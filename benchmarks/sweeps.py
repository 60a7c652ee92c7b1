"""Sweeps: what scheduling costs, whether memory stays flat, and whether kills lose anything.

``python -m benchmarks.sweeps [--kills 20]`` prints the rows; the kills go round parent, scheduler and worker.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks.child import environment, fresh
from benchmarks.report import show
from benchmarks.row import Row
from dfa import sweep
from dfa.sweeps.store import Store

__all__ = ["Logged", "kills", "rows"]

ROLES = ("parent", "scheduler", "worker")


class Logged:
    """A study that takes its time, computes something that rounds, and logs each point that it begins."""

    def __init__(self, log: str, wait_s: float) -> None:
        self.log, self.wait_s = log, wait_s

    def check(self, settings: Mapping[str, Any]) -> None:
        """Refuse what is no parameter."""
        if not set(settings) <= {"x", "y"}:
            raise ValueError(f"x and y are the parameters, got {', '.join(settings)}")

    def run(self, settings: Mapping[str, Any], seed: int) -> dict[str, float]:
        """Wait, then a number that needs all its digits, or an error at one place."""
        if self.log:
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(f"{time.time()} {settings['x']},{seed}\n")
        time.sleep(self.wait_s)
        if settings["x"] == 7:
            raise ArithmeticError("seven")
        return {"value": (settings["x"] + 1) ** 0.5 / (seed + 3)}

    def describe(self) -> dict[str, Any]:
        """Nothing else decides the result."""
        return {}

    def units(self) -> dict[str, str]:
        """Made up."""
        return {"value": "1"}


def start(folder: Path, points: int, wait_s: float) -> "subprocess.Popen[bytes]":
    """Start a sweep in a process of its own."""
    code = (
        "from benchmarks.sweeps import Logged; from dfa import sweep; "
        f"sweep(Logged({str(folder / 'log')!r}, {wait_s}), {{'x': range({points})}}, seeds=(0, 1), "
        f"store={str(folder / 'store.db')!r}, workers=2, progress=False)"
    )
    return subprocess.Popen([sys.executable, "-P", "-c", code], env=environment())


def victim(parent: psutil.Process, role: str) -> psutil.Process | None:
    """Find the process to kill; None if it is not there yet."""
    clusters = [child for child in parent.children() if "dfa.sweeps.cluster.nodes" in " ".join(child.cmdline())]
    if role == "parent" or not clusters:
        return parent if role == "parent" else None
    if role == "scheduler":
        return clusters[0]
    workers = workers_of(clusters[0])
    return random.choice(workers) if workers else None


def workers_of(cluster: psutil.Process) -> list[psutil.Process]:
    """Processes that compute the points."""
    return [child for child in cluster.children() if "spawn_main" in " ".join(child.cmdline())]


def kills(count: int, points: int = 30, wait_s: float = 0.25, seed: int = 0) -> dict[str, int]:
    """Kill sweeps `count` times at random moments, let them end, and compare with one that nobody touched.

    Three kills of four come while points are computed, the others at any time, the start of the cluster too.

    Returns
    -------
    dict of str to int
        ``killed``; ``sweeps``, how many that took; ``stored``, points that were in the store when a parent was killed;
        ``lost``, those of them that are not there at the end as they were; ``twice``, points computed again after
        they had been stored; ``different``, sweeps whose results differ in a bit from the undisturbed one;
        ``orphans``, processes that outlived their parent by over 5 s.
    """
    moments = random.Random(seed)
    result = Counter(killed=0, sweeps=0, stored=0, lost=0, twice=0, different=0, orphans=0)
    with tempfile.TemporaryDirectory() as name:
        while result["killed"] < count:
            folder = Path(tempfile.mkdtemp(dir=name))
            before: dict[str, str] = {}
            process = start(folder, points, wait_s)
            while process.poll() is None or process.returncode == -signal.SIGKILL:
                if process.poll() is not None:  # the parent was killed: the same sweep again
                    before |= stored(folder)
                    process = start(folder, points, wait_s)
                if result["killed"] == count:
                    process.wait()
                    continue
                sleep_to_a_moment(process, folder, moments)
                disturb(process, ROLES[result["killed"] % len(ROLES)], result)
            if process.returncode:
                raise RuntimeError(f"a sweep ended with {process.returncode}")
            result["sweeps"] += 1
            result["stored"] += len(before)
            result["lost"] += len(before.items() - stored(folder).items())
            examine(folder, points, result)
    return dict(result)


def stored(folder: Path) -> dict[str, str]:
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


def disturb(process: "subprocess.Popen[bytes]", role: str, result: "Counter[str]") -> None:
    """Kill one process of a sweep, if the sweep is still there."""
    try:
        parent = psutil.Process(process.pid)
        children = parent.children(recursive=True)
        target = victim(parent, role)
        if target is None or process.poll() is not None:
            return
        target.kill()
    except psutil.NoSuchProcess:
        return
    result["killed"] += 1
    if role == "parent":
        process.wait()
        result["orphans"] += len(psutil.wait_procs(children, timeout=5)[1])


def examine(folder: Path, points: int, result: "Counter[str]") -> None:
    """Compare a sweep that was killed with one that was not, and its log with the times at which rows were stored."""
    over, seeds = {"x": range(points)}, (0, 1)
    killed = sweep(Logged("", 0.0), over, seeds, store=folder / "store.db", workers=0, progress=False)
    whole = sweep(Logged("", 0.0), over, seeds, workers=0, progress=False)
    same = killed["value"].values.tobytes() == whole["value"].values.tobytes() and killed.equals(whole)
    result["different"] += not same
    with Store(folder / "store.db") as store:
        found = store.rows.execute("SELECT settings, seed, date FROM points").fetchall()
    dates = {f"{json.loads(settings)['x']},{seed}": datetime.fromisoformat(date) for settings, seed, date in found}
    for line in (folder / "log").read_text(encoding="utf-8").splitlines():
        begun, _, point = line.partition(" ")
        result["twice"] += datetime.fromtimestamp(float(begun), UTC) > dates[point]


def overhead(count: int = 60, wait_s: float = 1.0) -> Row:
    """Wall time over that of the points alone, 2 workers, from the first result to the last."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "store.db"
        sweep(Logged("", wait_s), {"x": range(10, 10 + count)}, store=path, workers=2, progress=False)
        with Store(path) as store:
            dates = [row[0] for row in store.rows.execute("SELECT date FROM points ORDER BY date")]
    took = (datetime.fromisoformat(dates[-1]) - datetime.fromisoformat(dates[0])).total_seconds()
    # The first two points end together: what lies between the first and the last are the others, two at a time.
    ideal = wait_s * (count / 2 - 1)
    return Row(
        name=f"sweep of {count} points that sleep for {wait_s:g} s, 2 workers: wall / points, scheduling over points",
        unit="s",
        values={"wall": took, "points": ideal},
        ratio=took / ideal - 1,
        target="<= 0.1",
        note="wall time from the first point stored to the last; the cluster's start is apart",
    )


def memory(count: int = 10_000) -> Iterator[Row]:
    """Peak memory of each process by the end, by half and by a tenth of a sweep; points of no length."""
    from benchmarks.sweeps import peak_mb  # under its own name also where this file is the program

    for role, peaks in fresh(peak_mb, count).items():
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
    """Peaks of resident memory of parent, scheduler and workers until the end, half and a tenth of a sweep."""
    sizes: dict[str, list[tuple[int, float]]] = {"parent": [], "scheduler": [], "larger worker": []}
    done = threading.Event()
    with tempfile.TemporaryDirectory() as name:
        store, log = Path(name) / "store.db", Path(name) / "log"

        def watch() -> None:
            while not done.wait(0.2):
                with suppress(psutil.NoSuchProcess, OSError, IndexError, ValueError):
                    points, parent = log.read_bytes().count(b"\n"), psutil.Process()
                    cluster = victim(parent, "scheduler")
                    if cluster is None:
                        continue
                    processes = {"parent": [parent], "scheduler": [cluster], "larger worker": workers_of(cluster)}
                    for role, found in processes.items():
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
    yield from memory()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Overhead and memory of sweeps; with --kills, what kills do to one.")
    parser.add_argument("--kills", type=int, default=0, help="kill sweeps this many times instead")
    asked = parser.parse_args().kills
    if asked:
        print(json.dumps(kills(asked)))
    else:
        show(list(rows()), "sweeps")
