"""Replicas of a layer-parallel chain, which share the rows of a batch."""

import io
import math
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from dfa.feedback.base import Feedback

__all__ = ["Replicas"]


class Replicas:
    """The processes that hold the same blocks, one in each replica.

    Parameters
    ----------
    mesh : DeviceMesh, optional
        Of the dimensions (replicas, blocks); None is one replica of all processes.

    Raises
    ------
    ValueError
        If the mesh has other dimensions.
    """

    def __init__(self, mesh: DeviceMesh | None) -> None:
        if mesh is not None and (not isinstance(mesh, DeviceMesh) or mesh.ndim != 2):
            raise ValueError(f"mesh must be a DeviceMesh of the dimensions (replicas, blocks), got {mesh!r:.80}")
        if "cpu" not in dist.get_backend_config():
            raise ValueError(
                "the process group must also exchange tensors of the host, got one for GPUs only: use "
                "torch.distributed.init_process_group('cpu:gloo,cuda:nccl')"
            )
        self.chain = None if mesh is None else mesh.get_group(1)
        self.group = None if mesh is None else mesh.get_group(0)
        self.rank = 0 if mesh is None else dist.get_rank(self.group)
        self.size = 1 if mesh is None else dist.get_world_size(self.group)

    def check_equal(self, module: nn.Module, feedback: Feedback | None) -> None:
        """Raise a ``ValueError`` in all replicas if weights or feedback of the same blocks differ."""
        if self.size == 1:
            return
        content, weights = io.BytesIO(), {name: value.cpu() for name, value in module.state_dict().items()}
        torch.save([weights, {} if feedback is None else feedback.state_dict()], content)
        sums: list[int | None] = [None] * self.size
        dist.all_gather_object(sums, zlib.crc32(content.getvalue()), self.group)
        if len(set(sums)) > 1:
            raise ValueError(
                "replicas must have the same weights and feedback for the same blocks, got different ones: seed both "
                "by the number of the stage, mesh.get_local_rank(1), and not by that of the process"
            )

    def share(self, rows: int, finite: bool) -> float:
        """Share of this replica in the rows of all; NaN if a loss is not finite in one of them."""
        if self.size == 1:
            return 1.0 if finite else math.nan
        return rows / self.total(rows if finite else math.nan)

    def total(self, value: float) -> float:
        """Sum of a value of each replica."""
        return value if self.size == 1 else float(self._told(value).sum())

    def from_last(self, values: list[float]) -> list[float]:
        """Values of the last process of this replica."""
        told = torch.tensor(values, dtype=torch.float64)
        dist.broadcast(told, group=self.chain, group_src=dist.get_world_size(self.chain) - 1)
        return told.tolist()

    def gather(self, rows: Tensor) -> tuple[Tensor, slice]:
        """Return the rows of all replicas, in their order, and the place of those of this one."""
        if self.size == 1:
            return rows, slice(0, len(rows))
        counts = [int(count) for count in self._told(len(rows))]
        longest = nn.functional.pad(rows.cpu(), (0, 0, 0, max(counts) - len(rows)))
        found = [torch.empty_like(longest) for _ in counts]
        dist.all_gather(found, longest, group=self.group)
        first = sum(counts[: self.rank])
        batch = torch.cat([part[:count] for part, count in zip(found, counts, strict=True)]).to(rows.device)
        return batch, slice(first, first + len(rows))

    @contextmanager
    def summing(self, module: nn.Module, traffic: Counter[str]) -> Iterator[None]:
        """Context in which gradients are computed; at its end those of all replicas are summed, and added."""
        if self.size == 1:
            yield
            return
        parameters = list(module.parameters())
        before = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        yield
        found = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if found:
            joined = torch.cat([gradient.flatten() for gradient in found])
            dist.all_reduce(joined, group=self.group)
            traffic["replicas"] += 2 * (self.size - 1) * joined.nbytes // self.size  # in a ring
            for gradient, summed in zip(found, joined.split([g.numel() for g in found]), strict=True):
                gradient.copy_(summed.view_as(gradient))
        for parameter, old in zip(parameters, before, strict=True):
            if old is not None:
                parameter.grad = old if parameter.grad is None else old.add_(parameter.grad)

    def _told(self, value: float) -> Tensor:
        """Value of each replica, in their order."""
        own = torch.tensor([value], dtype=torch.float64)
        told = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(told, own, group=self.group)
        return torch.cat(told)
