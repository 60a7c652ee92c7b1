"""Layer-parallel training: each process holds some blocks of a chain, and little goes backward between them."""

import math
from collections import Counter, OrderedDict

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dfa.errors import Diverged, check_loss
from dfa.feedback.base import CodedFeedback
from dfa.feedback.encoding import Code
from dfa.rules.blocks import Blocks, find_blocks
from dfa.rules.rows import SPREADS, rows_of, spread_over, taught_rows, width_of

__all__ = ["LayerParallel", "packed", "unpacked"]

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
MOST_DIMS = 4
"""Dimensions of what blocks hand on, the batch included."""
FORWARD, BACKWARD = "forward", "backward"


class LayerParallel:
    """A process's share of a chain of blocks, trained by Direct Feedback Alignment or by backpropagation.

    Process r of R holds a run of consecutive blocks; the first one reads the input, the last one makes the output and
    the loss. Activations go from each process to the next. What comes back is, by backpropagation, the gradient of
    those activations, from each process to the one before, one after the other; by Direct Feedback Alignment it is
    the error's code, from the last process to all others at once, 2 bits for each entry if it is ternary. Each process
    makes the teaching signals of its own blocks from the code, by a feedback of its own: a seed or a device each.

    ``torch.distributed`` must be initialised (gloo, say; ``torchrun`` starts the processes), and every process must
    make the same model, of which it keeps its own blocks.

    Parameters
    ----------
    model : nn.Sequential
        The whole chain. The blocks together must be all of it.
    feedback : CodedFeedback, optional
        `RandomFeedback` with a seed of this process's own (blocks in different processes would share their matrices
        otherwise), or `OpticalFeedback` with a device of its own. The last process's encoder is the one that counts.
        None is backpropagation.
    blocks : str or sequence, optional
        As for `DirectFeedback`; at least as many as there are processes.
    spread : {"each", "channels", "features"}
        As for `DirectFeedback`.

    Attributes
    ----------
    module : nn.Sequential
        This process's blocks, with the names that they have in the model: for the optimiser and for checkpoints.
    traffic : Counter
        Bytes that this process has sent, "forward" and "backward"; 24 or 28 of each message say what it is.

    Raises
    ------
    ValueError
        If the model is no chain, has fewer blocks than there are processes or a parameter that two of them would hold,
        or no process group is initialised.

    Notes
    -----
    With batch b, width n and C classes, R processes send backward ``4 (R - 1) b n`` bytes by backpropagation,
    ``4 (R - 1) b C`` by Direct Feedback Alignment and ``(R - 1) b C / 4`` with ternary codes. Forward it is
    ``4 (R - 1) b n`` by either: the traffic of a whole step only halves. The loss must be a mean over rows.

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
    ) -> None:
        if not dist.is_initialized():
            raise ValueError("torch.distributed must be initialised before the model is shared out, got no group")
        if feedback is not None and not isinstance(feedback, CodedFeedback):
            raise ValueError(f"feedback must be RandomFeedback, OpticalFeedback or None, got {feedback!r}")
        if spread not in SPREADS:
            raise ValueError(f"spread must be one of {SPREADS}, got {spread!r}")
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.feedback, self.spread = feedback, spread
        groups = share(model, find_blocks(model, blocks), self.rank, self.size)
        names = {id(child): name for name, child in model.named_children()}
        self.module = nn.Sequential(OrderedDict((names[id(child)], child) for group in groups for child in group))
        self._blocks = [nn.Sequential(*group) for group in groups]
        self.traffic: Counter[str] = Counter()
        self._input: Tensor | None = None
        self._made: list[Tensor] = []

    @property
    def last(self) -> bool:
        """Whether this process makes the output and the loss."""
        return self.rank == self.size - 1

    def __call__(self, x: Tensor | None = None) -> Tensor | None:
        """Pass a batch through; the output in the last process, None in the others.

        Parameters
        ----------
        x : Tensor, optional
            The input; only the first process looks at it.
        """
        if self.rank == 0:
            if x is None:
                raise ValueError("x must be a tensor in the first process, got None")
            h = x
        else:
            h = self._receive(self.rank - 1)
            # What goes further back than a block is wanted by backpropagation alone.
            h.requires_grad_(self.feedback is None and torch.is_grad_enabled())
        self._input, self._made = h, []
        for block in self._blocks:
            made = block(h)
            self._made.append(made)
            h = made if self.feedback is None else made.detach()
        if self.last:
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
            In the last process, computed from the output of its last call. The others pass None.
        loss_scale : float
            As for `DirectFeedback.backward`; the last process's counts.

        Raises
        ------
        Diverged
            In all processes, if the loss is not finite.
        ValueError
            If the last process has no loss, or nothing was passed through before.
        """
        if not self._made:
            raise ValueError("backward must come after a call of the stage, once each, got none")
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
            if output.requires_grad:  # not if the first block is frozen
                output.backward(gradient)
            diverged = None if bool(torch.isfinite(gradient).all()) else "gradient must be finite, got NaN or infinity"
        if self.rank > 0:
            assert self._input.grad is not None
            self._send(self._input.grad, self.rank - 1, BACKWARD)
        if diverged:  # those before learn it from what they get
            raise Diverged(f"{diverged}: training has diverged")

    def _send_error(self, loss: Tensor, made: list[Tensor], loss_scale: float) -> None:
        """In the last process: encode the error, tell all others, and teach the own blocks."""
        assert self.feedback is not None
        try:
            check_loss(loss)
        except Diverged:
            self._tell([torch.tensor([math.nan] * (3 + MOST_DIMS))])
            raise
        [error] = torch.autograd.grad(loss, [made[-1]], retain_graph=True)
        rows = error.flatten(0, -2)
        factor = taught_rows(rows) / loss_scale
        code = self.feedback.encode((rows if rows.dtype == torch.float64 else rows.float()) * factor)
        ternary, scaled = not code.values.is_floating_point(), code.scale is not None
        shape = [*error.shape, *[0] * (MOST_DIMS - error.ndim)]
        parts = [torch.tensor([factor, ternary, scaled, *shape], dtype=torch.float32)]
        parts.append(packed(code.values) if ternary else code.values.float())
        self._tell([*parts, code.scale.float()] if code.scale is not None else parts)
        self._teach(code, error.shape, factor, made[:-1])
        loss.backward()

    def _receive_code(self) -> tuple[Code, torch.Size, float]:
        source = self.size - 1
        head = torch.empty(3 + MOST_DIMS)
        dist.recv(head, source)
        factor, ternary, scaled, *dims = head.tolist()
        if math.isnan(factor):
            raise Diverged("loss must be finite in the last process, got NaN or infinity: training has diverged")
        shape = torch.Size(int(d) for d in dims if d)
        classes, count = shape[-1], math.prod(shape)
        values = torch.empty(-(-count // 4), dtype=torch.uint8) if ternary else torch.empty(count)
        dist.recv(values, source)
        values = unpacked(values, count) if ternary else values
        scale = torch.empty(count // classes, 1) if scaled else None
        if scale is not None:
            dist.recv(scale, source)
        return Code(values.view(-1, classes), scale), shape, factor

    def _teach(self, code: Code, shape: torch.Size, factor: float, made: list[Tensor]) -> None:
        """Give blocks their signals, made from the code by this process's own feedback."""
        assert self.feedback is not None
        if not made:
            self.feedback.steps += 1
            return
        error = code.values.new_empty(()).expand(shape)
        leading = len(shape) - 1
        for output in made:
            if rows_of(error, output) != leading:
                raise ValueError(
                    f"a block's output must have the rows of the error {tuple(shape[:-1])} before its features, "
                    f"got shape {tuple(output.shape)}"
                )
        widths = [width_of(output, leading, self.spread) for output in made]
        signals = self.feedback.signals(code, widths, made[0].dtype)
        given = [spread_over(s / factor, h, leading, self.spread) for s, h in zip(signals, made, strict=True)]
        taught = [k for k, output in enumerate(made) if output.requires_grad]  # others are frozen
        if taught:
            torch.autograd.backward([made[k] for k in taught], [given[k] for k in taught])

    def _send(self, tensor: Tensor, to: int, way: str = FORWARD) -> None:
        """Send a tensor with its type and shape."""
        if tensor.ndim > MOST_DIMS or tensor.dtype not in DTYPES:
            raise ValueError(
                f"a block's output must be real, of {MOST_DIMS} dimensions at most, got {tensor.ndim} of {tensor.dtype}"
            )
        head = [DTYPES.index(tensor.dtype), tensor.ndim, *tensor.shape, *[0] * (MOST_DIMS - tensor.ndim)]
        for part in (torch.tensor(head, dtype=torch.int32), tensor.contiguous()):
            dist.send(part, to)
            self.traffic[way] += part.nbytes

    def _tell(self, parts: list[Tensor]) -> None:
        """Send the parts to all other processes, at once."""
        parts = [part.contiguous() for part in parts]
        for work in [dist.isend(part, other) for other in range(self.size - 1) for part in parts]:
            assert work is not None
            work.wait()
        self.traffic[BACKWARD] += (self.size - 1) * sum(part.nbytes for part in parts)

    @staticmethod
    def _receive(source: int) -> Tensor:
        head = torch.empty(2 + MOST_DIMS, dtype=torch.int32)
        dist.recv(head, source)
        kind, ndim, *dims = head.tolist()
        tensor = torch.empty(dims[:ndim], dtype=DTYPES[kind])
        dist.recv(tensor, source)
        return tensor


def share(model: nn.Module, groups: list[list[nn.Module]], rank: int, size: int) -> list[list[nn.Module]]:
    """Return the blocks of a process: consecutive ones, as many as the others have or one more or less."""
    if not isinstance(model, nn.Sequential) or [c for group in groups for c in group] != list(model):
        raise ValueError(f"model must be an nn.Sequential of blocks, got {type(model).__name__} with {len(groups)}")
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


def packed(code: Tensor) -> Tensor:
    """Entries -1, 0, 1 of any shape, four in a byte: uint8, (ceil(n / 4),)."""
    flat = (code.flatten() + 1).to(torch.uint8)
    four = nn.functional.pad(flat, (0, -len(flat) % 4)).view(-1, 4)
    return four[:, 0] | four[:, 1] << 2 | four[:, 2] << 4 | four[:, 3] << 6


def unpacked(data: Tensor, count: int) -> Tensor:
    """Return the `count` entries that `packed` put into the bytes: int8, (count,)."""
    places = torch.tensor([0, 2, 4, 6], dtype=torch.uint8)
    return (data[:, None] >> places & 3).flatten()[:count].to(torch.int8) - 1
