"""Checkpoints of a run in several processes, and the end of all of them if one is dead."""

import json
import os
import platform
import re
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil
import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from calibration.storage.files import replace_file
from dfa.feedback.base import State
from dfa.rules.parallel import LayerParallel
from dfa.training.checkpoint import Checkpoint, random_state, restore_random_state
from photonics.component import integer

__all__ = ["RankCheckpoint"]

BEAT_S, SILENT_S = 1.0, 20.0
"""Seconds between two signs of life of a process, and without one after which it is dead."""
MAX_STEP = 2**63 - 1
"""Largest step that all processes can be told."""
PLACE, ALIVE, ENDED = "opu-sim/place/", "opu-sim/alive/", "opu-sim/ended/"
"""Keys in the store of the group: machine and number of a process, its signs of life, and why it ended, empty without
an error."""
AGAIN = "-again"
"""End of the name of the folder of a step that is saved twice in a row."""
OTHER_ENDED = re.compile("gloo|nccl|connection", re.IGNORECASE)
"""Errors of a process whose peer has ended."""


class RankCheckpoint:
    """Checkpoint of a `LayerParallel` run: a file for each process, and a manifest that names them.

    A file holds blocks, state of the optimiser, feedback and random numbers of a process; its last line is a checksum.
    ``last.json`` names the files and their checksums. It is replaced last, as a whole, so that a run which is killed at
    any moment leaves the checkpoint before. All processes must see the folder, and make the same calls.

    Parameters
    ----------
    folder : path
        Created if it does not exist.
    stage : LayerParallel
        Blocks of this process.
    optimiser : torch.optim.Optimizer
        Of the parameters of ``stage.module``.
    settings : mapping, optional
        Settings of the run, in plain types. A checkpoint can be loaded only if its settings and the kind of its
        optimiser are equal.
    tell : callable, optional
        Receives the line that says why this process ends; by default it is written to standard error.

    Attributes
    ----------
    state : dict
        Further state of this process that is saved and loaded, in plain types.

    Examples
    --------
    In each process::

        checkpoint = RankCheckpoint("runs/wide", stage, optimiser, {"seed": 0})
        first = checkpoint.load()
        with checkpoint.watch():
            for step in range(first, steps):
                ...
                if step % 100 == 99:
                    checkpoint.save(step + 1)
    """

    def __init__(
        self,
        folder: str | Path,
        stage: LayerParallel,
        optimiser: torch.optim.Optimizer,
        settings: Mapping[str, object] | None = None,
        tell: Callable[[str], object] = sys.stderr.write,
    ) -> None:
        self.folder, self.stage, self.optimiser = Path(folder).expanduser(), stage, optimiser
        self.settings = {"optimiser": type(optimiser).__name__, **(settings or {})}
        self.path, self.tell = self.folder / "last.json", tell
        self.state: State = {}
        self.rank, self.world = stage.replica * stage.size + stage.rank, stage.replicas * stage.size

    def save(self, step: int) -> None:
        """Save the state after `step` steps; returns when all processes have saved theirs.

        Raises
        ------
        ValueError
            If `step` is not a whole number, or the manifest is not one of a checkpoint.
        """
        stage, before, step = self.stage, self._manifest(), integer(step, "step", 0, MAX_STEP)
        # Files that the manifest names stay whole until it names others.
        place = f"step-{step}" + (AGAIN if before is not None and before["place"] == f"step-{step}" else "")
        file = self._file(place, self.rank)
        optimiser = get_optimizer_state_dict(stage.module, self.optimiser)
        file.save(
            {
                "step": step,
                "module": stage.module.state_dict(),
                "optimiser": json.dumps(optimiser["param_groups"]),
                "moments": optimiser["state"],
                "feedback": {} if stage.feedback is None else stage.feedback.state_dict(),
                "layout": [list(one) for one in stage.layout.slices],
                "random": random_state(),
                "state": self.state,
            }
        )
        sums = told_by_all(checksum(file))
        if self.rank == 0:
            manifest = {"step": step, "place": place, "checksums": sums, "replicas": stage.replicas}
            replace_file(self.path, json.dumps(manifest))
            if before is not None:
                shutil.rmtree(self.folder / before["place"], ignore_errors=True)
        dist.barrier()

    def load(self) -> int:
        """Restore the last checkpoint, and return its step; 0 if there is none.

        The number of processes or of replicas may be another one if their feedback has one state (`RankFeedback`, or
        none for backpropagation). Blocks then go to the processes that hold them now; the states of torch's random
        numbers, as of dropout, are not restored.

        Raises
        ------
        ValueError
            If a file is missing or damaged, settings differ, or the feedback cannot be shared out anew.
        """
        manifest, stage = self._manifest(), self.stage
        steps = told_by_all(0 if manifest is None else manifest["step"])
        if len(set(steps)) > 1:
            raise ValueError(f"{self.path} must be the same file in all processes, got those of the steps {steps}")
        if manifest is None:
            return 0
        count, replicas = len(manifest["checksums"]), manifest["replicas"]
        same = (count, replicas) == (self.world, stage.replicas)
        # Replicas have the same weights: those of the first one are enough for other processes.
        states = [self._read(manifest, rank) for rank in ([self.rank] if same else range(count // replicas))]
        feedbacks = [state["feedback"] for state in states]
        if any(one != feedbacks[0] for one in feedbacks):
            raise ValueError(
                f"{self.path} must be resumed by {count} processes, each with its own feedback, got {self.world}"
            )
        self._restore({name: value for state in states for name, value in state["module"].items()}, states, same)
        self.state = states[-1].get("state", {})
        if stage.feedback is not None:
            stage.feedback.load_state_dict(feedbacks[0])
        if same:
            stage.layout = type(stage.layout)(states[0]["layout"])
            restore_random_state(states[0]["random"])
        return int(manifest["step"])

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Context of the training: if a process dies or fails in it, all end.

        A process that raises an error tells the others. One that is killed is missed on its own machine within 2 s, and
        on another one, or if it hangs, by 20 s without a sign of life. The others then print one line that names it
        and the last checkpoint, and end.
        """
        stop, store = Event(), dist.distributed_c10d._get_default_store()
        mine = f"{ENDED}{self.rank}"
        store.delete_key(mine)
        store.set(f"{PLACE}{self.rank}", f"{machine()} {os.getpid()}")
        dist.barrier()
        thread = Thread(target=self._watch, args=(stop,), daemon=True)
        thread.start()
        try:
            yield
            stop.set()
            thread.join()
            store.set(mine, "")
            dist.barrier()  # the store ends with the process that holds it
        except Exception as error:
            if isinstance(error, RuntimeError) and OTHER_ENDED.search(str(error)):
                thread.join(SILENT_S + 4.0 * BEAT_S)  # which ends this process if it finds the one that is dead
            store.set(mine, f"{type(error).__name__}: {error}".splitlines()[0][:300])
            raise
        finally:
            stop.set()
            thread.join()

    def _watch(self, stop: Event) -> None:
        """Give signs of life, and look for those of the others; end this process if one has none."""
        store, rank = dist.distributed_c10d._get_default_store(), self.rank
        begun = -1, time.monotonic()
        seen: dict[int, tuple[int, float]] = {other: begun for other in range(self.world) if other != rank}
        while not stop.wait(BEAT_S):
            try:
                store.add(f"{ALIVE}{rank}", 1)
                for other, (count, _) in seen.items():
                    # Looked at first: a process that ends on its own account has said so before it is gone.
                    gone = is_gone(*store.get(f"{PLACE}{other}").decode().split())
                    if store.check([f"{ENDED}{other}"]):
                        if reason := store.get(f"{ENDED}{other}").decode():
                            store.set(f"{ENDED}{rank}", "")
                            self._end(f"process {other} of {self.world} has ended ({reason})")
                        continue
                    now = store.add(f"{ALIVE}{other}", 0)
                    if now != count:
                        seen[other] = now, time.monotonic()
                    silent = time.monotonic() - seen[other][1] > SILENT_S
                    if silent or gone:
                        store.set(f"{ENDED}{rank}", "")
                        why = "was killed" if gone else f"gives no sign of life for {SILENT_S:g} s"
                        self._end(f"process {other} of {self.world} {why}")
            except RuntimeError:
                self._end(f"process 0 of {self.world}, or what holds the store of the group, has ended")

    def _end(self, why: str) -> None:
        """Say why, and end this process at once: it may wait for the other one in a call that does not return."""
        manifest = self._manifest()
        last = "there is no checkpoint" if manifest is None else f"the last checkpoint is {self.path}"
        step = "" if manifest is None else f", step {manifest['step']}"
        self.tell(f"process {self.rank} ends, since {why}: {last}{step}\n")
        sys.stderr.flush()
        os._exit(1)

    def _manifest(self) -> dict[str, Any] | None:
        """Content of the manifest; None if there is none."""
        if not self.path.exists():
            return None
        try:
            found = json.loads(self.path.read_text("utf-8"))
            step = integer(found["step"], "step", 0, MAX_STEP)
            sums = [integer(one, "checksums", 0) for one in found["checksums"]]
            if found["place"] not in (f"step-{step}", f"step-{step}{AGAIN}") or not sums:
                raise ValueError(f"place {found['place']!r} and {len(sums)} checksums for step {step}")
            replicas = integer(found.get("replicas", 1), "replicas", 1, len(sums))
            return {"step": step, "place": found["place"], "checksums": sums, "replicas": replicas}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.path} must be the manifest of a checkpoint, got a file that is not: {error}"
            ) from None

    def _file(self, place: str, rank: int) -> Checkpoint:
        return Checkpoint(self.folder / place / f"rank-{rank}", self.settings)

    def _read(self, manifest: Mapping[str, Any], rank: int) -> State:
        """State of a process, its checksum compared with that of the manifest."""
        file = self._file(manifest["place"], rank)
        state = file.load()
        if state is None or checksum(file) != manifest["checksums"][rank]:
            raise ValueError(f"{file.path} must be the file that {self.path} names, got another or none")
        return state

    def _restore(self, module: Mapping[str, Any], states: list[State], same: bool) -> None:
        """Take the blocks and the optimiser's state of this process from those of all."""
        stage, own = self.stage, self.stage.module.state_dict()
        count = sum(told_by_all(len(own))) // stage.replicas
        saved = sum(told_by_all(len(module))) // stage.replicas if same else len(module)
        missing = [name for name in own if name not in module]
        if missing or saved != count:
            lacks = f"without {missing[0]}" if missing else f"with {saved} tensors instead of {count}"
            raise ValueError(f"{self.path} must be of this model, got one {lacks}")
        try:
            stage.module.load_state_dict({name: module[name] for name in own})
        except RuntimeError:
            raise ValueError(f"{self.path} must be of this model, got one whose blocks have other sizes") from None
        names = {name for name, _ in stage.module.named_parameters()}
        moments = {name: one for state in states for name, one in state["moments"].items() if name in names}
        saved = [json.loads(state["optimiser"]) for state in states]
        groups = [
            {**parts[0], "params": [name for part in parts for name in part["params"] if name in names]}
            for parts in zip(*saved, strict=True)
        ]
        set_optimizer_state_dict(stage.module, self.optimiser, {"state": moments, "param_groups": groups})


def machine() -> str:
    """Name of the machine and of the set of process numbers, which differs between containers."""
    numbers = Path("/proc/self/ns/pid")
    return platform.node() + (os.readlink(numbers) if numbers.exists() else "")


def is_gone(place: str, process: str) -> bool:
    """Whether a process of this machine is gone; False for one elsewhere."""
    if place != machine():
        return False
    try:
        return psutil.Process(int(process)).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True


def told_by_all(value: int) -> list[int]:
    """Value of each process, in the order of the ranks."""
    told = [torch.zeros(1, dtype=torch.int64) for _ in range(dist.get_world_size())]
    dist.all_gather(told, torch.tensor([value], dtype=torch.int64))
    return [int(one) for one in told]


def checksum(file: Checkpoint) -> int:
    """CRC-32 of the whole file of a checkpoint."""
    assert file.path is not None
    return zlib.crc32(file.path.read_bytes())
