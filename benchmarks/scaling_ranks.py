"""Layer-parallel steps between processes whose network is shaped, for `benchmarks.scaling`.

`run_ranks` starts this module in a network namespace of its own, which needs root on Linux. There ``tc`` gives the
loopback interface a rate, and the ranks talk to each other through gloo.

Times are those of an idle machine: wall time without the time in which a rank's main thread could work and waited for
a processor, as the kernel counts it (``/proc/self/task/.../schedstat``). Only waits that delay the step are left out:
those of all ranks where one works after the other, the longest where they work at the same time, none after a message
is sent.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.functional import cross_entropy

from benchmarks.child import environment
from calibration import measure_projection
from dfa import LayerParallel, RandomFeedback, RankDevice, RankFeedback, Ternary
from dfa.costs import Network
from dfa.feedback.encoding import Code
from dfa.models import mlp
from photonics import presets

__all__ = ["run_ranks", "seconds_of", "sizes"]

MTU_BYTES = 9000
"""Largest packet, as on Ethernet with jumbo frames. The 65536 of a loopback exceed the burst of the shaper."""
BURST_BYTES = 32 * 1024
"""Burst of the shaper: small beside a message, so that its rate holds for each of them."""
TIMEOUT_S = 300.0


def run_ranks(ranks: int, jobs: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Run jobs in every rank, one after the other; return what each rank measured in each.

    Parameters
    ----------
    ranks : int
    jobs : sequence of dict
        ``rate``, bytes/s of the loopback interface or None, and the arguments of `measure_steps` or `measure_latency`.
    """
    with tempfile.TemporaryDirectory() as folder:
        text = json.dumps({"folder": folder, "ranks": ranks, "jobs": list(jobs)})
        command = ["unshare", "--net", sys.executable, "-m", "benchmarks.scaling_ranks", "all", text]
        run = subprocess.run(command, env=environment(), capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"ranks failed: {run.stderr[-300:]}")
    return json.loads(run.stdout.splitlines()[-1])


def run_all(text: str) -> None:
    """Run all ranks; called in the namespace."""
    subprocess.run(f"ip link set lo mtu {MTU_BYTES} up".split(), check=True)
    command = [sys.executable, "-m", "benchmarks.scaling_ranks"]
    ranks = range(json.loads(text)["ranks"])
    runs = [subprocess.Popen([*command, str(rank), text], stdout=subprocess.PIPE) for rank in ranks]
    try:
        printed = [run.communicate(timeout=2 * TIMEOUT_S)[0] for run in runs]
    finally:
        for run in runs:
            run.kill()
    if any(run.returncode for run in runs):
        raise RuntimeError("a rank failed")
    print(json.dumps([json.loads(one.splitlines()[-1]) for one in printed]))


def run_rank(rank: int, folder: str, ranks: int, jobs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Measure as one of the ranks."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    limit = timedelta(seconds=TIMEOUT_S)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks, timeout=limit)
    found = []
    for job in jobs:
        rate = job.pop("rate")
        if rank == 0:
            shape(rate)
        dist.barrier()
        measure = measure_bytes if "feedback" in job else measure_latency if "messages" in job else measure_steps
        found.append(measure(rank, **job))
        dist.barrier()
    dist.destroy_process_group()
    return found


def shape(rate: float | None) -> None:
    """Give the loopback interface a rate, bytes/s; None takes it away."""
    subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], stderr=subprocess.DEVNULL)
    if rate is not None:
        command = f"tc qdisc add dev lo root tbf rate {8 * rate:.0f}bit burst {BURST_BYTES} limit 50000000"
        subprocess.run(command.split(), check=True)


def measure_latency(rank: int, messages: int) -> dict[str, Any]:
    """Half of the shortest time in which 64 bytes go from rank 0 to rank 1 and come back: that of an idle machine."""
    data, took = torch.zeros(64, dtype=torch.uint8), []
    for _ in range(messages if rank < 2 else 0):
        start = time.perf_counter()
        for sender in (0, 1):
            (dist.send if rank == sender else dist.recv)(data, 1 - rank)
        took.append(time.perf_counter() - start)
    return {"latency_s": min(took, default=0.0) / 2}


class Clocked(RandomFeedback):
    """Random feedback that waits as long as the frames of the rank's device would take."""

    def __init__(self, seed: int, wait_s: float) -> None:
        super().__init__(seed, Ternary(threshold=0.1))
        self.wait_s = wait_s

    def _signals(self, code: Code, widths: Sequence[int], dtype: torch.dtype) -> list[torch.Tensor]:
        time.sleep(self.wait_s)
        return super()._signals(code, widths, dtype)


class Waits:
    """Seconds in which the main thread could work and had no processor, without those of sending."""

    def __init__(self, part: LayerParallel) -> None:
        self.sending = 0.0
        wire = part._wire
        for name in ("send", "finish", "teach"):
            setattr(wire, name, self.leave_out(getattr(wire, name)))

    def leave_out(self, send: Callable[..., None]) -> Callable[..., None]:
        """Return the same call, whose waits do not count."""

        def call(*arguments: object) -> None:
            before = self.read()
            send(*arguments)
            self.sending += self.read() - before

        return call

    def read(self) -> float:
        """Seconds so far."""
        waited = Path(f"/proc/self/task/{os.getpid()}/schedstat").read_text().split()[1]
        return int(waited) * 1e-9 - self.sending


def measure_steps(rank: int, rule: str, network: dict[str, Any], steps: int, wait_s: float = 0.0) -> dict[str, Any]:
    """Train; return wall time and waits of each step, and the bytes that the code and the interface counted."""
    given = Network(**network)
    feedback = {"bp": None, "dfa": RandomFeedback(rank, Ternary(threshold=0.1)), "clocked": Clocked(rank, wait_s)}[rule]
    part = LayerParallel(mlp(sizes(given)), feedback)
    waits, optimiser = Waits(part), torch.optim.SGD(part.module.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(given.batch, given.inputs, generator=generator)
    y = torch.randint(0, given.classes, (given.batch,), generator=generator)
    took, before = list[list[float]](), 0
    for count in range(steps + 2):  # the first two allocate buffers and draw matrices
        if count == 2:
            dist.barrier()
            part.traffic.clear()
            took.clear()
            before = wire_bytes()
        start, seen = time.perf_counter(), [waits.read()]
        output = part(x)
        seen.append(waits.read())
        optimiser.zero_grad()
        part.backward(None if output is None else cross_entropy(output, y))
        seen.append(waits.read())
        optimiser.step()
        seen.append(waits.read())
        took.append([time.perf_counter() - start, *(b - a for a, b in pairwise(seen))])
    dist.barrier()
    return {"steps": took, "sent": sum(part.traffic.values()), "wire": wire_bytes() - before}


def measure_bytes(rank: int, feedback: str, replicas: int, micro_batches: int) -> dict[str, Any]:
    """Bytes of a calibration and of three steps, as the code and the interface of all ranks counted them."""
    mesh, classes, pixels = init_device_mesh("cpu", (replicas, dist.get_world_size() // replicas)), 10, 4000
    sent = before = wire_bytes()
    source = None
    if feedback == "shared":
        device = RankDevice(presets.lab_bench(2 * classes, pixels), mesh.get_group(1))
        device.autoexpose()
        source = RankFeedback(measure_projection(device, n_inputs=classes))
        dist.barrier()
        sent, before = device.sent, wire_bytes() - before
    elif feedback == "random":
        source = RandomFeedback(mesh.get_local_rank(1), Ternary(threshold=0.1))
    part = LayerParallel(mlp([784, *[768] * 4, classes]), source, micro_batches=micro_batches, mesh=mesh)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(256, 784, generator=generator), torch.arange(256) % classes
    start = 0
    for step in range(4):  # in the first one, processes tell each other the widths of their blocks
        if step == 1:
            part.traffic.clear()
            dist.barrier()
            start = wire_bytes()
            dist.barrier()
        output = part(part.shard(x))
        part.backward(None if output is None else cross_entropy(output, part.shard(y)))
    dist.barrier()
    calibration = [sent, before] if feedback == "shared" else [0, 0]
    return {"traffic": dict(part.traffic), "wire": wire_bytes() - start, "calibration": calibration}


def seconds_of(found: Sequence[dict[str, Any]], rule: str) -> tuple[float, float]:
    """Median seconds of a step without waits for a processor, and with them; `found` is what each rank measured."""
    free, all_ = [], []
    for ranks in zip(*(one["steps"] for one in found), strict=True):
        wall = ranks[-1][0]
        if rule == "bp":  # one after the other; the other ranks update while the first one still works
            backward = sum(waits[2] for waits in ranks) + ranks[0][3]
        else:
            backward = max(waits[2] + waits[3] for waits in ranks)
        free.append(wall - sum(waits[1] for waits in ranks) - backward)
        all_.append(wall)
    return statistics.median(free), statistics.median(all_)


def wire_bytes() -> int:
    """Bytes that the loopback interface of this namespace has sent, with the headers of all packets."""
    line = next(line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
    return int(line.split(":")[1].split()[8])


def sizes(network: Network) -> list[int]:
    """Units of each layer, for `dfa.models.mlp`."""
    return [network.inputs, *[network.width] * network.depth, network.classes]


if __name__ == "__main__":
    role, text = sys.argv[1:]
    if role == "all":
        run_all(text)
    else:
        print(json.dumps(run_rank(int(role), **json.loads(text))))
