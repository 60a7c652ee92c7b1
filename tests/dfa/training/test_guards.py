"""For every task, runs that cannot continue stop with a reason and keep their last good state; others continue."""

import dataclasses

import pytest
import torch

from calibration import measure_projection
from dfa import DirectFeedback, OpticalFeedback, RandomFeedback, Ternary, train
from dfa.data import digits
from dfa.data.text import split_text
from dfa.errors import Diverged
from dfa.models import char_transformer, cnn, gcn, mlp
from dfa.training.checkpoint import Checkpoint
from dfa.training.graphs import train_graph
from dfa.training.guards import PATIENCE
from dfa.training.language import train_text
from photonics import presets
from tests.dfa.citations import three_kinds

CLASSES = {"mlp": 10, "cnn": 10, "gcn": 3, "transformer": 8}


def optical(kind, exposure=1.0):
    """Feedback through a lab bench; from a relative exposure of 39 on most pixels are saturated."""
    opu = presets.lab_bench(2 * CLASSES[kind], 160, seed=0).replace(**{"laser.power_w": 2.0})
    opu.autoexpose()
    projection = measure_projection(opu, n_inputs=CLASSES[kind])
    opu.exposure_s *= exposure
    return OpticalFeedback(projection, Ternary(stochastic=1.0) if kind == "transformer" else Ternary())


def run(kind, feedback, steps, spoil=None, **options):
    """Train a small network for some steps; `spoil` changes its output from some step on."""
    data = three_kinds() if kind == "gcn" else None
    model = {
        "mlp": lambda: mlp([64, 24, 24, 10]),
        "cnn": lambda: cnn(8, (2, 4), 12),
        "gcn": lambda: gcn([12, 8, 3], data.adjacency, 0.1),
        "transformer": lambda: char_transformer(8, 12, 16, 2, 2),
    }[kind]()
    learner = DirectFeedback(model, feedback=feedback, spread="channels", diffuse=data and data.adjacency)
    if spoil is not None:
        model.register_forward_hook(spoil)
    options |= {"progress": False}
    if kind == "gcn":
        return train_graph(model, data, learner, epochs=steps, every=10, **options)
    if kind == "transformer":
        text = split_text("period", "abcdefgh" * 100)
        return train_text(model, text, learner, steps=steps, batch_size=2, context=12, every=10, windows=4, **options)
    whole = digits()
    x, y = whole.train
    few = dataclasses.replace(whole, train=(x[:320], y[:320]), validation=(x[320:350], y[320:350]), test=(x[:0], y[:0]))
    return train(model, few, learner, epochs=steps // 10, batch_size=32, align=32, **options)


@pytest.mark.parametrize("kind", ["cnn", "gcn", "transformer"])
def test_a_loss_of_nan_stops_a_run(kind, tmp_path):
    """From step 20 on; the checkpoint is that of step 16. Catches: a state written before the loss is checked."""
    steps = 0

    def spoil(module, inputs, output):
        nonlocal steps
        steps += module.training
        return output * float("nan") if module.training and steps >= 20 else None

    message = r"loss must be finite, got nan.* \(step 20\); the last good checkpoint is .*last\.pt, of step 16"
    with pytest.raises(Diverged, match=message):
        run(kind, RandomFeedback(0), 30, spoil, folder=tmp_path, checkpoint_every=4)
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert state["step"] == 16
    assert all(bool(torch.isfinite(value).all()) for value in state["model"].values())


@pytest.mark.filterwarnings("ignore:frames do not fit the model")  # the anchor is of another exposure
@pytest.mark.parametrize(
    ("kind", "fault"),
    [("gcn", "feedback must reach the hidden blocks"), ("transformer", "camera must not be saturated")],
)
def test_useless_feedback_stops_a_run(kind, fault, tmp_path):
    """Zeros, and a saturated camera; `test_loop` has images. Catches: a guard that works for one task only."""
    dead = RandomFeedback(matrix=torch.zeros(32, CLASSES[kind]))
    feedback = dead if "reach" in fault else optical(kind, exposure=39.0)
    with pytest.raises(Diverged, match=rf"{fault}, .*\(step \d+\); the last good checkpoint is "):
        run(kind, feedback, PATIENCE + 50, folder=tmp_path, learning_rate=1e-5)


@pytest.mark.parametrize("kind", ["cnn", "gcn", "transformer"])
def test_a_good_run_continues(kind):
    """Through the bench, longer than the patience of the guards. Catches: a guard that counts empty codes."""
    run(kind, optical(kind), PATIENCE + 50)


def test_a_run_that_has_learned_continues():
    """Late in training 97 % of the codes are zero and most errors are not sent. Catches: few codes treated as none."""
    feedback = optical("mlp")
    feedback.encoder = Ternary(threshold=0.2)
    late = run("mlp", feedback, 5 * PATIENCE, learning_rate=1e-2)[-1]
    assert late.nonzero < 0.03
    assert late.shown < 0.1


def test_a_network_that_has_learned_may_be_trained_again():
    """No error exceeds the threshold from the first step on. Catches: a loss compared only with the first one."""
    whole = digits()
    x, y = whole.train
    few = dataclasses.replace(whole, train=(x[:64], y[:64]))
    model = mlp([64, 64, 10])
    learner = DirectFeedback(model, feedback=RandomFeedback(0, Ternary(threshold=0.3)))
    train(model, few, learner, epochs=80, batch_size=64, learning_rate=1e-2, align=0, progress=False)
    again = train(model, few, learner, epochs=PATIENCE + 50, batch_size=64, learning_rate=1e-5, align=0, progress=False)
    assert max(epoch.shown for epoch in again) == 0.0


def test_a_checkpoint_that_was_deleted_is_told(tmp_path):
    """Catches: a folder that is made again silently, with the last state only."""
    checkpoint = Checkpoint(tmp_path / "run", {})
    checkpoint.save({"step": 1})
    (tmp_path / "run" / "last.pt").unlink()
    (tmp_path / "run").rmdir()
    with pytest.warns(UserWarning, match=r"run/last.pt was deleted during the run: it is written again"):
        checkpoint.save({"step": 2})
    assert checkpoint.load()["step"] == 2
