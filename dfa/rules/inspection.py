"""Checks of the first steps of a training: mistakes that are allowed, but that mean a wrong or a weak gradient."""

import sys
import warnings
from collections.abc import Iterable, Sequence

from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.utils.checkpoint import CheckpointFunction

from dfa.feedback.base import Feedback
from dfa.rules.calls import Call, Taught, nodes_behind
from dfa.rules.learner import tensors
from dfa.rules.outputs import normalisation, operation

__all__ = [
    "Inspector",
    "check_checkpoint",
    "check_recorded",
    "check_sharding",
    "inspect_step",
    "warn_of_code",
    "warn_of_compiled",
    "warn_of_order",
    "warn_of_unreached",
]

MAX_GROWTH = 30.0
"""Growth of the rms of a block's output since the first step that a warning names. In trainings that work it stays
below 10; without the derivative of the activation it passes 100."""
MAX_CONSTANT = 0.9
"""Share of the units that give the same output for every row, from which a warning names a block."""
MIN_UNITS = 64
"""Units of a hidden block without a norm, from which a code without the size of the error teaches it well."""
UNBOUNDED = ("Relu", "LeakyRelu", "PreluKernel", "Elu", "Gelu", "Silu", "Mish", "Softplus", "Hardswish")
"""Activations without bound, by their nodes of the graph: behind a layer, such a code costs points."""
LAYERS = ("Addmm", "Mm", "Bmm", "Baddbmm", "Convolution")
"""Layers, by their nodes of the graph."""
REDUCTIONS = {1: "mean", 2: "sum", "MeanBackward0": "mean", "SumBackward0": "sum"}
"""Reductions by their number in the nodes of torch's losses, or by the name of the node of a reduction by hand."""
SCALER = 8.0
"""Smallest factor of a loss that is taken for that of a gradient scaler."""
EVERY = 50
"""Steps between two checks of the outputs."""
MIN_ROWS = 8
"""Samples that a batch must have to tell a constant unit."""


class Inspector:
    """Checks of a learner's steps. Each warning comes once.

    Parameters
    ----------
    names : sequence of str
        Names of the blocks.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names, self.steps = names, 0
        self.first: dict[tuple[int, int], float] = {}
        """Rms of each block's output in its first checked step, by block and call."""
        self.told: set[tuple[int, str]] = set()

    def check_outputs(self, taught: Iterable[Taught]) -> None:
        """In every 50th step: warn of blocks whose output grows without bound, or whose units are constant."""
        self.steps += 1
        if (self.steps - 1) % EVERY:
            return
        for t in taught:
            h = t.output.detach().float().flatten(1) if t.output.ndim > 1 else t.output.detach().float()[None]
            size = float(h.square().mean().sqrt())
            growth = size / max(self.first.setdefault((t.block, t.call), size), 1e-30)
            still = (
                float((h.std(dim=0) <= 1e-3 * size).float().mean()) if len(h) >= MIN_ROWS and self.steps > 1 else 0.0
            )
            if growth > MAX_GROWTH and self.first_time(t.block, "growth"):
                warn(
                    f"the output of block {self.names[t.block]!r} has grown {growth:.0f} times since the first step: "
                    "lower the learning rate, put a norm into the block, set through='norm', or end the block "
                    "with a bounded activation such as tanh"
                )
            if still > MAX_CONSTANT and self.first_time(t.block, "constant"):
                warn(
                    f"{still:.0%} of the units of block {self.names[t.block]!r} give the same output for every sample "
                    "(saturated, or dead): lower the learning rate, or put a norm into the block"
                )

    def first_time(self, block: int, fault: str) -> bool:
        """Whether a fault of a block has not been told yet."""
        new = (block, fault) not in self.told
        self.told.add((block, fault))
        return new


def inspect_step(
    loss: Tensor,
    outputs: Sequence[Tensor],
    feedback: Feedback | None,
    class_dim: int,
    loss_scale: float,
    reduction: str,
) -> None:
    """Warn of a loss that was scaled, of other classes than those of the loss, and of outputs that look normalised."""
    coded = feedback is not None and not feedback.proportional
    other = {"mean": "sum", "sum": "mean"}[reduction]
    if coded and reduction_of(loss) == other:
        warn(
            f"reduction is {reduction!r}, but the loss is a {other} over the rows: pass reduction={other!r} to "
            "DirectFeedback, or the encoder codes a scaled error"
        )
    factor = constant_factor(loss) if coded and loss_scale == 1.0 else 1.0
    rows = [n for o in outputs for n in (len(o), o[..., 0].numel())]
    if factor != 1.0 and all(abs(factor * n - 1.0) > 1e-5 for n in rows):  # not the mean of a sum
        warn(
            f"loss seems to be multiplied by {factor:g} (accumulated batches, a scaler): pass loss_scale={factor:g} to "
            "backward, or the encoder codes a scaled error"
        )
    for output in outputs:
        dim = class_dim_of(loss, output)
        if dim is not None and dim != class_dim % output.ndim:
            warn(
                f"class_dim is {class_dim}, but the loss takes the classes of an output of shape {tuple(output.shape)} "
                f"in dimension {dim}: pass class_dim={dim}"
            )
        if normalisation(output, class_dim) is None and looks_normalised(output, class_dim):
            warn(
                f"output of shape {tuple(output.shape)} seems to be probabilities or their logarithm, whose error does "
                "not vanish as the network learns: return the logits"
            )


def warn(message: str) -> None:
    """Warn in the line that calls `backward`, by a check that the learner's `_inspect` calls."""
    warnings.warn(message, UserWarning, stacklevel=5)


def reduction_of(loss: Tensor) -> str | None:
    """Whether the last operation of the loss is a mean or a sum of all entries; None for others."""
    node = loss.grad_fn
    return None if node is None else REDUCTIONS.get(getattr(node, "_saved_reduction", node.name()))


def constant_factor(loss: Tensor) -> float:
    """Whole number by which the loss was divided last, or large factor by which it was multiplied; else 1.

    A product with 1/3, 1/4, ... is such a division; 1/2 is a factor of many losses.
    """
    node = loss.grad_fn
    other = getattr(node, "_saved_other", None)
    if node is None or operation(node) not in ("Mul", "Div") or not isinstance(other, Tensor) or other.numel() != 1:
        return 1.0
    value = float(other)
    if operation(node) == "Mul":
        if value >= SCALER:
            return value
        value = 1.0 / value if 0 < value < 0.5 else 1.0
    return 1.0 / round(value) if value > 1.5 and abs(value - round(value)) < 1e-5 * value else 1.0


def class_dim_of(loss: Tensor, output: Tensor) -> int | None:
    """Dimension of the softmax that the loss applies to this output; None if there is no such softmax."""
    node, steps = loss.grad_fn, 0
    while node is not None and steps < 8:
        before = node.next_functions[0][0] if node.next_functions else None
        if operation(node) in ("LogSoftmax", "Softmax"):
            dim = getattr(node, "_saved_dim", None)
            if before is not output.grad_fn or not isinstance(dim, int):
                return None
            return (dim - 2**64 if dim >= 2**63 else dim) % output.ndim
        node, steps = before, steps + 1
    return None


def looks_normalised(output: Tensor, class_dim: int) -> bool:
    """Whether every row of an output, or of its exponential, is a distribution."""
    values = output.detach().float()
    if values.ndim < 2 or values.shape[class_dim] < 2 or not values.numel():
        return False
    positive = values.exp() if bool((values <= 0).all()) else values
    return bool((positive >= 0).all() and ((positive.sum(dim=class_dim) - 1.0).abs() < 1e-3).all())


def warn_of_unreached(blocks: Sequence[Sequence[nn.Module]], names: Sequence[str], loss: Tensor, call: Call) -> None:
    """Warn of trainable parameters of called blocks that no output depends on; they get no gradient."""
    found = set()
    for node in nodes_behind([loss, *call.returned, *(t.output for t in call.taught)]):
        if operation(node) == "CheckpointFunction":
            return  # a reentrant checkpoint hides its parameters until the backward pass
        found.add(id(getattr(node, "variable", None)))
    for k in sorted({t.block for t in call.taught if t.output.requires_grad}):
        parts = [name for m in blocks[k] for name, p in m.named_parameters() if p.requires_grad and id(p) not in found]
        if parts:
            warn(
                f"{len(parts)} parameters of block {names[k]!r} ({parts[0]} ...) do not affect its output and will not "
                "learn: they are not used, or computed under no_grad or in a checkpoint without use_reentrant=False"
            )


def check_recorded(group: Sequence[nn.Module], inputs: object, output: Tensor) -> None:
    """Raise a ``ValueError`` if a block with trainable parameters returns a constant that is not its input."""
    if output.requires_grad or any(output is t for t in tensors(inputs)):
        return
    if any(p.requires_grad for module in group for p in module.parameters()):
        raise ValueError(
            f"a block's output must depend on its parameters, got a constant from {type(group[-1]).__name__}: use "
            "use_reentrant=False for a checkpoint inside it, or freeze the parameters of a block that needs no gradient"
        )


def check_checkpoint(module: nn.Module) -> None:
    """Raise a ``ValueError`` if a reentrant checkpoint calls a module, and none of its inputs requires a gradient.

    Then torch has no gradient for the parameters. Backpropagation has one, because it does not detach the inputs.
    """
    if not any(p.requires_grad for p in module.parameters(recurse=False)):
        return
    frame = sys._getframe()
    while frame is not None and frame.f_code is not CheckpointFunction.forward.__code__:
        frame = frame.f_back
    if frame is not None and not any(t.requires_grad for t in tensors(frame.f_locals["args"])):
        raise ValueError(
            f"a checkpoint inside a block must record gradients, got a reentrant one around {type(module).__name__}, "
            "whose parameters would have no gradient, because the inputs of a block are detached: use "
            "use_reentrant=False, or freeze the parameters"
        )


def warn_of_order(outputs: Sequence[Tensor], class_dim: int, call: Call) -> None:
    """Warn of rows that are as many as a block's, but exchanged, (tokens, batch), between block and output."""
    for output in outputs:
        rows = output.shape if output.ndim == 1 else output.movedim(class_dim, -1).shape[:-1]
        for t in call.taught:
            own = t.output.shape[:-1]
            flat = {len(rows), len(own)} == {1, 2} and rows.numel() == own.numel() and min(*rows, *own) > 1
            square = len(rows) == 2 and rows == own and rows[0] == rows[1] > 1
            if (flat or square) and sum(map(exchanges_rows, nodes_behind([output]))) % 2:
                warn(
                    f"output of shape {tuple(output.shape)} seems to have tokens and samples in another order than a "
                    f"block's output of shape {tuple(t.output.shape)}, which would be taught by the errors of other "
                    "rows: use one order in the whole model"
                )
                return


def exchanges_rows(node: Node) -> bool:
    """Whether a node exchanges the first two of three dimensions."""
    dims = getattr(node, "_saved_dims", None) if operation(node) == "Permute" else None
    if operation(node) == "Transpose":
        pair = {getattr(node, f"_saved_dim{k}", 2) for k in (0, 1)}
        return {dim + 3 - 2**64 if dim >= 2**63 else dim for dim in pair} == {0, 1}
    return isinstance(dims, tuple) and len(dims) == 3 and tuple(dims[:2]) == (1, 0)


def warn_of_compiled(names: Sequence[str], call: Call) -> None:
    """Warn of layers in compiled code, where no activation is looked for after them."""
    found = sorted({t.block for t in call.taught if t.unsearched})
    if found:
        warn(
            f"blocks {', '.join(repr(names[k]) for k in found)} end with a layer, and in compiled code no activation "
            "is looked for after it: if one follows, name a module that ends with it, or compile the blocks alone"
        )


def warn_of_code(taught: Sequence[Taught], names: Sequence[str]) -> None:
    """Warn of a code without the size of the error, where hidden blocks feed others and such a code harms them.

    The last hidden block alone bears every code, and so do blocks with a norm (docs/codes.md).
    """
    for t in taught:
        fault = weakness(t.output) if t.block < taught[-1].block else ""
        if fault:
            warn(
                f"the code counts small errors as much as large ones, which can harm block {names[t.block]!r}: it has "
                f"{fault} and no norm. Use Ternary(), or put a norm before the activation"
            )
            return


def weakness(output: Tensor) -> str:
    """Reason why signals without the size of the error harm a block, in words; empty if none is known."""
    fault = f"fewer than {MIN_UNITS} units" if output[0].numel() < MIN_UNITS else ""
    node = output.grad_fn
    while node is not None and operation(node) not in LAYERS:
        name, before = operation(node), [n for n, _ in node.next_functions if n is not None]
        fault = "an activation without bound" if name in UNBOUNDED else fault
        alone = len(before) == 1 or (before and name in UNBOUNDED)  # PReLU has a weight
        node = before[0] if alone and "Norm" not in name and name not in ("Add", "Sub") else None
    return "" if node is None else fault


def check_sharding(model: nn.Module) -> None:
    """Raise a ``ValueError`` if the parameters are sharded by FSDP, which gathers them by hooks on the whole graph."""
    for module in model.modules():
        if any(kind.__name__ in ("FSDPModule", "FullyShardedDataParallel") for kind in type(module).__mro__):
            raise ValueError(
                "model must not be sharded by fully_shard or FullyShardedDataParallel, whose hooks need one graph for "
                "the whole model: use DistributedDataParallel, or dfa.LayerParallel with a share of the blocks each"
            )
