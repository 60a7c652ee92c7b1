"""Messages between the processes of a layer-parallel chain."""

import math
from collections import Counter
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dfa.errors import Diverged
from dfa.feedback.encoding import Code

__all__ = ["BACKWARD", "FORWARD", "Lesson", "Wire", "pack", "unpack"]

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
"""Types of tensors that processes can exchange."""
MAX_DIMS = 4
"""Maximum number of dimensions of a block's output, including the batch."""
FORWARD, BACKWARD = "forward", "backward"


class Lesson(NamedTuple):
    """What the last process tells the others about the error of a step."""

    code: Code
    shape: torch.Size
    """Shape of the error."""
    factor: float
    """Factor by which the error was multiplied before it was encoded."""
    others: tuple[int, int]
    """Frames for the errors of the replicas before and after this one."""


class Wire:
    """The links of a process to the others of its group, which count the bytes that it sends.

    Tensors of a model on a GPU travel by nccl, if the group has it for GPUs; all others in the host's memory.
    """

    def __init__(self, group: dist.ProcessGroup | None, device: torch.device) -> None:
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        gpu = device.type == "cuda" and "cuda:nccl" in dist.get_backend_config(group)
        self.device = device if gpu else torch.device("cpu")
        self.traffic: Counter[str] = Counter()
        self._leaving: list[tuple[dist.Work, Tensor]] = []

    def send(self, tensor: Tensor, to: int, way: str = FORWARD, more: int = 0) -> None:
        """Send a tensor, after a header with its type and shape, and with the number of those that follow it."""
        if tensor.ndim > MAX_DIMS or tensor.dtype not in DTYPES:
            raise ValueError(
                f"a block's output must be real with at most {MAX_DIMS} dimensions, got {tensor.ndim} dimensions of "
                f"{tensor.dtype}"
            )
        head = [DTYPES.index(tensor.dtype), more, *tensor.shape, *[-1] * (MAX_DIMS - tensor.ndim)]
        self._start([torch.tensor(head, dtype=torch.int32), tensor], to, way)

    def receive(self, source: int) -> tuple[Tensor, int]:
        """Return the next tensor of a process, and the number of those that follow it."""
        kind, more, *dims = self._take((2 + MAX_DIMS,), torch.int32, source).tolist()
        return self._take(tuple(d for d in dims if d >= 0), DTYPES[kind], source), more

    def finish(self) -> None:
        """Wait until everything has been sent."""
        for work, _ in self._leaving:
            work.wait()
        self._leaving.clear()

    def teach(self, lesson: Lesson | None, replicas: int = 1) -> None:
        """Send the code of an error to all other processes at once; None tells them that the loss is not finite."""
        if lesson is None:
            parts = [torch.full((3 + MAX_DIMS + 2 * (replicas > 1),), math.nan, dtype=head_type(replicas))]
        else:
            (values, scale), shape = lesson.code, lesson.shape
            ternary = not values.is_floating_point()
            head = [lesson.factor, ternary, scale is not None, *shape, *[0] * (MAX_DIMS - len(shape))]
            head += lesson.others if replicas > 1 else ()
            parts = [torch.tensor(head, dtype=head_type(replicas)), pack(values) if ternary else values.float()]
            parts += [] if scale is None else [scale.float()]
        for other in range(self.size - 1):
            self._start(parts, other, BACKWARD)
        self.finish()

    def learn(self, replicas: int = 1) -> Lesson:
        """Receive the code of an error from the last process.

        Raises
        ------
        Diverged
            If the loss is not finite there.
        """
        source = self.size - 1
        head = self._take((3 + MAX_DIMS + 2 * (replicas > 1),), head_type(replicas), source).tolist()
        factor, ternary, scaled = head[:3]
        if math.isnan(factor):
            raise Diverged("loss must be finite in the last process, got NaN or infinity: training has diverged")
        shape = torch.Size(int(d) for d in head[3 : 3 + MAX_DIMS] if d)
        before, after = (int(count) for count in head[3 + MAX_DIMS :] or (0, 0))
        classes, count = shape[-1], math.prod(shape)
        kind = (-(-count // 4), torch.uint8) if ternary else (count, torch.float32)
        values = self._take(kind[:1], kind[1], source)
        values = unpack(values, count) if ternary else values
        scale = self._take((count // classes, 1), torch.float32, source) if scaled else None
        return Lesson(Code(values.view(-1, classes), scale), shape, factor, (before, after))

    def _start(self, parts: list[Tensor], to: int, way: str) -> None:
        """Begin to send tensors; they are kept until `finish`."""
        for part in (part.detach().to(self.device).contiguous() for part in parts):
            work = dist.isend(part, group=self.group, group_dst=to)
            assert work is not None
            self._leaving.append((work, part))
            self.traffic[way] += part.nbytes

    def _take(self, shape: tuple[int, ...], dtype: torch.dtype, source: int) -> Tensor:
        tensor = torch.empty(shape, dtype=dtype, device=self.device)
        dist.recv(tensor, group=self.group, group_src=source)
        return tensor


def head_type(replicas: int) -> torch.dtype:
    """Type of the header of a code; numbers of frames need double precision."""
    return torch.float64 if replicas > 1 else torch.float32


def pack(code: Tensor) -> Tensor:
    """Pack entries -1, 0, 1 of any shape, four in a byte: uint8, (ceil(n / 4),)."""
    flat = (code.flatten() + 1).to(torch.uint8)
    four = nn.functional.pad(flat, (0, -len(flat) % 4)).view(-1, 4)
    return four[:, 0] | four[:, 1] << 2 | four[:, 2] << 4 | four[:, 3] << 6


def unpack(data: Tensor, count: int) -> Tensor:
    """Unpack `count` entries from the bytes of `pack`: int8, (count,)."""
    places = torch.tensor([0, 2, 4, 6], dtype=torch.uint8, device=data.device)
    return (data[:, None] >> places & 3).flatten()[:count].to(torch.int8) - 1
