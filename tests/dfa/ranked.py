"""Processes of tests/dfa/feedback/test_ranks.py, forks of one: training through one device that all of them share."""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy

from calibration import measure_projection
from dfa import RankDevice, RankFeedback, Ternary
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
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    torch.optim.SGD([torch.zeros(1)])
    ranks = [fork(rank, size, f"{sys.argv[1]}/{size}", main) for size in WORLDS for rank in range(size)]
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) != 0 for process in ranks))
