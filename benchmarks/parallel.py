"""Traffic of layer-parallel training: 8 hidden layers of 2048, batch 256, 10 classes, 4 processes.

``python -m benchmarks.parallel`` prints the rows. Bytes are those that the processes write, as Linux counts them: the
traffic without the headers of the packets.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import TypedDict

import psutil
import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy

from benchmarks.child import environment
from benchmarks.machine import machine
from benchmarks.report import show
from benchmarks.row import Row
from dfa import RandomFeedback, Ternary
from dfa.models import mlp
from dfa.rules.parallel import LayerParallel

PROCESSES, CLASSES = 4, 10
RULES = {"bp": "backpropagation", "dfa": "DFA, error as float32", "ternary": "ternary DFA"}


def rows(quick: bool) -> Iterator[Row]:
    """Bytes that go backward in a step, and the time of a step, by each rule."""
    width, batch, steps = (64, 16, 2) if quick else (2048, 256, 6)
    found = {rule: run_processes(rule, width, batch, steps) for rule in RULES}
    entries = (PROCESSES - 1) * batch
    promised = {"bp": 4 * entries * width, "dfa": 4 * entries * CLASSES, "ternary": entries * CLASSES / 4}
    for rule, stages in found.items():
        total = {name: sum(stage[name] for stage in stages) / steps for name in ("backward", "wire", "forward")}
        yield Row(
            name=f"{RULES[rule]}: bytes sent backward in a step over {promised[rule]:.0f}",
            unit="B",
            values={"payload": total["backward"], "written": total["wire"], "forward": total["forward"]},
            ratio=total["backward"] / promised[rule],
            target="<= 1.05",
            note=f"{PROCESSES} processes, batch {batch}, width {width}",
        )
    for rule in ("dfa", "ternary"):
        took = [max(stage["seconds"] for stage in found[name]) / steps for name in (rule, "bp")]
        yield Row(
            name=f"{RULES[rule]}: time of a step over backpropagation's, {PROCESSES} processes",
            unit="s",
            values={rule: took[0], "bp": took[1]},
            ratio=took[0] / took[1],
            note="wall time; the processes share the machine's cores",
        )


class Traffic(TypedDict):
    """What one process measured."""

    backward: int
    """Bytes sent backward."""
    forward: int
    """Bytes sent forward."""
    wire: int
    """Bytes written during the backward passes."""
    seconds: float


def run_processes(rule: str, width: int, batch: int, steps: int) -> list[Traffic]:
    """Train in several processes; return what each measured."""
    with tempfile.TemporaryDirectory() as folder:
        settings = json.dumps({"rule": rule, "width": width, "batch": batch, "steps": steps, "folder": folder})
        command = [sys.executable, "-m", "benchmarks.parallel", "--stage"]
        runs = [
            subprocess.Popen([*command, str(rank), settings], env=environment(), stdout=subprocess.PIPE)
            for rank in range(PROCESSES)
        ]
        printed = [run.communicate()[0] for run in runs]
    if any(run.returncode for run in runs):
        raise RuntimeError(f"{rule}: a process failed")
    return [json.loads(text.splitlines()[-1]) for text in printed]


def stage(rank: int, rule: str, width: int, batch: int, steps: int, folder: str) -> Traffic:
    """Train as one of the processes, and count the bytes that it sends."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=PROCESSES)
    feedback = {"bp": None, "dfa": RandomFeedback(rank), "ternary": RandomFeedback(rank, Ternary(threshold=0.1))}[rule]
    part = LayerParallel(mlp([784, *[width] * 8, CLASSES]), feedback)
    optimiser = torch.optim.SGD(part.module.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 784, generator=generator)
    y = torch.randint(0, CLASSES, (batch,), generator=generator)
    wire, begun = 0, 0.0
    for step in range(steps + 1):  # the first step allocates buffers and draws matrices
        if step == 1:
            dist.barrier()
            part.traffic.clear()
            wire, begun = 0, time.perf_counter()
        output = part(x)
        optimiser.zero_grad()
        before = bytes_written()
        part.backward(None if output is None else cross_entropy(output, y))
        wire += bytes_written() - before
        optimiser.step()
    seconds = time.perf_counter() - begun
    dist.barrier()
    dist.destroy_process_group()
    return {"backward": part.traffic["backward"], "forward": part.traffic["forward"], "wire": wire, "seconds": seconds}


def bytes_written() -> int:
    """Bytes that this process has written so far, sockets included; 0 if the system does not count them."""
    counters = getattr(psutil.Process(), "io_counters", None)
    return counters().write_chars if counters is not None and sys.platform == "linux" else 0


def main(argv: list[str]) -> None:
    """Print the rows, or run as one of the processes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parallel", description="Traffic between processes.")
    parser.add_argument("--stage", nargs=2, metavar=("RANK", "SETTINGS"), help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.stage:
        print(json.dumps(stage(int(given.stage[0]), **json.loads(given.stage[1]))))
        return
    show(list(rows(False)), f"{machine()['processor']}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main(sys.argv[1:])
