"""Layer-parallel training: each process holds some blocks of a chain, and sends little data backward."""

import math
from collections import Counter, OrderedDict

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dfa.errors import Diverged, check_loss
from dfa.feedback.base import CodedFeedback, scale_of
from dfa.feedback.encoding import Code
from dfa.feedback.ranks import check_ranks
from dfa.rules.blocks import Blocks, find_blocks
from dfa.rules.layout import Layout, Slice
from dfa.rules.rows import SPREADS, count_taught, rows_of, spread_over, width_of

__all__ = ["LayerParallel", "pack", "unpack"]

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
"""Types of tensors that processes can exchange."""
MAX_DIMS = 4
"""Maximum number of dimensions of a block's output, including the batch."""
FORWARD, BACKWARD = "forward", "backward"


class LayerParallel:
    """A process's share of a chain of blocks, trained by Direct Feedback Alignment or by backpropagation.

    Process r of R holds consecutive blocks. The first process reads the input, and the last one computes the output and
    the loss. Activations are sent from each process to the next. In backpropagation each process sends the gradient of
    its input to the process before it, one after the other. In Direct Feedback Alignment the last process sends the
    encoded error to all others at once, with 2 bits per entry if the code is ternary. Each process computes the
    teaching signals of its own blocks from the code, with its own feedback (its own seed or device).

    ``torch.distributed`` must be initialised (for example with gloo; ``torchrun`` starts the processes). Every process
    must create the same model, and keeps only its own blocks.

    Parameters
    ----------
    model : nn.Sequential
        The whole chain. The blocks together must cover it.
    feedback : CodedFeedback, optional
        `RandomFeedback` with a different seed in each process (otherwise blocks in different processes share their
        matrices), `RankFeedback` through one device that the processes share, or `OpticalFeedback` with a different
        device in each process. Only the encoder of the last process is used. None is backpropagation.
    blocks : str or sequence, optional
        As for `DirectFeedback`; at least as many as there are processes.
    spread : {"each", "channels", "features"}
        As for `DirectFeedback`.
    scale : float, optional
        As for `DirectFeedback`.

    Attributes
    ----------
    module : nn.Sequential
        Blocks of this process, with their names in the model: for the optimiser and for checkpoints.
    layout : Layout
        Slices of B for the blocks of this process.
    traffic : Counter
        Bytes that this process has sent, "forward" and "backward", including a header of 24 or 28 bytes per message.

    Raises
    ------
    ValueError
        If the model is not a chain, has fewer blocks than there are processes, or has a parameter that two processes
        would hold; or if no process group is initialised.

    Notes
    -----
    With batch b, width n and C classes, R processes send backward ``4 (R - 1) b n`` bytes in backpropagation,
    ``4 (R - 1) b C`` in Direct Feedback Alignment and ``(R - 1) b C / 4`` with ternary codes. Both send
    ``4 (R - 1) b n`` bytes forward, so that the traffic of a whole step is only halved. The loss must be a mean over
    rows.

    As in `DirectFeedback`, a block that is called with a shorter output keeps its slice of B, and a longer one adds a
    slice at the end.

    Examples
    --------
    In each process, with the same data in all of them::

        stage = LayerParallel(mlp([784, 2048, 2048, 10]), RandomFeedback(seed=dist.get_rank(), encoder=Ternary()))
        optimiser = torch.optim.Adam(stage.module.parameters())
        for x, y in batches:
            output = stage(x)  # None in all processes but the last
            optimiser.zero_grad()
            stage.backward(cross_entropy(output, y) if stage.last else None)
            optimiser.step()
    """

    def __init__(
        self,
        model: nn.Sequential,
        feedback: CodedFeedback | None = None,
        *,
        blocks: Blocks | None = None,
        spread: str = "each",
        scale: float | None = None,
    ) -> None:
        if not dist.is_initialized():
            raise ValueError(
                "torch.distributed must be initialised before LayerParallel is created, got no process group"
            )
        if feedback is not None and not isinstance(feedback, CodedFeedback):
            raise ValueError(f"feedback must be RandomFeedback, OpticalFeedback or None, got {feedback!r}")
        check_ranks(feedback)
        if spread not in SPREADS:
            raise ValueError(f"spread must be one of {SPREADS}, got {spread!r}")
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.feedback, self.spread, self.scale = feedback, spread, scale_of(feedback, scale)
        groups = share(model, find_blocks(model, blocks), self.rank, self.size)
        names = {id(child): name for name, child in model.named_children()}
        self.module = nn.Sequential(OrderedDict((names[id(child)], child) for group in groups for child in group))
        self._blocks = [nn.Sequential(*group) for group in groups]
        self.traffic: Counter[str] = Counter()
        self.layout = Layout()
        self._input: Tensor | None = None
        self._made: list[Tensor] = []

    def __repr__(self) -> str:
        return (
            f"LayerParallel(process {self.rank} of {self.size}, {len(self._blocks)} blocks here; "
            f"feedback={self.feedback!r})"
        )

    @property
    def last(self) -> bool:
        """Whether this process computes the output and the loss."""
        return self.rank == self.size - 1

    def __call__(self, x: Tensor | None = None) -> Tensor | None:
        """Propagate a batch. Returns the output in the last process, None in the others.

        Parameters
        ----------
        x : Tensor, optional
            The input; used only by the first process.
        """
        if self.rank == 0:
            if x is None:
                raise ValueError("x must be a tensor in the first process, got None")
            h = x
        else:
            h = self._receive(self.rank - 1)
            # Only backpropagation needs the gradient of a process's input.
            h.requires_grad_(self.feedback is None and torch.is_grad_enabled())
        self._input, self._made = h, []
        for block in self._blocks:
            made = block(h)
            self._made.append(made)
            h = made if self.feedback is None else made.detach()
        if self.last:
            made = self._made[-1]
            if not h.requires_grad and not made.requires_grad and torch.is_grad_enabled():
                self._made[-1] = made.detach().requires_grad_()  # a frozen head: the blocks before it need the error
            return self._made[-1]
        self._send(h.detach(), self.rank + 1)
        return None

    def backward(self, loss: Tensor | None = None, *, loss_scale: float = 1.0) -> None:
        """Add this process's gradients to ``.grad``.

        Parameters
        ----------
        loss : Tensor, scalar, optional
            In the last process, computed from the output of its last call; None in the others.
        loss_scale : float
            As for `DirectFeedback.backward`; only that of the last process is used.

        Raises
        ------
        Diverged
            In all processes, if the loss is not finite.
        ValueError
            If the last process gets no loss, or if there was no call since the last `backward`.
        """
        if not self._made:
            raise ValueError("backward must be called once after each call of the stage, got no call before it")
        if self.last and loss is None:
            raise ValueError("loss must be a scalar in the last process, got None")
        if not loss_scale > 0:
            raise ValueError(f"loss_scale must be positive, got {loss_scale!r}")
        made, self._made = self._made, []
        if self.feedback is None:
            self._backpropagate(made[-1], loss)
        elif loss is None:
            code, shape, factor = self._receive_code()
            self._teach(code, shape, factor, made)
        else:
            self._send_error(loss, made, loss_scale)

    def _backpropagate(self, output: Tensor, loss: Tensor | None) -> None:
        assert self._input is not None
        diverged = None
        if loss is not None:
            loss.backward()
            diverged = None if math.isfinite(loss.item()) else f"loss must be finite, got {loss.item()}"
        else:
            gradient = self._receive(self.rank + 1)
            if output.requires_grad:  # False if the first block is frozen
                output.backward(gradient)
            diverged = None if bool(torch.isfinite(gradient).all()) else "gradient must be finite, got NaN or infinity"
        if self.rank > 0:
            assert self._input.grad is not None
            self._send(self._input.grad, self.rank - 1, BACKWARD)
        if diverged:  # the processes before this one detect it in the gradient that they receive
            raise Diverged(f"{diverged}: training has diverged")

    def _send_error(self, loss: Tensor, made: list[Tensor], loss_scale: float) -> None:
        """In the last process: encode the error, send it to all others, and teach the blocks of this process."""
        assert self.feedback is not None
        try:
            check_loss(loss)
        except Diverged:
            self._broadcast([torch.tensor([math.nan] * (3 + MAX_DIMS))])
            raise
        [error] = torch.autograd.grad(loss, [made[-1]], retain_graph=True)
        rows = error.flatten(0, -2)
        factor = count_taught(rows) / loss_scale
        code = self.feedback.encode((rows if rows.dtype == torch.float64 else rows.float()) * factor)
        ternary, scaled = not code.values.is_floating_point(), code.scale is not None
        shape = [*error.shape, *[0] * (MAX_DIMS - error.ndim)]
        parts = [torch.tensor([factor, ternary, scaled, *shape], dtype=torch.float32)]
        parts.append(pack(code.values) if ternary else code.values.float())
        self._broadcast([*parts, code.scale.float()] if code.scale is not None else parts)
        self._teach(code, error.shape, factor, made[:-1])
        loss.backward()

    def _receive_code(self) -> tuple[Code, torch.Size, float]:
        source = self.size - 1
        head = torch.empty(3 + MAX_DIMS)
        dist.recv(head, source)
        factor, ternary, scaled, *dims = head.tolist()
        if math.isnan(factor):
            raise Diverged("loss must be finite in the last process, got NaN or infinity: training has diverged")
        shape = torch.Size(int(d) for d in dims if d)
        classes, count = shape[-1], math.prod(shape)
        values = torch.empty(-(-count // 4), dtype=torch.uint8) if ternary else torch.empty(count)
        dist.recv(values, source)
        values = unpack(values, count) if ternary else values
        scale = torch.empty(count // classes, 1) if scaled else None
        if scale is not None:
            dist.recv(scale, source)
        return Code(values.view(-1, classes), scale), shape, factor

    def _teach(self, code: Code, shape: torch.Size, factor: float, made: list[Tensor]) -> None:
        """Teach blocks by the signals that this process's feedback computes from the code."""
        assert self.feedback is not None
        if not made:
            self.feedback.skip(code)
            return
        error = code.values.new_empty(()).expand(shape)
        leading = len(shape) - 1
        for output in made:
            if rows_of(error, output) != (leading, True):
                raise ValueError(
                    f"a block's output must have the rows of the error {tuple(shape[:-1])} before its features, "
                    f"got shape {tuple(output.shape)}"
                )
        wanted = [Slice(k, 0, width_of(output, leading, self.spread)) for k, output in enumerate(made)]
        signals = self.feedback.signals(code, self.layout.widths(wanted), made[0].dtype)
        signals = self.layout.take(signals, wanted)
        factor /= self.scale
        given = [spread_over(s / factor, h, leading, self.spread) for s, h in zip(signals, made, strict=True)]
        taught = [k for k, output in enumerate(made) if output.requires_grad]  # others are frozen
        if taught:
            torch.autograd.backward([made[k] for k in taught], [given[k] for k in taught])

    def _send(self, tensor: Tensor, to: int, way: str = FORWARD) -> None:
        """Send a tensor, after a header with its type and shape."""
        if tensor.ndim > MAX_DIMS or tensor.dtype not in DTYPES:
            raise ValueError(
                f"a block's output must be real with at most {MAX_DIMS} dimensions, got {tensor.ndim} dimensions of "
                f"{tensor.dtype}"
            )
        head = [DTYPES.index(tensor.dtype), tensor.ndim, *tensor.shape, *[0] * (MAX_DIMS - tensor.ndim)]
        for part in (torch.tensor(head, dtype=torch.int32), tensor.contiguous()):
            dist.send(part, to)
            self.traffic[way] += part.nbytes

    def _broadcast(self, parts: list[Tensor]) -> None:
        """Send the parts to all other processes at once."""
        parts = [part.contiguous() for part in parts]
        for work in [dist.isend(part, other) for other in range(self.size - 1) for part in parts]:
            assert work is not None
            work.wait()
        self.traffic[BACKWARD] += (self.size - 1) * sum(part.nbytes for part in parts)

    @staticmethod
    def _receive(source: int) -> Tensor:
        head = torch.empty(2 + MAX_DIMS, dtype=torch.int32)
        dist.recv(head, source)
        kind, ndim, *dims = head.tolist()
        tensor = torch.empty(dims[:ndim], dtype=DTYPES[kind])
        dist.recv(tensor, source)
        return tensor


def share(model: nn.Module, groups: list[list[nn.Module]], rank: int, size: int) -> list[list[nn.Module]]:
    """Blocks of a process: consecutive ones, whose number differs by at most one between processes."""
    if not isinstance(model, nn.Sequential) or [c for group in groups for c in group] != list(model):
        raise ValueError(
            f"model must be an nn.Sequential of blocks, got {type(model).__name__} with {len(groups)} blocks"
        )
    if len(groups) < size:
        raise ValueError(f"model must have a block for each of the {size} processes, got {len(groups)}")
    shares = [groups[len(groups) * r // size : len(groups) * (r + 1) // size] for r in range(size)]
    holder: dict[int, int] = {}
    for r, blocks in enumerate(shares):
        for parameter in (p for group in blocks for module in group for p in module.parameters()):
            if holder.setdefault(id(parameter), r) != r:
                raise ValueError(
                    f"model must hold each parameter in one process, got one of shape {tuple(parameter.shape)} in "
                    f"processes {holder[id(parameter)]} and {r}"
                )
    return shares[rank]


def pack(code: Tensor) -> Tensor:
    """Pack entries -1, 0, 1 of any shape, four in a byte: uint8, (ceil(n / 4),)."""
    flat = (code.flatten() + 1).to(torch.uint8)
    four = nn.functional.pad(flat, (0, -len(flat) % 4)).view(-1, 4)
    return four[:, 0] | four[:, 1] << 2 | four[:, 2] << 4 | four[:, 3] << 6


def unpack(data: Tensor, count: int) -> Tensor:
    """Unpack `count` entries from the bytes of `pack`: int8, (count,)."""
    places = torch.tensor([0, 2, 4, 6], dtype=torch.uint8)
    return (data[:, None] >> places & 3).flatten()[:count].to(torch.int8) - 1
