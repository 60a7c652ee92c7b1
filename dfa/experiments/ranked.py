"""A planned run in several processes of this machine, which hold the blocks of the network."""

import json
import logging
import os
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from calibration import measure_projection
from dfa.data import Dataset, load
from dfa.experiments.plans import Plan
from dfa.experiments.runs import Run, complete_run, settings_to_resume
from dfa.experiments.tasks import Data, build_model, limit_samples, signal_width
from dfa.experiments.teachers import set_exposure, unexposed_device
from dfa.feedback.base import CodedFeedback
from dfa.feedback.random import RandomFeedback
from dfa.feedback.ranks import RankDevice, RankFeedback
from dfa.rules.blocks import find_blocks
from dfa.rules.parallel import LayerParallel
from dfa.training.rank_loop import train_ranks

__all__ = ["RANKED", "Ranks", "check_ranks", "run_in_ranks"]

RANKED = ("bp", "dfa", "ternary", "optical")
"""Methods whose blocks can be in several processes."""
AGENT = "torch.distributed.elastic.agent.server.api"
"""Logger of the launcher that has a level of its own."""
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
"""Variable with the name of the file in which a process tells torch.distributed why it ends."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Processes of a run."""

    ranks: int
    """Number of processes, a multiple of `replicas`."""
    replicas: int = 1
    """Number of copies of the network, which share the rows of each batch."""
    micro_batches: int = 1
    """Parts of a batch that follow each other through the processes."""

    def __post_init__(self) -> None:
        if self.ranks % self.replicas:
            raise ValueError(f"ranks must be a multiple of the {self.replicas} replicas, got {self.ranks}")


def check_ranks(methods: list[str], plan: Plan, data: Data, ranks: Ranks) -> None:
    """Raise a ``ValueError`` if a plan cannot be trained by these processes."""
    for method in methods:
        if method not in RANKED:
            raise ValueError(f"method must be one of {', '.join(RANKED)} with ranks, got {method!r}")
    if not isinstance(data, Dataset):
        raise ValueError(f"network must be for images with ranks, got {plan.network!r}")
    for name, wanted in (("hidden_rate", 1.0), ("through", None)):
        if (given := getattr(plan, name)) != wanted:
            raise ValueError(f"{name} must be {wanted} with ranks, got {given!r}")
    blocks, each = len(find_blocks(build_model("dfa", plan, data, 0), None)), ranks.ranks // ranks.replicas
    if each > blocks:
        raise ValueError(
            f"ranks must be at most {blocks * ranks.replicas}, one for each of the {blocks} blocks of the network"
            f"{f' and {ranks.replicas} replicas' if ranks.replicas > 1 else ''}, got {ranks.ranks}"
        )
    check_rows(plan, data, ranks)


def check_rows(plan: Plan, data: Dataset, ranks: Ranks) -> None:
    """Raise a ``ValueError`` if the last, smallest batch of an epoch has too few rows to be divided."""
    assert plan.batch_size is not None
    last = len(limit_samples(data, plan.samples).train[0]) % plan.batch_size or plan.batch_size
    rows = last // ranks.replicas
    if rows == 0:
        raise ValueError(
            f"replicas must be at most {last}, the rows of the last batch of an epoch, got {ranks.replicas}: set "
            "another batch_size or samples"
        )
    if plan.network == "norm-cnn" and rows // min(ranks.micro_batches, rows) < 2:
        raise ValueError(
            f"micro_batches must leave a batch norm 2 rows, of the {rows} of a replica in the last batch of an epoch, "
            f"got {ranks.micro_batches}: set fewer, or another batch_size or samples"
        )


def run_in_ranks(ranks: Ranks, plan: Plan, folder: Path, method: str, seed: int) -> Run:
    """Start the processes of a run with ``torch.distributed.run``, and return its result.

    The run continues from the checkpoint in ``<folder>/<method>-<seed>`` if there is one.

    Raises
    ------
    ValueError
        If a process ends early; one line names it, and the last checkpoint.
    """
    own = folder / f"{method}-{seed}"
    if (own / "last.pt").exists():
        raise ValueError(f"ranks must be left out to resume {folder}, a run of one process, got {ranks.ranks}")
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks.ranks,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        shutdown_timeout=5,
    )
    for name in ("torch.distributed.elastic", AGENT, "torch.multiprocessing"):  # the error below says it in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with environment(ranks.ranks):
            return elastic_launch(config, run_rank)(method, seed, plan, own, ranks)[0]
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        why = f"process {rank} of {ranks.ranks} was killed ({failure.signal_name()})"
        why = why if failure.exitcode < 0 else first_line(failure.message)
        raise ValueError(f"{why}{last_checkpoint(own, folder)}") from None
    except SignalException:  # Ctrl-C, or the end of a job's time
        raise KeyboardInterrupt from None


def run_rank(method: str, seed: int, plan: Plan, folder: Path, ranks: Ranks) -> Run:
    """Train as one of the processes."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (ranks.replicas, ranks.ranks // ranks.replicas))
    data = limit_samples(load(plan.data), plan.samples)
    assert isinstance(data, Dataset)
    feedback = shared_feedback(method, plan, data, seed, mesh.get_group(1), mesh.get_local_rank(1))
    device = feedback.projection.opu.to_dict() if isinstance(feedback, RankFeedback) else None
    model = build_model(method, plan, data, seed)
    assert isinstance(model, nn.Sequential)
    stage = LayerParallel(
        model,
        feedback,
        spread=plan.spread,
        micro_batches=ranks.micro_batches,
        mesh=mesh,
    )
    assert plan.epochs is not None and plan.batch_size is not None and plan.learning_rate is not None
    history = train_ranks(
        stage,
        data,
        folder=folder,
        epochs=plan.epochs,
        batch_size=plan.batch_size,
        learning_rate=plan.learning_rate,
        seed=seed,
        settings=settings_to_resume(method, plan) | {"device": device},
        tell=tell_launcher,
    )
    dist.destroy_process_group()
    return complete_run(Run(method, seed, tuple(history), len(history) - 1), feedback)


def shared_feedback(
    method: str, plan: Plan, data: Dataset, seed: int, group: dist.ProcessGroup, stage: int
) -> CodedFeedback | None:
    """Feedback of a process: through one device of all, or by a matrix of its own."""
    assert plan.encoder is not None
    encoder = replace(plan.encoder, seed=seed)
    if method == "bp":
        return None
    if method != "optical":
        return RandomFeedback((seed * 1_000_003 + stage) % 2**64, encoder if method == "ternary" else None)
    device = RankDevice(unexposed_device(plan, data.classes, signal_width(plan, data), seed), group)
    set_exposure(device, plan)
    projection = measure_projection(device, n_inputs=data.classes, **plan.calibration)
    return RankFeedback(projection, encoder, recalibrate_every=plan.recalibrate_every)


@contextmanager
def environment(ranks: int) -> Iterator[None]:
    """Context in which new processes share the cores of this machine, and talk through its loopback interface."""
    threads = str(max((os.cpu_count() or 1) // ranks, 1))
    wanted = {"OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads}
    wanted |= {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def tell_launcher(line: str) -> None:
    """Leave the line that says why this process ends to the process that started it."""
    content = {"message": line, "extraInfo": {"timestamp": str(int(time.time()))}}
    Path(os.environ[ERROR_FILE]).write_text(json.dumps({"message": content}), "utf-8")


def first_line(message: object) -> str:
    """The message of a process, from the file that it left, without the type of a ValueError and the checkpoint."""
    text = message["message"] if isinstance(message, dict) else message
    line = (str(text).strip().splitlines() or ["a process has ended"])[0].removeprefix("ValueError: ")
    return line.partition(": the last checkpoint is")[0]


def last_checkpoint(own: Path, folder: Path) -> str:
    """Words that name the last checkpoint, if there is one that can be read."""
    path = own / "last.json"
    try:
        step = json.loads(path.read_text("utf-8"))["step"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f": the last checkpoint is {path}, step {step}; --resume --out {folder} continues"
