"""The shared training loop: records and their files, the optimiser, and an error when a run cannot continue."""

import csv
import dataclasses
import json
import math
from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy

from calibration import measure_projection
from dfa import DirectFeedback, LayerFeedback, OpticalFeedback, RandomFeedback, Ternary, alignment, train
from dfa.data import digits
from dfa.data.text import split_text
from dfa.errors import Diverged
from dfa.models import char_transformer, mlp
from dfa.training.images import accuracy
from dfa.training.language import bits_per_character, train_text
from photonics import presets
from tests.dfa.networks import flat_weights


@pytest.fixture(scope="module")
def data():
    whole = digits()
    return dataclasses.replace(whole, train=(whole.train[0][:320], whole.train[1][:320]))


def optical(exposure=1.0):
    opu = presets.lab_bench(20, 60, seed=0).replace(**{"laser.power_w": 2.0})
    opu.autoexpose()
    projection = measure_projection(opu, n_inputs=10)
    opu.exposure_s *= exposure
    return OpticalFeedback(projection)


def make(feedback=None, learns=True):
    model = mlp([64, 24, 24, 10], seed=0)
    return model, DirectFeedback(model, feedback=feedback) if learns else None


def test_a_record_has_the_measured_values(data):
    """Angles equal those of `alignment`; shares are between 0 and 1; the share of codes equals the encoder's.

    Catches: the angle on other samples, a share over the shown rows only, frames without calibration.
    """
    model, learner = make(optical())
    x, y = data.train
    seen = train(model, data, learner, epochs=2, align=64, progress=False)[-1]
    model.eval()
    assert list(seen.angles.values()) == alignment(learner, cross_entropy, x[:64], y[:64])
    assert list(seen.angles) == list(seen.gradients) == learner.names
    assert 0 < seen.nonzero <= seen.shown <= 1
    assert 0 <= seen.saturated < 0.1
    assert 0 < seen.snr_db < 40
    assert seen.frames == learner.feedback.projection.opu.clock.frames
    assert seen.step == 6 and seen.epoch == 2
    assert (seen.validation, seen.test) == (accuracy(model, *data.validation), accuracy(model, *data.test))
    assert not learner.feedback.watch


def test_gradients_are_means_of_the_watched_steps(data):
    """With a record after one step, they are the norms of its gradients. Catches: those of another block."""
    few = dataclasses.replace(data, train=(data.train[0][:32], data.train[1][:32]))
    model, learner = make(RandomFeedback(0))
    seen = train(model, few, learner, epochs=1, progress=False)[0]
    for k, (name, norm) in enumerate(seen.gradients.items()):
        grads = torch.cat([p.grad.flatten() for p in learner.parameters(k)])
        assert norm == pytest.approx(float(grads.norm()), rel=1e-5), name
    model, _ = make(learns=False)
    assert list(train(model, few, epochs=1, progress=False)[0].gradients) == learner.names


@pytest.mark.parametrize("kind", ["optical", "bp"])
def test_diagnostics_change_no_weight(data, kind):
    """Catches: counted frames of watched steps or of the alignment; gradients that the alignment leaves."""
    ends = []
    for watched in (True, False):
        feedback = optical() if kind == "optical" else None
        model, learner = make(feedback, kind != "bp")
        history = train(model, data, learner, epochs=2, diagnostics=watched, progress=False)
        assert bool(history[-1].gradients) == watched
        ends.append((flat_weights(model), history[-1].frames))
    assert torch.equal(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1]


def test_metrics_files_equal_the_records(data, tmp_path):
    """Every number of the table equals that of the record, to the last bit; the JSON file also has the settings.

    Catches: rounded numbers, NaN in JSON, a missing column.
    """
    model, learner = make(optical())
    none = data.test[0][:0], data.test[1][:0]
    history = train(
        model, dataclasses.replace(data, validation=none), learner, epochs=2, folder=tmp_path, progress=False
    )
    with open(tmp_path / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == [epoch.loss for epoch in history]
    assert [float(row["angle/0"]) for row in rows] == [epoch.angles["0"] for epoch in history]
    assert [float(row["snr_db"]) for row in rows] == [epoch.snr_db for epoch in history]
    assert all(math.isnan(float(row["validation"])) for row in rows)
    document = json.loads((tmp_path / "metrics.json").read_text())
    assert document["settings"]["optimiser"] == "Adam"
    assert [record["gradient/2"] for record in document["records"]] == [e.gradients["2"] for e in history]
    assert document["records"][0]["validation"] is None


def test_the_optimiser_of_the_user_gets_clipped_gradients(data, tmp_path):
    """One step of SGD at rate 1 moves the weights by the clipped norm. Catches: Adam, a gradient clipped per tensor."""
    few = dataclasses.replace(data, train=(data.train[0][:32], data.train[1][:32]))
    sgd = partial(torch.optim.SGD, lr=1.0)
    moved = []
    for limit in (None, 0.01):
        model, learner = make(RandomFeedback(0))
        before = flat_weights(model)
        train(
            model, few, learner, epochs=1, optimiser=sgd, clip_norm=limit, folder=tmp_path / str(limit), progress=False
        )
        moved.append(float((flat_weights(model) - before).norm()))
    assert moved[0] > 0.05
    assert moved[1] == pytest.approx(0.01, rel=1e-3)
    model, learner = make(RandomFeedback(0))
    with pytest.raises(ValueError, match="must be of a run with optimiser 'Adam', got one with 'SGD'"):
        train(model, few, learner, epochs=2, folder=tmp_path / "None", resume=True, progress=False)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"optimiser": partial(torch.optim.SGD, lr=1.0)}, {"optimiser": partial(torch.optim.SGD, lr=0.1)}, "lr"),
        ({"learning_rate": 1e-3}, {"learning_rate": 2e-3}, "learning_rate 0.002, got one with 0.001"),
        ({"feedback": RandomFeedback(0)}, {"feedback": RandomFeedback(1)}, "feedback.seed"),
        ({"feedback": RandomFeedback(0)}, {"feedback": RandomFeedback(0, shared=False)}, "feedback.shared"),
        (
            {"feedback": RandomFeedback(matrix=torch.ones(48, 10))},
            {"feedback": RandomFeedback(matrix=torch.eye(48, 10))},
            "feedback.matrix",
        ),
    ],
)
def test_a_resumed_run_refuses_other_settings(data, tmp_path, first, second, message):
    """It continues with the same settings. Catches: a rate or a seed that is accepted and ignored."""

    def run(epochs, feedback=None, **options):
        model, learner = make(feedback or RandomFeedback(0))
        train(model, data, learner, epochs=epochs, folder=tmp_path, resume=epochs > 1, progress=False, **options)

    run(1, **first)
    with pytest.raises(ValueError, match=rf"last\.pt must be of a run with .*{message}"):
        run(2, **second)
    run(2, **first)


def test_a_resumed_run_refuses_another_seed_of_layers(tmp_path):
    """Catches: matrices of layerwise rules whose seed is taken from the file."""
    text = split_text("period", "abcdefgh" * 100)

    def run(steps, seed):
        model = char_transformer(8, 16, 16, 2, 2)
        learner = LayerFeedback(model, "random", seed=seed)
        resume = steps > 2
        train_text(
            model, text, learner, steps=steps, batch_size=4, context=12, folder=tmp_path, resume=resume, progress=False
        )

    run(2, 0)
    with pytest.raises(ValueError, match=r"must be of a run with learner .*, got one with .*'seed': 0"):
        run(4, 1)


def test_infinite_weights_stop_a_run(data, tmp_path):
    """Even if the loss is finite; they are not saved. Catches: a checkpoint with infinite weights."""

    def start():
        model, _ = make(learns=False)
        model.register_parameter("unused", torch.nn.Parameter(torch.zeros(2)))
        return model

    train(start(), data, epochs=1, folder=tmp_path, progress=False)
    kept = (tmp_path / "last.pt").read_bytes()
    model = start()

    def poison(parameter):
        model.unused.data.fill_(math.inf)

    model[0].weight.register_post_accumulate_grad_hook(poison)
    with pytest.raises(
        Diverged, match=r"weights must be finite, got NaN or infinity in unused.*\(step 6\); .*last\.pt, of step 3"
    ):
        train(model, data, epochs=2, folder=tmp_path, resume=True, progress=False)
    assert (tmp_path / "last.pt").read_bytes() == kept


@pytest.mark.parametrize(
    "feedback", [RandomFeedback(matrix=torch.zeros(48, 10)), RandomFeedback(0, Ternary(threshold=2))]
)
def test_dead_feedback_stops_a_run(data, feedback, tmp_path):
    """A signal of zeros, and a threshold above every error. Catches: hidden layers that never learn."""
    model, learner = make(feedback)
    with pytest.raises(Diverged, match=r"feedback must reach the hidden blocks, got none since step 1 at a loss"):
        train(model, data, learner, epochs=60, learning_rate=1e-5, folder=tmp_path, progress=False)
    assert (tmp_path / "last.pt").exists()


def test_learned_samples_may_have_empty_codes(data):
    """With a fixed threshold the codes of learned samples become empty. Catches: a guard that counts codes."""
    few = dataclasses.replace(data, train=(data.train[0][:20], data.train[1][:20]))
    model, learner = make(RandomFeedback(0, Ternary(threshold=0.95)))
    history = train(model, few, learner, epochs=200, learning_rate=2e-2, progress=False)
    assert history[-1].shown == 0.0
    assert history[-1].loss < history[0].loss / 2


@pytest.mark.filterwarnings("ignore:frames do not fit the model")  # the anchor is of another exposure
def test_a_saturated_camera_stops_a_run(data, tmp_path):
    """The message names the last checkpoint. Catches: a share of the codes; a limit that no camera reaches."""
    model, learner = make(optical(exposure=39.0))
    with pytest.raises(Diverged, match=r"camera must not be saturated, got \d+% .*; the last good checkpoint is "):
        train(model, data, learner, epochs=60, folder=tmp_path, progress=False)


def test_layerwise_rules_and_text_have_records(tmp_path):
    text = split_text("period", "abcdefgh" * 100)
    model = char_transformer(8, 16, 16, 2, 2)
    learner = LayerFeedback(model, "random")
    last = train_text(model, text, learner, steps=4, batch_size=4, context=12, folder=tmp_path, progress=False)[-1]
    assert list(last.angles) == learner.names
    assert last.nonzero is None
    assert last.validation == last.test == bits_per_character(model, text.validation, 12)
    assert "nonzero" in (tmp_path / "metrics.csv").read_text().splitlines()[0]


def test_bad_options_are_refused(data):
    model, _ = make()
    for options, message in [
        ({"clip_norm": 0.0}, "clip_norm must be positive"),
        ({"checkpoint_every": -1}, "checkpoint_every must be 0 or more"),
        ({"resume": True}, "folder must be given"),
        ({"tensorboard": True}, "folder must be given"),
    ]:
        with pytest.raises(ValueError, match=message):
            train(model, data, progress=False, **options)
