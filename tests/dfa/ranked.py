"""Processes of tests/dfa/feedback/test_ranks.py, forks of one: training through one device that all of them share."""

import math
import os
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.functional import cross_entropy

from calibration import measure_projection
from dfa import RandomFeedback, RankCheckpoint, RankDevice, RankFeedback, Ternary
from dfa.errors import Diverged
from dfa.models import mlp
from dfa.rules.parallel import LayerParallel
from photonics import presets
from tests.dfa.stages import fork

UNITS, CLASSES, SIZES = [12, 20, 17, 23, 9], 9, (7, 7, 3)
"""Units of a chain of four blocks, of uneven widths; and rows of each batch, the last one partial."""
WORLDS = (1, 2, 4)
METHODS = {
    "anchor": {"n_inputs": CLASSES},
    "phase-stepping": {},
    "reference-pairs": {},
    "multilateration": {"n_inputs": CLASSES},
}
NEIGHBOURS = "reference-pairs"
"""Method whose frames of an error are neighbours, so that replicas take the frames of one process."""


def opu_of(method):
    """A device, before its exposure is set."""
    return presets.lab_bench(24 if METHODS[method] else CLASSES, 154, seed=4)


def batches():
    for step, rows in enumerate(SIZES):
        generator = torch.Generator().manual_seed(step)
        yield torch.randn(rows, UNITS[0], generator=generator), torch.randint(0, CLASSES, (rows,), generator=generator)


def settings():
    return {"encoder": Ternary(), "recalibrate_every": 2}


def main(rank, size, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    found = {}
    for method, options in list(METHODS.items())[: 2 if size < 4 else None]:
        device = RankDevice(opu_of(method))
        device.autoexpose(0.3)
        feedback = RankFeedback(measure_projection(device, method, **options), **settings())
        torch.manual_seed(0)
        stage = LayerParallel(mlp(UNITS), feedback)
        optimiser = torch.optim.SGD(stage.module.parameters(), 0.5)
        sent = []
        for x, y in batches():
            output = stage(x)
            optimiser.zero_grad()
            stage.backward(None if output is None else cross_entropy(output, y))
            optimiser.step()
            sent.append(device.sent)
        found[method] = {
            "weights": stage.module.state_dict(),
            "frames": feedback.frames,
            "exposure": device.exposure_s,
            "sent": sent,
            "pixels": device.share.n_out,
            "backward": stage.traffic["backward"],
            "device": feedback.state_dict()["device"],
        }
    if size != 2:
        found["parts"] = in_parts(1, size, folder)
    if size == 4:
        found["replicas"] = in_parts(2, size, folder)
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def refuse(mesh):
    """Replicas with other matrices are refused in all processes, and all stop if the loss of one is not finite."""
    with pytest.raises(ValueError, match="replicas must have the same weights and feedback for the same blocks"):
        LayerParallel(mlp(UNITS, seed=0), RandomFeedback(dist.get_rank()), mesh=mesh)
    for feedback in (None, RandomFeedback(mesh.get_local_rank(1))):
        stage = LayerParallel(mlp(UNITS, seed=0), feedback, mesh=mesh)
        output = stage(torch.zeros(2, UNITS[0]))
        with pytest.raises(Diverged, match="must be finite"):
            stage.backward(None if output is None else output.sum() * (math.nan if stage.replica else 1.0))


def in_parts(replicas, size, folder):
    """Train in micro-batches, with replicas; save on the way, and resume from there."""
    mesh = init_device_mesh("cpu", (replicas, size // replicas))

    def build():
        device = RankDevice(opu_of(NEIGHBOURS), mesh.get_group(1))
        device.autoexpose(0.3)
        feedback = RankFeedback(measure_projection(device, NEIGHBOURS), **settings())
        torch.manual_seed(0)
        stage = LayerParallel(mlp(UNITS), feedback, micro_batches=3, mesh=mesh)
        optimiser = torch.optim.SGD(stage.module.parameters(), 0.5)
        return stage, optimiser, RankCheckpoint(f"{folder}/{replicas}", stage, optimiser)

    def train(first, stage, optimiser, checkpoint):
        for step, (x, y) in list(enumerate(batches()))[first:]:
            output = stage(stage.shard(x))
            optimiser.zero_grad()
            stage.backward(None if output is None else cross_entropy(output, stage.shard(y)))
            optimiser.step()
            if step == 1:
                checkpoint.save(2)
        return stage

    if replicas > 1:
        refuse(mesh)
    stage = train(0, *build())
    run = build()
    again = train(run[2].load(), *run)
    for one, two in zip(stage.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(one, two)
    return {
        "weights": stage.module.state_dict(),
        "frames": stage.feedback.frames,
        "traffic": dict(stage.traffic),
    }


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    torch.optim.SGD([torch.zeros(1)])
    ranks = [fork(rank, size, f"{sys.argv[1]}/{size}", main) for size in WORLDS for rank in range(size)]
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) != 0 for process in ranks))
