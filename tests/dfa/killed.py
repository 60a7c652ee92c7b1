"""Train in processes that are killed (SIGKILL) at random steps: ``python -m tests.dfa.killed FOLDER SEED``.

Every kind of run is executed twice, in ``FOLDER/<kind>/unbroken`` and ``FOLDER/<kind>/killed``, each with its final
``weights.pt``. A *life* is a fork of this process, which has imported everything and loaded the compiled kernels, so
that it costs only its steps. The process itself runs no backward pass, after which torch refuses to fork.
"""

import dataclasses
import os
import signal
import sys
import traceback
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from calibration import measure_projection
from dfa import DirectFeedback, OpticalFeedback, RandomFeedback, Ternary, train
from dfa.data import digits
from dfa.data.text import split_text
from dfa.models import char_transformer, cnn, gcn
from dfa.training.graphs import train_graph
from dfa.training.language import train_text
from photonics import GaussianMedium, presets
from photonics.medium import Drifting
from tests.dfa.citations import three_kinds

DIGITS = digits()
torch.optim.SGD([torch.zeros(1)])  # avoids the import of a compiler by the first optimiser


def optical():
    """Feedback through a bench that drifts, calibrated again every 9 steps."""
    opu = presets.lab_bench(20, 80, seed=0).replace(medium=Drifting(GaussianMedium(20, 80, seed=0), 30_000.0))
    opu.autoexpose()
    return OpticalFeedback(measure_projection(opu, n_inputs=10), Ternary(stochastic=1.0), recalibrate_every=9)


def network(fatal):
    """Return a network with dropout that kills the process in the given training step."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 24), nn.Tanh(), nn.Dropout(0.2), nn.Linear(24, 24), nn.Tanh(), nn.Dropout(0.2), nn.Linear(24, 10)
    )
    return dying(model, fatal)


def dying(model, fatal):
    """Let the model kill the process in the forward pass of a training step; alignment and evaluation do not count."""
    taken = 0

    def count(module, inputs):
        nonlocal taken
        taken += module.training
        if module.training and taken == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    model.register_forward_pre_hook(count)
    return model


def image_run(model, learner, folder, resume, **options):
    """Seven batches in an epoch, five epochs: 35 steps."""
    data = dataclasses.replace(DIGITS, train=(DIGITS.train[0][:100], DIGITS.train[1][:100]))
    train(model, data, learner, epochs=5, batch_size=16, folder=folder, resume=resume, checkpoint_every=3,
          align=16, progress=False, **options)  # fmt: skip
    return model


def mlp_run(folder, resume, fatal):
    """Through the bench, with dropout and clipped gradients."""
    model = network(fatal)
    return image_run(model, DirectFeedback(model, feedback=optical()), folder, resume, clip_norm=1.0)


def cnn_run(folder, resume, fatal):
    """A signal for each channel, restored scales."""
    model = dying(cnn(8, (2, 4), 12), fatal)
    feedback = RandomFeedback(0, Ternary(stochastic=0.5, restore=True))
    return image_run(model, DirectFeedback(model, feedback=feedback, spread="channels"), folder, resume)


def graph_run(folder, resume, fatal):
    """40 epochs, the best of which is kept."""
    graph = three_kinds()
    model = dying(gcn([12, 8, 3], graph.adjacency, 0.3), fatal)
    learner = DirectFeedback(model, feedback=RandomFeedback(0, Ternary()), diffuse=graph.adjacency)
    train_graph(model, graph, learner, epochs=40, every=15, folder=folder, resume=resume, checkpoint_every=4,
                progress=False)  # fmt: skip
    return model


def text_run(folder, resume, fatal):
    """30 steps by SGD with momentum."""
    text = split_text("period", "abcdefgh" * 300)
    model = dying(char_transformer(8, 8, 16, 2, 2), fatal)
    learner = DirectFeedback(model, feedback=RandomFeedback(0, Ternary(stochastic=1.0)))
    train_text(model, text, learner, steps=30, batch_size=2, context=8, every=11, windows=4, folder=folder,
               resume=resume, checkpoint_every=2, optimiser=partial(torch.optim.SGD, lr=0.01, momentum=0.9),
               progress=False)  # fmt: skip
    return model


RUNS = {"mlp": mlp_run, "cnn": cnn_run, "graph": graph_run, "text": text_run}


def live(kind, folder, resume, fatal):
    """Run a life in a new process; return the signal that ended it, 0 for none."""
    process = os.fork()
    if process == 0:
        try:
            model = RUNS[kind](folder, resume, fatal)
            torch.save(model.state_dict(), Path(folder, "weights.pt"))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(process, 0)[1]


def lives(kind, folder, steps):
    """Run a life for each step at which it is killed, counted from its start, and a last one to the end."""
    folder.mkdir(parents=True)
    for life, step in enumerate(steps):
        assert live(kind, folder, life > 0, step) == signal.SIGKILL
    assert live(kind, folder, bool(steps), 0) == 0


def load_kernels():
    """Load numba's kernels once instead of in every life."""
    feedback = optical()
    feedback(torch.tensor([[0.5, -0.5] + [0.0] * 8]), [20])
    RandomFeedback(0)(torch.zeros(1, 10), [20])


if __name__ == "__main__":
    torch.set_num_threads(1)
    load_kernels()
    rng = np.random.default_rng(int(sys.argv[2]))
    for kind in RUNS:
        lives(kind, Path(sys.argv[1], kind, "unbroken"), [])
        lives(kind, Path(sys.argv[1], kind, "killed"), [2, *rng.integers(3, 11, 2)])  # the first one has no checkpoint
