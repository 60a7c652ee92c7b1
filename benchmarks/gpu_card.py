"""The card that is measured, or the processor in a rehearsal, and times on it."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from photonics.arrays import Array
from photonics.backend import HOST, Backend, find_backend

__all__ = ["Card", "find_card"]

LIMIT_S = 4.0
"""Time after which a call is not repeated again."""


class Card(NamedTuple):
    """A GPU, or the processor with small sizes."""

    backend: Backend
    torch_device: torch.device
    name: str
    rehearsal: bool

    def size(self, number: int, small: int) -> int:
        """Return the size on a GPU, or the small one in a rehearsal."""
        return small if self.rehearsal else number

    @property
    def place(self) -> str:
        """Argument of `OPU.to`."""
        return "cpu" if self.rehearsal else "cuda"

    def wait(self) -> None:
        """Wait for all work of all libraries on the card."""
        if not self.rehearsal:
            torch.cuda.synchronize()

    def seconds(self, *calls: Callable[[], object], repeats: int = 5) -> list[float]:
        """Smallest wall time of each call; they take turns. Each is called once before, to compile."""
        best = [float("inf")] * len(calls)
        for call in calls:
            call()
        self.wait()
        begin = time.perf_counter()
        for _ in range(repeats):
            for number, call in enumerate(calls):
                start = time.perf_counter()
                call()
                self.wait()
                best[number] = min(best[number], time.perf_counter() - start)
            if time.perf_counter() - begin > LIMIT_S * len(calls):
                break
        return best

    def patterns(self, batch: int, n: int) -> Array:
        """Random patterns, half of the inputs ON."""
        return self.backend.asarray(
            np.random.default_rng(0).integers(0, 2, (batch, n), dtype=np.uint8).astype(np.bool_)
        )


def find_card(rehearse: bool) -> Card:
    """Return the first GPU, or the processor for a rehearsal."""
    if rehearse:
        return Card(HOST, torch.device("cpu"), "processor", True)
    return Card(find_backend("cuda"), torch.device("cuda", 0), torch.cuda.get_device_name(0), False)
