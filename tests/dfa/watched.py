"""Processes of tests/dfa/training/test_ranks.py: a run that is saved and resumed, or in which a process ends."""

import os
import signal
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy

from calibration import measure_projection
from dfa import LayerParallel, RandomFeedback, RankCheckpoint, RankDevice, RankFeedback
from dfa.models import mlp
from photonics import presets
from tests.dfa.stages import fork

UNITS, CLASSES = [6, 20, 18, 5], 5


def shared_feedback():
    """Feedback through one device that the processes share."""
    device = RankDevice(presets.lab_bench(CLASSES + 6, 100, seed=4))
    device.autoexpose(0.3)
    return RankFeedback(measure_projection(device, n_inputs=CLASSES), recalibrate_every=3)


def run_of(folder, feedback, units=UNITS):
    """A new stage, its optimiser and its checkpoint."""
    torch.manual_seed(0)
    stage = LayerParallel(mlp(units), feedback)
    optimiser = torch.optim.Adam(stage.module.parameters(), 0.02)
    return stage, optimiser, RankCheckpoint(folder, stage, optimiser, {"seed": 0})


def train(stage, optimiser, first, last):
    """Train from one step to another."""
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        x, y = torch.randn(5, UNITS[0], generator=generator), torch.arange(5)
        output = stage(x)
        optimiser.zero_grad()
        stage.backward(None if output is None else cross_entropy(output, y))
        optimiser.step()


def save_and_go_on(folder):
    """Save after 4 steps, and store the weights after 8; a new run that loads the checkpoint must have them, too."""
    stage, optimiser, checkpoint = run_of(folder, shared_feedback())
    with checkpoint.watch():
        assert checkpoint.load() == 0
        for step in (0, 2):
            train(stage, optimiser, step, step + 2)
            checkpoint.save(step + 2)
        train(stage, optimiser, 4, 8)
    torch.save(stage.module.state_dict(), Path(folder) / f"after-{stage.rank}.pt")
    again, optimiser, checkpoint = run_of(folder, shared_feedback())
    with checkpoint.watch():
        first = checkpoint.load()
        assert first == 4
        train(again, optimiser, first, 8)
    for one, two in zip(again.module.parameters(), stage.module.parameters(), strict=True):
        assert torch.equal(one, two)


def end_early(rank, size, folder, how):
    """Train until process 1 is killed, raises an error, or hangs."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    stage, optimiser, checkpoint = run_of(folder, RandomFeedback(rank))
    with checkpoint.watch():
        train(stage, optimiser, 0, 2)
        checkpoint.save(2)
        if rank == 1 and how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if rank == 1 and how == "error":
            raise ValueError("data must be there")
        if rank == 1 and how == "hangs":
            os.kill(os.getpid(), signal.SIGSTOP)
        train(stage, optimiser, 2, 1000)


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    folder, *how = sys.argv[1:]
    if not how:  # started by torchrun
        dist.init_process_group("gloo")
        save_and_go_on(folder)
        dist.destroy_process_group()
        sys.exit()
    torch.optim.SGD([torch.zeros(1)])
    begun, size = time.monotonic(), 3
    runs = {
        one: [
            fork(rank, size, f"{folder}/{one}", lambda r, s, f, one=one: end_early(r, s, f, one))
            for rank in range(size)
        ]
        for one in how
    }
    for one, ranks in runs.items():
        for process in (ranks[0], ranks[2]):
            code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            print(one, code, time.monotonic() - begun, flush=True)
        if one == "hangs":
            os.kill(ranks[1], signal.SIGKILL)
        os.waitpid(ranks[1], 0)
