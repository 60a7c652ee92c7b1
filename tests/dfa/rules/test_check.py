"""The dry run: it says what a training would do, and changes nothing."""

import copy
import re

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, nll_loss

import dfa
from calibration import measure_projection
from dfa import DirectFeedback, OpticalFeedback, RandomFeedback, Ternary
from dfa.models import cnn, mlp
from photonics import presets
from tests.dfa.networks import Transformer, draw

X, Y = torch.randn(12, 6, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 4


def normed():
    return nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Dropout(), nn.Linear(9, 4), nn.LogSoftmax(1))


def test_it_says_what_the_training_does():
    """Blocks, teachers, places, shapes; pixels and inputs are those of the feedback. Catches: other widths there."""
    report = dfa.check(normed(), (X, Y), nll_loss)
    assert [(b.name, b.teacher, b.after, b.outputs, b.width) for b in report.blocks] == [
        ("0", "feedback", "Mul", ((12, 9),), 9),
        ("4", "true gradient", "", ((12, 4),), 0),
    ]
    assert (report.pixels, report.classes, report.rows, report.frames(), report.problems) == (9, 4, 12, 48, [])
    model, seen = cnn(8, (3, 5), 6, 4), []

    def keep(error, widths):
        seen.append((tuple(error.shape), sum(widths)))
        return [error @ torch.ones(4, width) for width in widths]

    learner = DirectFeedback(model, feedback=keep)
    x = torch.ones(12, 64)
    found = dfa.check(learner, (x, Y), cross_entropy)
    assert not seen
    output = model(x)
    learner.backward(cross_entropy(output, Y), output)
    assert seen == [((found.rows, found.classes), found.pixels)]


def test_frames_are_those_of_the_device():
    """At most, for codes with entries of both signs. Catches: one half of each code left out."""
    opu = presets.lab_bench(8, 40)
    opu.autoexpose()
    model = mlp([6, 9, 8, 4])
    feedback = OpticalFeedback(measure_projection(opu, n_inputs=4), Ternary(threshold=0.0))
    learner = DirectFeedback(model, feedback=feedback)
    frames = opu.clock.frames
    report = dfa.check(learner, (X, Y), cross_entropy)
    assert opu.clock.frames == frames
    output = model(X)
    learner.backward(cross_entropy(output, Y), output)
    assert opu.clock.frames - frames == report.frames(feedback.projection.frames_per_vector)


def test_sums_of_a_sample_are_frames_too():
    """Blocks without the tokens of the output learn from the sum of a sample's errors, which is one more row.

    Catches: fewer frames than a step takes.
    """

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.pooled = (nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(2))
            self.head = nn.Linear(6, 4)

        def forward(self, x):
            h = self.tokens(x)
            return self.head(h + self.pooled(h.mean(dim=1))[:, None])

    x, y, rows = torch.ones(12, 5, 6), Y[:, None].expand(12, 5), []
    learner = DirectFeedback(Mixed(), ["tokens", "pooled"])
    learner.feedback = lambda e, widths: rows.append(len(e)) or [torch.zeros(len(e), w) for w in widths]

    def loss(output, y):
        return cross_entropy(output.flatten(0, 1), y.flatten())

    report = dfa.check(learner, (x, y), loss)
    assert (report.rows, report.sums, report.frames(1)) == (60, 12, 2 * 72)
    output = learner.model(x)
    learner.backward(loss(output, y), output)
    assert sum(rows) == report.rows + report.sums


def test_what_the_output_reads_past_the_blocks_is_told():
    """Catches: an embedding that is said to learn from feedback, and has its true gradient past the blocks."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.body = nn.Linear(6, 9), nn.Sequential(nn.Linear(9, 9), nn.Tanh())
            self.head = nn.Linear(9, 4)

        def forward(self, x):
            x = self.embed(x)
            return self.head(x + self.body(x))

    [problem] = dfa.check(Tied(), (X, Y), cross_entropy).problems
    assert problem.startswith("63 parameters counted in block 'body.0' also have the true gradient")


def test_nothing_changes():
    """Gradients, running statistics, random state, layout of a learner. Catches: a step on the model itself."""
    model = normed()
    learner = DirectFeedback(model, feedback=RandomFeedback(0))
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    for one in (model, learner):
        dfa.check(one, (X, Y), nll_loss)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), before.values(), strict=True))
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert learner.state_dict()["layout"] == []


class Lost(nn.Module):
    """A block that is not called, and a layer that nothing reads."""

    def __init__(self):
        super().__init__()
        self.a, self.b = (nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(2))
        self.extra, self.head = nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.a(x))


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (lambda: dfa.check(Lost(), (X, Y), cross_entropy, ["a", "b"]), "block 'b' will not learn: it was not called"),
        (
            lambda: dfa.check(Lost(), (X, Y), cross_entropy, ["a"]),
            "parameters of block 'head' will not learn",
        ),
        (lambda: dfa.check(mlp([6, 9, 4]), (X, Y), lambda o, y: cross_entropy(o, y) / 4), "pass loss_scale=0.25"),
        (lambda: dfa.check(mlp([6, 9, 4]).requires_grad_(False), (X, Y), cross_entropy), "must require|frozen"),
        (lambda: dfa.check(mlp([6, 4]), (X, Y), cross_entropy), "no block learns from feedback"),
        (lambda: dfa.check(mlp([6, 9, 4]), (X, Y), cross_entropy, ["0", "z"]), "got 'z'"),
        (lambda: dfa.check(mlp([6, 9, 4]), (X, Y), lambda o, y: o.sum() * float("nan")), "loss must be finite"),
        (lambda: dfa.check(mlp([6, 9, 4]), X, cross_entropy), "sample must be .inputs, target. or named"),
    ],
)
def test_what_will_not_learn_is_told(run, said):
    """With the reason, without an exception. Catches: a block that nothing teaches and nobody mentions."""
    report = run()
    assert any(re.search(said, problem) for problem in report.problems), report.problems
    assert f"! {report.problems[0]}" in str(report)


def test_named_arguments_and_losses_of_the_model():
    """As in models that compute their own loss. Catches: a sample that must be a pair."""

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp([6, 9, 4])

        def forward(self, inputs, labels):
            logits = self.net(inputs)
            return {"loss": cross_entropy(logits, labels), "logits": logits}

    report = dfa.check(Own(), {"inputs": X, "labels": Y}, lambda output, sample: output["loss"])
    assert (report.pixels, report.classes, report.problems) == (9, 4, [])
    with pytest.raises(ValueError, match="blocks and options must not be given with a learner"):
        dfa.check(DirectFeedback(mlp([6, 9, 4])), (X, Y), cross_entropy, spread="channels")
    with pytest.raises(ValueError, match=r"model must be an nn\.Module or a DirectFeedback, got str"):
        dfa.check("mlp", (X, Y), cross_entropy)


def test_the_table():
    tokens = torch.arange(15).view(3, 5) % 7

    def loss(output, target):
        return cross_entropy(output.flatten(0, 1), target.flatten())

    text = str(dfa.check(draw(Transformer()), (tokens, tokens), loss))
    lines = text.splitlines()
    assert lines[1].split() == ["blocks.0", "Block", "feedback", "Add", "3x5x6", "6", "372"]
    assert "15 rows of 7 entries; a device needs 7 inputs for it, besides those of its anchors, and 12 usable" in text
