"""Runs in several processes: resumed bit for bit, on another number of processes too, and ended if one is dead."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

from benchmarks.child import environment
from dfa import RandomFeedback
from tests.dfa.watched import UNITS, run_of, shared_feedback, train


@pytest.fixture
def process():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_a_resumed_run_has_the_weights_of_one_that_went_on(tmp_path, process):
    """In two processes of ``torchrun``, and resumed in one, through a shared device: the same bits.

    Damaged files, other settings and feedback of its own are refused. Catches: moments by the number of a parameter,
    a clock that is not restored, a manifest before its files, old files that stay.
    """
    command = ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--rdzv-backend", "c10d"]
    command = [sys.executable, "-m", *command, "--rdzv-endpoint", "127.0.0.1:0", "-m", "tests.dfa.watched"]
    run = subprocess.run([*command, str(tmp_path)], env=environment(), capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    wanted = [torch.load(tmp_path / f"after-{rank}.pt", weights_only=True) for rank in range(2)]
    stage, optimiser, checkpoint = run_of(tmp_path, shared_feedback())
    assert checkpoint.load() == 4
    train(stage, optimiser, 4, 8)
    for name, value in stage.module.state_dict().items():
        assert torch.equal(value, {**wanted[0], **wanted[1]}[name]), name
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["step-4"]
    with pytest.raises(ValueError, match=r"rank-0/last.pt must be of a run with seed 1, got one with 0"):
        type(checkpoint)(tmp_path, stage, optimiser, {"seed": 1}).load()
    manifest = json.loads(checkpoint.path.read_text())
    checkpoint.path.write_text(json.dumps(manifest | {"checksums": manifest["checksums"][::-1]}))
    with pytest.raises(ValueError, match=r"rank-0/last.pt must be the file that .*last.json names, got another"):
        checkpoint.load()
    sums = []
    for seed in (0, 1):  # as two processes with matrices of their own
        run_of(tmp_path / f"own-{seed}", RandomFeedback(seed))[2].save(1)
        sums += json.loads((tmp_path / f"own-{seed}" / "last.json").read_text())["checksums"]
    shutil.copytree(tmp_path / "own-1" / "step-1" / "rank-0", tmp_path / "own-0" / "step-1" / "rank-1")
    checkpoint = run_of(tmp_path / "own-0", RandomFeedback(0))[2]
    checkpoint.path.write_text(json.dumps({"step": 1, "place": "step-1", "checksums": sums}))
    with pytest.raises(
        ValueError, match=r"last.json must be resumed by 2 processes, each with its own feedback, got 1"
    ):
        checkpoint.load()


def test_no_other_folder_is_removed(tmp_path, process):
    """A step that is no whole number, and a manifest that names another folder. Catches: a checkpoint that is lost."""
    checkpoint = run_of(tmp_path / "run", RandomFeedback(0))[2]
    checkpoint.save(3)
    for step in ("../x", 1.5, -1, 2**70):
        with pytest.raises(ValueError, match=r"^step must be an integer, 0 to \d+, got"):
            checkpoint.save(step)  # pyright: ignore[reportArgumentType]
    assert checkpoint.load() == 3
    other = torch.optim.Rprop(checkpoint.stage.module.parameters())
    with pytest.raises(ValueError, match=r"must be of a run with optimiser 'Rprop', got one with 'Adam'"):
        type(checkpoint)(tmp_path / "run", checkpoint.stage, other, {"seed": 0}).load()
    for units, lacks in (([*UNITS[:3], 7, 5], "without 6.weight"), ([6, 20, 19, 5], "whose blocks have other sizes")):
        other = run_of(tmp_path / "run", RandomFeedback(0), units)[2]
        with pytest.raises(ValueError, match=rf"last.json must be of this model, got one {lacks}$"):
            other.load()
    other = run_of(tmp_path / "run", RandomFeedback(0), [6, 20, 18])[2]
    with pytest.raises(ValueError, match=r"last.json must be of this model, got one with 6 tensors instead of 4$"):
        other.load()
    manifest = json.loads(checkpoint.path.read_text())
    for change in ({"place": ".."}, {"place": str(tmp_path)}, {"step": 2}, {"checksums": []}):
        checkpoint.path.write_text(json.dumps(manifest | change))
        with pytest.raises(ValueError, match=r"last.json must be the manifest of a checkpoint, got a file that is not"):
            checkpoint.save(4)
    assert (tmp_path / "run/step-3").exists()


def test_a_step_saved_twice_keeps_the_first_files_until_the_manifest_names_others(tmp_path, process, monkeypatch):
    """Catches: a run that is killed between its files and the manifest, and has no checkpoint any more."""
    stage, optimiser, checkpoint = run_of(tmp_path, RandomFeedback(0))
    checkpoint.save(3)
    wanted = [parameter.clone() for parameter in stage.module.parameters()]
    with monkeypatch.context() as patch:
        patch.setattr("dfa.training.rank_checkpoint.replace_file", lambda *given: exec("raise OSError('killed')"))
        train(stage, optimiser, 0, 1)
        with pytest.raises(OSError, match="killed"):
            checkpoint.save(3)
    assert checkpoint.load() == 3
    assert all(torch.equal(one, two) for one, two in zip(stage.module.parameters(), wanted, strict=True))
    for _ in range(3):
        train(stage, optimiser, 0, 1)
        checkpoint.save(3)
    wanted = [parameter.clone() for parameter in stage.module.parameters()]
    train(stage, optimiser, 0, 1)
    assert checkpoint.load() == 3
    assert all(torch.equal(one, two) for one, two in zip(stage.module.parameters(), wanted, strict=True))
    assert sum(path.is_dir() for path in tmp_path.iterdir()) == 1


def test_all_processes_end_if_one_is_dead(tmp_path):
    """Process 1 of 3 is killed or raises an error: the others end within 30 s, and say so in a line each.

    They leave the last checkpoint. Catches: a process that waits for ever, one that names a process that ended because
    of the first, a checkpoint that is half written.
    """
    kinds = {"killed": "was killed", "error": r"has ended \(ValueError: data must be there\)"}
    for kind in kinds:
        (tmp_path / kind).mkdir()
    command = [sys.executable, "-m", "tests.dfa.watched", str(tmp_path), *kinds]
    run = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    ended = [line.split() for line in run.stdout.splitlines()]
    assert len(ended) == 4 and all(code == "1" and float(seconds) < 30.0 for _, code, seconds in ended), run.stdout
    for kind, reason in kinds.items():
        last = re.escape(str(tmp_path / kind / "last.json"))
        lines = re.findall(
            rf"^process \d ends, since process 1 of 3 {reason}: the last checkpoint is {last}, step 2$",
            run.stderr,
            re.MULTILINE,
        )
        assert len(lines) == 2, run.stderr
        assert json.loads((tmp_path / kind / "last.json").read_text())["step"] == 2
    assert len(re.findall(r"^process \d ends", run.stderr, re.MULTILINE)) == 4
