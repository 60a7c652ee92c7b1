"""A study's run that is stopped at any step goes on, whatever the network: images, graphs and text alike."""

import dataclasses
import json

import pytest
import torch

from dfa.data import digits
from dfa.data.text import split_text
from dfa.experiments import Plan, compare_methods, run_one, runs, tasks
from dfa.training import loop
from tests.dfa.citations import three_kinds

CASES = {
    "images": (Plan(hidden=(16, 16), epochs=2, batch_size=32, samples=200), digits),
    "graph": (Plan(data="cora", hidden=(8,), epochs=30), three_kinds),
    "text": (
        Plan(data="tiny-shakespeare", hidden=(16, 16), heads=2, context=12, steps=24, batch_size=4),
        lambda: split_text("period", "abcdefgh" * 300),
    ),
}
"""Plans and the data that they are given."""


@pytest.fixture(params=CASES)
def case(request):
    plan, data = CASES[request.param]
    return plan, data()


class Stopped(Exception):
    """As if the process had ended."""


def stopped_at(step, monkeypatch, into):
    """Networks stop in a training step, counted from where they start; they are kept in a list."""
    build = tasks.build_model

    def made(*arguments):
        model = build(*arguments)
        into.append(model)
        taken = 0

        def count(module, inputs):
            nonlocal taken
            taken += module.training
            if module.training and taken == step:
                raise Stopped

        model.register_forward_pre_hook(count)
        return model

    monkeypatch.setattr(runs, "build_model", made)


def test_a_stopped_run_goes_on_at_the_step(case, tmp_path, monkeypatch):
    """Weights, history and metrics are those of an unbroken run; only the steps that were left are taken.

    Catches: a folder, a resume or settings that are not handed to the training function of a network.
    """
    plan, data = case
    models = []
    monkeypatch.setattr(loop, "CHECKPOINT_S", 0.0)
    stopped_at(0, monkeypatch, models)
    whole = run_one("optical", 1, plan, data, tmp_path / "whole")
    stopped_at(8, monkeypatch, models)
    with pytest.raises(Stopped):
        run_one("optical", 1, plan, data, tmp_path / "again")
    kept = torch.load(tmp_path / "again" / "optical-1" / "last.pt", weights_only=True)
    assert kept["step"] == 7
    stopped_at(0, monkeypatch, models)
    again = run_one("optical", 1, plan, data, tmp_path / "again", resume=True)
    assert again == whole
    first, _, last = (model.state_dict() for model in models)
    assert all(torch.equal(first[name], last[name]) for name in first)
    for name in ("metrics.csv", "metrics.json"):
        files = [(tmp_path / run / "optical-1" / name).read_bytes() for run in ("whole", "again")]
        assert files[0] == files[1]
    with pytest.raises(ValueError, match="belongs to a run with"):
        changes = dataclasses.replace(plan, device_changes={"camera.read_noise_e": 9.0})
        run_one("optical", 1, changes, data, tmp_path / "again", resume=True)


def test_results_hold_the_diagnostics(case, tmp_path):
    """Angles, gradients and signal-to-noise of every record are in results.json. Catches: graphs and text without."""
    plan, data = case
    [run] = compare_methods(plan, data, ["optical"], [0], tmp_path, progress=False, tensorboard=True)
    written = json.loads((tmp_path / "results.json").read_text())["runs"][0]
    seen = written["history"][-1]
    assert seen["angles"] == run.history[-1].angles
    assert len(seen["angles"]) == len(plan.hidden) + 1
    assert seen["frames"] == run.frames > 100
    assert 0 < run.angle < 180
    assert seen["snr_db"] > 0
    assert 0 <= seen["saturated"] < 0.5
    assert 0 < seen["nonzero"] <= 1
    assert all(norm > 0 for norm in seen["gradients"].values())
    assert list((tmp_path / "optical-0" / "tensorboard").glob("events*"))
