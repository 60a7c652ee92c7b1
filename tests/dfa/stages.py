"""Processes of tests/dfa/rules/test_parallel.py, forks of one: training by every rule, and a loss that is NaN."""

import os
import sys
import traceback
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy

from dfa import RandomFeedback, Ternary
from dfa.errors import Diverged
from dfa.models import mlp
from dfa.rules.parallel import LayerParallel

LONG, SHORT = [12, 16, 18, 20, 16, 5], [12, 16, 18, 5]
"""Units of a chain of five blocks, and of one with a block for each process."""
STEPS, BATCH, PARTS = 4, 6, 4
RULES = {
    "bp": lambda rank: None,
    "dfa": lambda rank: RandomFeedback(seed=rank),
    "ternary": lambda rank: RandomFeedback(rank, Ternary(threshold=0.1)),
    "stochastic": lambda rank: RandomFeedback(rank, Ternary(stochastic=1.0, pairs=True, seed=7)),
    "frozen": lambda rank: RandomFeedback(rank),
    "frozen bp": lambda rank: None,
    "halves": lambda rank: RandomFeedback(rank, Ternary(threshold=0.1)),
    "micro": lambda rank: RandomFeedback(rank, Ternary(deviations=1.0)),
    "micro bp": lambda rank: None,
}


def sizes_of(rule):
    return SHORT if rule == "stochastic" else LONG


def model_of(rule):
    """Return the model; the blocks at both ends are frozen if the rule is."""
    model = mlp(sizes_of(rule))
    if rule.startswith("frozen"):
        for module in (model[0], model[-1]):
            module.requires_grad_(False)
    return model


def pieces(rule, step):
    """Return micro-batches of a step, and the share of each in the loss."""
    x, y = batch(step)
    count = 2 if rule == "halves" else 1
    return [(a, b, 1.0 / count) for a, b in zip(x.chunk(count), y.chunk(count), strict=True)]


def batch(step):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(BATCH, 12, generator=generator), torch.randint(0, 5, (BATCH,), generator=generator)


def main(rank, size, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    found = {}
    for rule, feedback in RULES.items():
        stage = LayerParallel(model_of(rule), feedback(rank), micro_batches=PARTS if "micro" in rule else 1)
        optimiser = torch.optim.SGD(stage.module.parameters(), 0.5)
        for step in range(STEPS):
            optimiser.zero_grad()
            for x, y, share in pieces(rule, step):
                output = stage(x if rank == 0 else None)
                loss = None if output is None else share * cross_entropy(output, y)
                stage.backward(loss, loss_scale=share)
            optimiser.step()
        found[rule] = {"weights": stage.module.state_dict(), "traffic": dict(stage.traffic)}
        output = stage(batch(0)[0] if rank == 0 else None)
        try:
            stage.backward(None if output is None else output.sum() * float("nan"))
        except Diverged as error:
            found[rule]["diverged"] = str(error)
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def fork(rank, size, folder, main=main):
    """Run `main` in a process that has imported everything already; return its number."""
    if process := os.fork():
        return process
    try:
        main(rank, size, folder)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    torch.optim.SGD([torch.zeros(1)])  # the first optimiser imports a compiler: once, not in every process
    ranks = [fork(rank, int(sys.argv[1]), sys.argv[2]) for rank in range(int(sys.argv[1]))]
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) != 0 for process in ranks))
