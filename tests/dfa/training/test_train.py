"""Training on images: runs are reproducible, and a resumed run equals an unbroken one."""

import dataclasses
import os

import pytest
import torch

from calibration import measure_projection
from calibration.storage.folders import claim_folder
from dfa import DirectFeedback, OpticalFeedback, RandomFeedback, train
from dfa.data import digits
from dfa.experiments import Plan, compare_methods
from dfa.models import mlp
from dfa.training.graphs import train_graph
from dfa.training.language import train_text
from photonics import presets
from tests.dfa.networks import flat_weights


@pytest.fixture(scope="module")
def data():
    return digits()


def few(data, n=200):
    return dataclasses.replace(data, train=(data.train[0][:n], data.train[1][:n]))


def optical(seed=0):
    opu = presets.lab_bench(20, 80, seed=seed)
    opu.autoexpose()
    return OpticalFeedback(measure_projection(opu, n_inputs=10))


def make(kind):
    model = mlp([64, 32, 32, 10], seed=0)
    feedback = {"bp": None, "dfa": RandomFeedback(0), "optical": optical() if kind == "optical" else None}[kind]
    return model, None if kind == "bp" else DirectFeedback(model, feedback=feedback)


@pytest.mark.parametrize("kind", ["bp", "optical"])
def test_a_stopped_run_resumes_to_the_same_weights(data, tmp_path, kind):
    """Bit for bit, noise of the device included. Caught mutations: no clock in the checkpoint, no optimiser state."""
    data = few(data)
    whole, learner = make(kind)
    history = train(whole, data, learner, epochs=4, progress=False)
    first, learner = make(kind)
    train(first, data, learner, epochs=2, folder=tmp_path, progress=False)
    second, learner = make(kind)
    resumed = train(second, data, learner, epochs=4, folder=tmp_path, resume=True, progress=False)
    assert torch.equal(flat_weights(whole), flat_weights(second))
    assert [dataclasses.replace(e, seconds=0) for e in history] == [dataclasses.replace(e, seconds=0) for e in resumed]
    assert sorted(os.listdir(tmp_path)) == ["last.pt", "metrics.csv", "metrics.json"]


def test_measuring_alignment_does_not_change_the_run(data):
    """Frames of the alignment do not count. Caught mutation: alignment without a rehearsal."""
    ends = []
    for align in (0, 64):
        model, learner = make("optical")
        history = train(model, few(data), learner, epochs=2, align=align, progress=False)
        ends.append((flat_weights(model), history[-1].frames))
    assert torch.equal(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1] > 0


def test_every_epoch_has_its_own_order(data):
    """Caught mutation: the order as a function of the seed alone."""
    seen = []
    model, _ = make("bp")
    model.register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0].clone()) if module.training else None
    )
    train(model, few(data), epochs=2, progress=False)
    assert not torch.equal(seen[0], seen[2])
    assert torch.equal(torch.cat(seen[:2]).sort(0).values, torch.cat(seen[2:]).sort(0).values)


def test_seeds_order_the_samples(data):
    ends = []
    for seed in (0, 0, 1):
        model, _ = make("bp")
        train(model, few(data), epochs=1, seed=seed, progress=False)
        ends.append(flat_weights(model))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_divergence_stops_and_keeps_the_checkpoint(data, tmp_path):
    model, _ = make("bp")
    train(model, few(data), epochs=1, folder=tmp_path, progress=False)
    kept = (tmp_path / "last.pt").read_bytes()
    broken = few(data)
    broken = dataclasses.replace(broken, train=(broken.train[0] * float("nan"), broken.train[1]))
    model, _ = make("bp")
    with pytest.raises(ValueError, match="loss must be finite"):
        train(model, broken, epochs=3, folder=tmp_path, resume=True, progress=False)
    assert (tmp_path / "last.pt").read_bytes() == kept


def test_a_flipped_bit_in_a_checkpoint_is_refused(data, tmp_path):
    """One bit of 100 bytes of the file, in turn, and two cut ends. Catches: damaged weights that are used."""
    model, _ = make("bp")
    train(model, few(data), epochs=1, folder=tmp_path, progress=False)
    path = tmp_path / "last.pt"
    content, draw = path.read_bytes(), torch.Generator().manual_seed(0)
    changed = [content[:-1], content[: len(content) // 2]]
    for place in torch.randint(len(content), (100,), generator=draw).tolist():
        changed.append(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
    for damaged in changed:
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"last\.pt must be a checkpoint .*checksum") as stop:
            train(model, few(data), epochs=2, folder=tmp_path, resume=True, progress=False)
        assert "\n" not in str(stop.value)
        assert path.read_bytes() == damaged


def test_bad_checkpoints_and_numbers(data, tmp_path):
    model, _ = make("bp")
    (tmp_path / "last.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="must be a checkpoint"):
        train(model, few(data), folder=tmp_path, resume=True, progress=False)
    (tmp_path / "last.pt").unlink()
    train(model, few(data), epochs=1, folder=tmp_path, progress=False)
    with pytest.raises(ValueError, match="must be of a run with"):
        train(model, few(data), epochs=1, batch_size=7, folder=tmp_path, resume=True, progress=False)
    wide = mlp([64, 33, 32, 10])
    with pytest.raises(ValueError, match="other layers"):
        train(wide, few(data), epochs=2, folder=tmp_path, resume=True, progress=False)
    with pytest.raises(ValueError, match="device"):
        train(model, few(data), epochs=2, folder=tmp_path, resume=True, progress=False, settings={"device": "other"})
    torch.save({"model": 1}, tmp_path / "last.pt")
    with pytest.raises(ValueError, match="must be a checkpoint"):
        train(model, few(data), folder=tmp_path, resume=True, progress=False)
    with pytest.raises(ValueError, match="epochs must be positive"):
        train(model, few(data), epochs=0, progress=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="writable folder"):
        train(model, few(data), epochs=1, folder=tmp_path / "file" / "x", progress=False)


def test_an_unknown_option_is_named_beside_the_known_ones(data):
    """All three functions. Catches: "Options.__init__() got an unexpected keyword argument", a name of the inside."""
    known = r"; those are model, \w+, learner, .*seed, .*folder, resume, .*clip_norm, settings$"
    for function in (train, train_graph, train_text):
        with pytest.raises(ValueError, match=rf"^{function.__name__}: checkpoint is not a parameter{known}"):
            function(None, None, checkpoint="last.pt")


def test_an_earlier_run_is_not_overwritten(data, tmp_path):
    """The error comes before the first step. Catches: a long run's checkpoint that a new run replaces."""
    model, _ = make("bp")
    train(model, few(data), epochs=2, folder=tmp_path, progress=False)
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    before = flat_weights(model)
    with pytest.raises(ValueError, match=r"folder must not hold an earlier run, got .*last\.pt: set resume=True"):
        train(model, few(data), epochs=1, folder=tmp_path, progress=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept
    assert torch.equal(flat_weights(model), before)


def test_unknown_methods_are_refused(data):
    with pytest.raises(ValueError, match="method must be one of"):
        compare_methods(Plan(hidden=(8,), epochs=1), data, ["bp", "magic"], [0])


def test_a_folder_in_use_is_refused(data, tmp_path):
    """Another run is in the folder. Catches: two runs that write one checkpoint."""
    model, _ = make("bp")
    with claim_folder(tmp_path), pytest.raises(ValueError, match="folder must not be in use"):
        train(model, few(data), epochs=1, folder=tmp_path, progress=False)
    assert not list(tmp_path.iterdir())
