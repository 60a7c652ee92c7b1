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
from dfa.robustness.store import Store

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
    clusters = [child for child in parent.children() if "dfa.robustness.nodes" in " ".join(child.cmdline())]
    if role == "parent" or not clusters:
        return parent if role == "parent" else None
    if role == "scheduler":
        return clusters[0]
    workers = [child for child in clusters[0].children() if "spawn_main" in " ".join(child.cmdline())]
    return random.choice(workers) if workers else None


def kills(count: int, points: int = 30, wait_s: float = 0.25, seed: int = 0) -> dict[str, int]:
    """Kill sweeps `count` times at random moments, let them end, and compare with one that nobody touched.

    Returns
    -------
    dict of str to int
        ``killed``; ``sweeps``, how many that took; ``twice``, points computed again after they had been stored;
        ``different``, sweeps whose results differ in a bit from the undisturbed one; ``orphans``, processes that
        outlived their parent by over 5 s.
    """
    moments, result = random.Random(seed), Counter(killed=0, sweeps=0, twice=0, different=0, orphans=0)
    with tempfile.TemporaryDirectory() as name:
        while result["killed"] < count:
            folder = Path(tempfile.mkdtemp(dir=name))
            process = start(folder, points, wait_s)
            while process.poll() is None or process.returncode == -signal.SIGKILL:
                if process.poll() is not None:  # the parent was killed: the same sweep again
                    process = start(folder, points, wait_s)
                if result["killed"] == count:
                    process.wait()
                    continue
                time.sleep(moments.uniform(1.0, 6.0))
                disturb(process, ROLES[result["killed"] % len(ROLES)], result)
            if process.returncode:
                raise RuntimeError(f"a sweep ended with {process.returncode}")
            result["sweeps"] += 1
            examine(folder, points, result)
    return dict(result)


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
    stored = {f"{json.loads(settings)['x']},{seed}": datetime.fromisoformat(date) for settings, seed, date in found}
    for line in (folder / "log").read_text(encoding="utf-8").splitlines():
        begun, _, point = line.partition(" ")
        result["twice"] += datetime.fromtimestamp(float(begun), UTC) > stored[point]


def overhead(quick: bool) -> Row:
    """Wall time over that of the points alone, 2 workers, from the first result to the last."""
    count, wait_s = (8, 0.2) if quick else (60, 1.0)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "store.db"
        sweep(Logged("", wait_s), {"x": range(10, 10 + count)}, store=path, workers=2, progress=False)
        with Store(path) as store:
            dates = [row[0] for row in store.rows.execute("SELECT date FROM points ORDER BY date")]
    took = (datetime.fromisoformat(dates[-1]) - datetime.fromisoformat(dates[0])).total_seconds()
    # The first two points end together: what lies between the first and the last are the others, two at a time.
    ideal = wait_s * (count / 2 - 1)
    return Row(
        name=f"sweep of {count} points of {wait_s:g} s, 2 workers: scheduling over computing",
        unit="s",
        values={"wall": took, "points": ideal},
        ratio=took / ideal - 1,
        target="<= 0.1",
        note="wall time from the first point stored to the last; the cluster's start is apart",
    )


def memory(quick: bool) -> Row:
    """Memory of all processes after the last points over that after the first, points of no length."""
    count = 200 if quick else 10_000
    sizes = fresh(resident_mb, count)
    return Row(
        name=f"sweep of {count} points: memory of parent, scheduler and workers at the end over that after a tenth",
        unit="MB",
        values={"end": sizes["end"], "tenth": sizes["tenth"]},
        ratio=sizes["end"] / sizes["tenth"],
        target="<= 1.1",
        note="resident, summed over the processes",
    )


def resident_mb(count: int) -> dict[str, float]:
    """Resident memory of this process and those below it, after a tenth of the points and close to the end."""
    sizes: list[tuple[int, float]] = []
    done = threading.Event()
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "log"

        def watch() -> None:
            while not done.wait(0.5):
                with suppress(psutil.NoSuchProcess, OSError):
                    here = psutil.Process()
                    used = sum(p.memory_info().rss for p in (here, *here.children(recursive=True)))
                    sizes.append((log.read_bytes().count(b"\n"), used / 1e6))

        watcher = threading.Thread(target=watch)
        watcher.start()
        sweep(Logged(str(log), 0.0), {"x": range(10, 10 + count)}, store=Path(name) / "s.db", workers=2, progress=False)
        done.set()
        watcher.join()
    tenth = next(size for points, size in sizes if points >= count / 10)
    return {"tenth": tenth, "end": next(size for points, size in reversed(sizes) if points >= count / 10)}


def rows(quick: bool) -> Iterator[Row]:
    """Overhead and memory of sweeps."""
    yield overhead(quick)
    yield memory(quick)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Overhead and memory of sweeps; with --kills, what kills do to one.")
    parser.add_argument("--kills", type=int, default=0, help="kill sweeps this many times instead")
    asked = parser.parse_args().kills
    if asked:
        print(json.dumps(kills(asked)))
    else:
        show(list(rows(quick=False)), "sweeps")
