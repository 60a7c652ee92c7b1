"""Layer-parallel training: each process holds some blocks of a chain, and sends little data backward."""

import math
from collections import OrderedDict

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from dfa.errors import Diverged, check_loss
from dfa.feedback.base import CodedFeedback, scale_of
from dfa.feedback.encoding import Code
from dfa.feedback.ranks import check_ranks
from dfa.ranks.messages import BACKWARD, Lesson, Wire
from dfa.ranks.replicas import Replicas
from dfa.rules.blocks import Blocks, find_blocks
from dfa.rules.layout import Layout, Slice
from dfa.rules.rows import SPREADS, count_taught, rows_of, spread_over, width_of
from photonics.component import integer

__all__ = ["LayerParallel"]


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
    micro_batches : int
        Parts of a batch that follow each other through the processes, so that they work at the same time. The loss and
        the code are those of the whole batch. Batch norms see the parts.
    mesh : DeviceMesh, optional
        Processes with the dimensions (replicas, blocks), from ``torch.distributed.device_mesh.init_device_mesh``. Each
        replica holds the whole chain and takes its rows of the batch (`shard`). Gradients are those of the mean over
        all rows. By default one replica of all processes.

    Attributes
    ----------
    module : nn.Sequential
        Blocks of this process, with their names in the model: for the optimiser and for checkpoints.
    layout : Layout
        Slices of B for the blocks of this process.
    rank, size : int
        Number of this process in its replica, and processes in a replica.
    replication : Replicas
        The processes with the same blocks.
    traffic : Counter
        Bytes that this process has sent, "forward", "backward" and between "replicas", including a header of 24 bytes
        per tensor, and of 28 per code (72 with replicas).

    Raises
    ------
    ValueError
        If the model is not a chain, has fewer blocks than there are processes, or has a parameter that two processes
        would hold; if no process group is initialised; or if replicas differ in their weights or feedback.

    Notes
    -----
    With batch b, width n and C classes, R processes send backward ``4 (R - 1) b n`` bytes in backpropagation,
    ``4 (R - 1) b C`` in Direct Feedback Alignment and ``(R - 1) b C / 4`` with ternary codes. Both send
    ``4 (R - 1) b n`` bytes forward, so that the traffic of a whole step is only halved. The loss must be a mean over
    rows.

    With M micro-batches a process waits (R - 1)/M of its time of a forward pass. It never waits on the way back, except
    in backpropagation.

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
        micro_batches: int = 1,
        mesh: DeviceMesh | None = None,
    ) -> None:
        if not dist.is_initialized():
            raise ValueError(
                "torch.distributed must be initialised before LayerParallel is created, got no process group"
            )
        if feedback is not None and not isinstance(feedback, CodedFeedback):
            raise ValueError(
                "feedback must be RandomFeedback, MediumFeedback, OpticalFeedback, RankFeedback or None, got "
                f"{feedback!r:.80}"
            )
        self.micro_batches = integer(micro_batches, "micro_batches", 1)
        self.replication = Replicas(mesh)
        check_ranks(feedback, self.replicas)
        if spread not in SPREADS:
            raise ValueError(f"spread must be one of {SPREADS}, got {spread!r}")
        self._device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self._wire = Wire(self.replication.chain, self._device)
        self.rank, self.size, self.traffic = self._wire.rank, self._wire.size, self._wire.traffic
        self.feedback, self.spread, self.scale = feedback, spread, scale_of(feedback, scale)
        groups = share(model, find_blocks(model, blocks), self.rank, self.size)
        names = {id(child): name for name, child in model.named_children()}
        self.module = nn.Sequential(OrderedDict((names[id(child)], child) for group in groups for child in group))
        self._blocks = [nn.Sequential(*group) for group in groups]
        self.layout = Layout()
        self._inputs: list[Tensor] = []
        self._made: list[list[Tensor]] = []
        self._output: Tensor | None = None
        self.replication.check_equal(self.module, feedback)

    def __repr__(self) -> str:
        replica = f" of replica {self.replica} of {self.replicas}" if self.replicas > 1 else ""
        return (
            f"LayerParallel(process {self.rank} of {self.size}{replica}, {len(self._blocks)} blocks here; "
            f"feedback={self.feedback!r})"
        )

    @property
    def last(self) -> bool:
        """Whether this process computes the output and the loss."""
        return self.rank == self.size - 1

    @property
    def replica(self) -> int:
        """Number of this process's replica."""
        return self.replication.rank

    @property
    def replicas(self) -> int:
        """Number of replicas."""
        return self.replication.size

    def shard(self, batch: Tensor) -> Tensor:
        """Rows of a global batch, first dimension, that this replica takes; numbers of rows differ by one at most."""
        if len(batch) < self.replicas:
            raise ValueError(f"batch must have a row for each of the {self.replicas} replicas, got {len(batch)}")
        return batch.tensor_split(self.replicas)[self.replica]

    def __call__(self, x: Tensor | None = None) -> Tensor | None:
        """Propagate a batch. Returns the output in the last process, None in the others.

        Parameters
        ----------
        x : Tensor, optional
            The input, in a replica its rows; used only by the first process.
        """
        self._inputs, self._made, self._output = [], [], None
        if self.rank == 0:
            if x is None:
                raise ValueError("x must be a tensor in the first process, got None")
            parts = x.tensor_split(max(min(self.micro_batches, len(x)), 1))
            for k, part in enumerate(parts):
                self._propagate(part, len(parts) - 1 - k)
        else:
            more = 1
            while more:
                part, more = self._wire.receive(self.rank - 1)
                # Only backpropagation needs the gradient of a process's input.
                part = part.to(self._device).requires_grad_(self.feedback is None and torch.is_grad_enabled())
                self._propagate(part, more)
        self._wire.finish()
        if not self.last:
            return None
        # The loss is that of the whole batch; its gradient enters the last block part by part.
        self._output = torch.cat([made[-1].detach() for made in self._made]).requires_grad_(torch.is_grad_enabled())
        return self._output

    def _propagate(self, part: Tensor, more: int) -> None:
        """Compute the blocks of a micro-batch, and send it on."""
        h, outputs = part, []
        for block in self._blocks:
            outputs.append(block(h))
            h = outputs[-1] if self.feedback is None else outputs[-1].detach()
        self._inputs.append(part)
        self._made.append(outputs)
        if not self.last:
            self._wire.send(h, self.rank + 1, more=more)

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
        with self.replication.summing(self.module, self.traffic):
            if self.feedback is None:
                diverged = self._backpropagate(made, loss)
            else:
                diverged = None
                lesson = self._wire.learn(self.replicas) if loss is None else self._encode(loss, made, loss_scale)
                self._teach(lesson, [outputs[:-1] if self.last else outputs for outputs in made])
        if diverged:  # the processes before this one detect it in the gradient that they receive
            raise Diverged(f"{diverged}: training has diverged")

    def _error(self, loss: Tensor, share: float) -> Tensor:
        """In the last process: the gradient of the mean loss over all replicas, at the outputs of this one."""
        assert self._output is not None
        (loss if share == 1.0 else loss * share).backward()
        if self._output.grad is None:
            raise ValueError("loss must be computed from the output of the last call, got one that is not")
        return self._output.grad

    def _share(self, loss: Tensor) -> float:
        """In the last process: this replica's share of all rows; NaN if a loss is not finite in one of them."""
        assert self._output is not None
        return self.replication.share(len(self._output), math.isfinite(loss.item()))

    def _backpropagate(self, made: list[list[Tensor]], loss: Tensor | None) -> str | None:
        """Compute gradients one micro-batch after the other; return why they are not finite, None if they are."""
        parts, diverged = None, None
        if loss is not None:
            parts = self._error(loss, self._share(loss)).split([len(outputs[-1]) for outputs in made])
            diverged = None if math.isfinite(loss.item()) else f"loss must be finite, got {loss.item()}"
        for k, (part, outputs) in enumerate(zip(self._inputs, made, strict=True)):
            gradient = self._wire.receive(self.rank + 1)[0].to(part.device) if parts is None else parts[k]
            if outputs[-1].requires_grad:  # False if the first block is frozen
                outputs[-1].backward(gradient)
            if not bool(torch.isfinite(gradient).all()):
                diverged = diverged or "gradient must be finite, got NaN or infinity"
            if self.rank > 0:
                assert part.grad is not None
                self._wire.send(part.grad, self.rank - 1, BACKWARD)
        self._wire.finish()
        return diverged

    def _encode(self, loss: Tensor, made: list[list[Tensor]], loss_scale: float) -> Lesson:
        """In the last process: encode the error, send it to all others, and teach the last block."""
        assert self.feedback is not None
        share = self._share(loss)
        if math.isnan(share):
            self._wire.teach(None, self.replicas)
            check_loss(loss)
            raise Diverged("loss must be finite in all replicas, got NaN or infinity: training has diverged")
        error = self._error(loss, share)
        rows = error.flatten(0, -2)
        # Thresholds and random numbers are those of the whole batch.
        batch, own = self.replication.gather(rows if rows.dtype == torch.float64 else rows.float())
        factor = count_taught(batch) / loss_scale
        values, scale = self.feedback.encode(batch * factor)
        others = self.feedback.frames_of(values[: own.start]), self.feedback.frames_of(values[own.stop :])
        lesson = Lesson(Code(values[own], None if scale is None else scale[own]), error.shape, factor, others)
        self._wire.teach(lesson, self.replicas)
        for outputs, part in zip(made, error.split([len(outputs[-1]) for outputs in made]), strict=True):
            if outputs[-1].requires_grad:  # False if the last block is frozen
                outputs[-1].backward(part)
        return lesson

    def _teach(self, lesson: Lesson, made: list[list[Tensor]]) -> None:
        """Teach blocks by the signals that this process's feedback computes from the code.

        `made` has the outputs of the blocks for each micro-batch.
        """
        assert self.feedback is not None
        (values, scale), shape, factor, others = lesson
        if not made[0]:
            self.feedback.skip(lesson.code, others)
            return
        code = Code(values.to(self._device), None if scale is None else scale.to(self._device))
        leading, each = len(shape) - 1, shape[1:-1].numel()
        sizes = [len(part) for part in torch.empty(shape[0]).tensor_split(len(made))]
        for size, outputs in zip(sizes, made, strict=True):
            error = code.values.new_empty(()).expand(size, *shape[1:])
            for output in outputs:
                if rows_of(error, output) != (leading, True):
                    raise ValueError(
                        f"a block's output must have the rows of the error {tuple(error.shape[:-1])} before its "
                        f"features, got shape {tuple(output.shape)}"
                    )
        wanted = [Slice(k, 0, width_of(output, leading, self.spread)) for k, output in enumerate(made[0])]
        signals = self.feedback.signals(code, self.layout.widths(wanted), made[0][0].dtype, others)
        signals = [signal / (factor / self.scale) for signal in self.layout.take(signals, wanted)]
        for outputs, *parts in zip(made, *(s.split([each * size for size in sizes]) for s in signals), strict=True):
            given = [spread_over(s, h, leading, self.spread) for s, h in zip(parts, outputs, strict=True)]
            taught = [k for k, output in enumerate(outputs) if output.requires_grad]  # others are frozen
            if taught:
                torch.autograd.backward([outputs[k] for k in taught], [given[k] for k in taught])


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
