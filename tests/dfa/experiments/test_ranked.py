"""``opu train --ranks``: the same run as in one process, and refusals of one line."""

import json
import logging
import signal

import pytest
from torch.distributed.elastic.multiprocessing.api import SignalException

from dfa.experiments import DEMO, ranked
from dfa.experiments.ranked import Ranks, first_line, last_checkpoint
from tests.command import opu, refused

COMMON = ("train", "--hidden", "12,10", "--epochs", 1, "--samples", 100, "--batch-size", 50, "--quiet", "--json")


def test_two_ranks_give_the_run_of_one_process(capfd, tmp_path):
    """Through one device: the same frames and scores. Each way refuses to resume the other one.

    Catches: a device, an exposure, an order of the samples or a seed of its own; a run that starts again unseen.
    """
    found = []
    for name, more in (("one", ()), ("two", ("--ranks", 2))):
        assert opu(*COMMON, *more, "--out", tmp_path / name) == 0
        [run] = json.loads(capfd.readouterr().out)["runs"]
        [record] = json.loads((tmp_path / name / "optical-0" / "metrics.json").read_text())["records"]
        found.append((run["frames"], *(record[key] for key in ("step", "validation", "test", "frames"))))
        found.append(pytest.approx(record["loss"], rel=1e-6) if name == "one" else record["loss"])
    assert found[:2] == found[2:]
    assert json.loads((tmp_path / "two/optical-0/last.json").read_text())["step"] == 2
    message = refused(capfd, *COMMON, "--resume", "--out", tmp_path / "two")
    assert "ranks must be given to resume" in message
    message = refused(capfd, *COMMON, "--ranks", 2, "--resume", "--out", tmp_path / "one")
    assert "ranks must be left out to resume" in message


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--ranks", 4), "ranks must be at most 3, one for each of the 3 blocks of the network, got 4"),
        (("--ranks", 3, "--replicas", 2), "ranks must be a multiple of the 2 replicas, got 3"),
        (
            ("--ranks", 8, "--replicas", 2),
            "ranks must be at most 6, one for each of the 3 blocks of the network and 2 replicas, got 8",
        ),
        (("--ranks", 2, "--method", "alignment"), "method must be one of bp, dfa, ternary, optical with ranks, got"),
        (("--ranks", 2, "--hidden-rate", 0.5), "hidden_rate must be 1.0 with ranks, got 0.5"),
        (("--ranks", 2, "--replicas", 2, "--batch-size", 33), "replicas must be at most 1, the rows of the last batch"),
        (
            ("--ranks", 2, "--network", "norm-cnn", "--hidden", "4,4,8", "--micro-batches", 26),
            "micro_batches must leave a batch norm 2 rows, of the 50 of a replica",
        ),
        (("--ranks", 2, "--tensorboard"), "tensorboard must be left out with ranks"),
    ],
)
def test_refusals_come_before_any_process(capfd, tmp_path, options, line):
    """Catches: processes that start and fail one by one."""
    assert line in refused(capfd, *COMMON, *options, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_line_of_a_dead_process(tmp_path):
    """What a process left, in one line, with the last checkpoint. Catches: the trace of a child in the message."""
    content = {"message": "ValueError: device must fit\nTraceback", "extraInfo": {}}
    assert first_line(content) == "device must fit"
    told = "process 0 ends, since process 1 of 2 hangs"
    assert first_line(f"{told}: the last checkpoint is /run/last.json, step 3\n") == told
    assert last_checkpoint(tmp_path, tmp_path) == ""
    (tmp_path / "last.json").write_text('{"step": 7}')
    assert last_checkpoint(tmp_path, tmp_path).endswith(f"last.json, step 7; --resume --out {tmp_path} continues")
    for damaged in ('{"step": 7', "[]", "{}"):  # the process has said so
        (tmp_path / "last.json").write_text(damaged)
        assert last_checkpoint(tmp_path, tmp_path) == ""
    with pytest.raises(ValueError, match="multiple of the 3 replicas"):
        Ranks(ranks=4, replicas=3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_run(monkeypatch, tmp_path, number):
    """Ctrl-C and the end of a job's time are told in the same way. Catches: the trace of the launcher."""

    def launch(*_):
        raise SignalException("got a signal", sigval=number)

    monkeypatch.setattr(ranked, "elastic_launch", lambda *_: launch)
    with pytest.raises(KeyboardInterrupt):
        ranked.run_in_ranks(Ranks(ranks=2), DEMO, tmp_path, "bp", 0)
    assert logging.getLogger(ranked.AGENT).getEffectiveLevel() == logging.CRITICAL
