"""Kills of ranks: a random process of a run is killed at a random moment, and the run is resumed.

``python -m benchmarks.kills [--kills 20] [--out FILE]``. A small network learns digits through a device that three
processes share, by the loop of ``opu train --ranks 3``. Each run starts anew, is killed once between its first
checkpoint and its end, and is resumed. Its weights, records and frames must be those of a run that nobody kills, bit
for bit. Needs a system with ``fork``.
"""

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from multiprocessing.context import ForkProcess
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from benchmarks.machine import machine
from benchmarks.report import save
from dfa import LayerParallel, Plan
from dfa.data import Dataset, load
from dfa.experiments.ranked import shared_feedback
from dfa.experiments.tasks import limit_samples
from dfa.models import mlp
from dfa.training.rank_loop import train_ranks

RANKS = 3
FORK = multiprocessing.get_context("fork")
PLAN = Plan(hidden=(48, 40), epochs=10, batch_size=64, samples=256)
ENDED_S, WHOLE_S = 60.0, 900.0
"""Seconds after which a process counts as hanging: if another one is dead, and in a whole run."""


def work(folder: Path, rank: int) -> None:
    """Train as one of the processes, and write the weights."""
    sys.stderr = (folder / f"said-{rank}").open("a", buffering=1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS)
    data = limit_samples(load(PLAN.data), PLAN.samples)
    assert isinstance(data, Dataset) and PLAN.hidden and PLAN.epochs and PLAN.batch_size
    group = init_device_mesh("cpu", (1, RANKS)).get_group(1)
    feedback = shared_feedback("optical", PLAN, data, 0, group, rank)
    stage = LayerParallel(mlp([data.features, *PLAN.hidden, data.classes]), feedback)
    history = train_ranks(
        stage,
        data,
        folder=folder / "run",
        epochs=PLAN.epochs,
        batch_size=PLAN.batch_size,
        learning_rate=1e-3,
        seed=0,
        settings={},
        tell=lambda line: (folder / f"told-{rank}").write_text(line),
    )
    rows = [record.row() for record in history]
    torch.save({"weights": stage.module.state_dict(), "rows": rows}, folder / f"found-{rank}.pt")
    dist.destroy_process_group()


def start(folder: Path) -> list[ForkProcess]:
    """Start the processes."""
    (folder / "meet").unlink(missing_ok=True)
    processes = [FORK.Process(target=work, args=(folder, rank)) for rank in range(RANKS)]
    for process in processes:
        process.start()
    return processes


def wait(processes: list[ForkProcess], limit_s: float = WHOLE_S) -> tuple[list[int | None], float]:
    """Wait for all; return their exit codes, and the seconds it took. A process that hangs is killed: code -9."""
    began = time.monotonic()
    for process in processes:
        process.join(max(began + limit_s - time.monotonic(), 0.0))
        process.kill()
        process.join()
    return [process.exitcode for process in processes], time.monotonic() - began


def wait_for(path: Path) -> None:
    """Wait until a file exists, for at most `WHOLE_S`."""
    began = time.monotonic()
    while not path.exists() and time.monotonic() - began < WHOLE_S:
        time.sleep(0.01)


def found_in(folder: Path) -> list[dict]:
    """What the processes found."""
    return [torch.load(folder / f"found-{rank}.pt", weights_only=True) for rank in range(RANKS)]


def equal(one: list[dict], other: list[dict]) -> bool:
    """Whether weights and records are the same, bit for bit."""
    return all(
        a["rows"] == b["rows"] and all(torch.equal(value, b["weights"][name]) for name, value in a["weights"].items())
        for a, b in zip(one, other, strict=True)
    )


def kill_once(wanted: list[dict], seconds: float, draw: random.Random) -> dict | None:
    """Kill a rank of a new run and resume it; None if the run was over before."""
    with tempfile.TemporaryDirectory() as name:
        folder, killed, moment = Path(name), draw.randrange(RANKS), draw.uniform(0.0, seconds)
        processes = start(folder)
        wait_for(folder / "run" / "last.json")
        time.sleep(moment)
        if alive := processes[killed].is_alive():
            processes[killed].kill()
        codes, ended_s = wait(processes, ENDED_S)
        if not alive:
            return None
        others = [code for rank, code in enumerate(codes) if rank != killed]
        step = json.loads((folder / "run" / "last.json").read_text())["step"]
        told = [one.read_text().strip() for one in sorted(folder.glob("told-*"))]
        resumed = wait(start(folder))[0] == [0] * RANKS
        return {
            "rank": killed,
            "moment_s": round(moment, 2),
            "last_step": step,
            "others_ended_s": round(ended_s, 2),
            "others_ended": all(code is not None and code > 0 for code in others),
            "told": told[0].replace(name, "") if told else "",
            "same_bits": resumed and equal(found_in(folder), wanted),
        }


def main() -> None:
    """Kill, resume, compare, and print a line for each kill."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description="Kills of ranks.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    given = parser.parse_args()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    load(PLAN.data)  # once, and not in each process
    torch.optim.SGD([torch.zeros(1)])
    draw, found, where = random.Random(0), list[dict](), machine()
    with tempfile.TemporaryDirectory() as name:
        processes = start(Path(name))
        wait_for(Path(name) / "run" / "last.json")
        began = time.monotonic()
        if wait(processes)[0] != [0] * RANKS:
            raise RuntimeError(f"the run that nobody kills has failed: {(Path(name) / 'said-0').read_text()[-300:]}")
        seconds, wanted = time.monotonic() - began, found_in(Path(name))
    while len(found) < given.kills:
        if one := kill_once(wanted, seconds, draw):
            found.append(one)
            print(one, flush=True)
    same = sum(one["same_bits"] for one in found)
    print(f"{same} of {len(found)} resume to the same bits; from its first checkpoint on a run takes {seconds:.1f} s")
    save(given.out, f"python -m benchmarks.kills --kills {given.kills}", machine=where, kills=found)


if __name__ == "__main__":
    main()
