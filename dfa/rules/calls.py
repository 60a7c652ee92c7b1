"""The record of a call of the model, and the conditions under which its blocks can be taught."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from dfa.rules.blocks import check_present, parameters_of, unwrap

__all__ = [
    "Call",
    "Follower",
    "Taught",
    "check_called",
    "check_wrapper",
    "nodes_behind",
    "parameters_behind",
    "start_graph",
]


@dataclass
class Taught:
    """Output of a block in one call, while gradients were recorded."""

    block: int
    """Position of the block."""
    output: Tensor = field(repr=False)
    """Output of the block, whose graph leads back into it."""
    module: int
    """Number of the hooked module."""
    call: int = 0
    """Number of the call of this block, from 0."""
    unsearched: bool = False
    """Whether the block is a single layer in compiled code, where no activation is looked for."""
    joined: bool = False
    """Whether the block is taught by the signal of another one, with which it is summed before an activation."""
    packed: Tensor | None = field(default=None, repr=False)
    """Samples at each time, if the rows are those of a ``PackedSequence``, which are sorted by time."""

    @property
    def rows_by_time(self) -> bool:
        """Whether the rows are as many as those of the unpacked sequences, in another order."""
        return self.packed is not None and 1 < int(self.packed[0]) == int(self.packed[-1]) and len(self.packed) > 1


@dataclass
class Follower:
    """What follows one call of a block."""

    taught: Taught
    """Record of the block's output, which becomes that of the activation."""
    layer: bool
    """Whether the block ends with a single layer, whose norm may follow."""
    bare: bool
    """Whether the block's last part is a layer, which is rarely taught without an activation."""
    found: bool | None = None
    """Whether an activation was found; None as long as the search goes on."""
    reader: str = ""
    """Function that ended the search."""


@dataclass
class Call:
    """Record of one call of a model."""

    number: int = 0
    """Number of the call, from 1."""
    inside: bool = False
    """Whether the call is in progress."""
    taught: list[Taught] = field(default_factory=list)
    """Outputs of the blocks, in the order of their calls."""
    constants: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """Detached tensors that were passed on, each with the tensor of which it is a copy."""
    followers: list[Follower] = field(default_factory=list)
    """Blocks after which an activation was sought."""
    returned: list[Tensor] = field(default_factory=list)
    """Tensors that the model returned."""
    unrecorded: set[int] = field(default_factory=set)
    """Numbers of hooked modules that were called without recording gradients."""
    tracked: bool = False
    """Whether the copies record gradients, so that the true gradients can be found piece by piece."""
    leaves: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """In a tracked call: starts of the pieces of the graph, each with the tensor of which it is a copy."""
    late: set[int] = field(default_factory=set)
    """During the backward pass: numbers of hooked modules that the call itself did not record."""

    def detach(self, tensor: Tensor, end: bool = False) -> Tensor:
        """Detach a tensor, and remember the original. At the `end` of the model it is a leaf of the output."""
        constant = tensor.detach()
        if (end or self.tracked) and tensor.requires_grad:
            constant.requires_grad_()
        if self.tracked and tensor.requires_grad:
            self.leaves.append((constant, tensor))
            constant = constant if end else constant.clone()  # readers may change it in place: not allowed for a leaf
        self.constants.append((constant, tensor))
        return constant

    def check_late(self, place: int, module: nn.Module) -> None:
        """Raise a ``ValueError`` if a hooked module records gradients only in the backward pass."""
        if place in self.late and torch.is_grad_enabled():
            raise ValueError(
                f"a block must be called while gradients are recorded, got {type(module).__name__} recorded only in "
                "the backward pass: checkpoint it with use_reentrant=False"
            )

    def in_order(self) -> list[Taught]:
        """Outputs of the blocks in the order of the blocks. Calls of one block keep their order."""
        return sorted((t for t in self.taught if not t.joined), key=attrgetter("block"))

    def attached(self, tensor: Tensor) -> Tensor:
        """The original of a detached tensor; any other tensor unchanged."""
        return next((original for constant, original in self.constants if constant is tensor), tensor)


def start_graph(tensor: Tensor) -> Tensor:
    """Return the same numbers as a view of a new leaf, because a wrapper for several processes ignores leaves."""
    return tensor.detach().requires_grad_().view_as(tensor) if tensor.is_floating_point() else tensor


def check_called(
    model: nn.Module, blocks: Sequence[Sequence[nn.Module]], taught: Sequence[Taught], outputs: Sequence[Tensor]
) -> None:
    """Raise a ``ValueError`` if a block was not called but its parameters affect an output of the model or a block.

    Such a block is not separated from the modules that read it, so it would learn from the next block. A block that was
    skipped (stochastic depth) affects no output and is allowed.

    Parameters
    ----------
    model : nn.Module
        Contains the blocks.
    blocks : sequence of sequences of nn.Module
        Modules of each block.
    taught : sequence of Taught
        Recorded outputs of the blocks.
    outputs : sequence of Tensor
        Tensors that the model returned.
    """
    missed = sorted(set(range(len(blocks))) - {t.block for t in taught})
    if not missed:
        return
    check_present(model, blocks)
    found = {id(parameter) for parameter in parameters_behind([*outputs, *(t.output for t in taught)])}
    wrong = [k for k in missed if any(id(p) in found for p in own_parameters(model, blocks, k))]
    if wrong:
        names = {id(module): name for name, module in unwrap(model).named_modules()}
        raise ValueError(
            f"blocks must be called as modules, got no call of {', '.join(names[id(blocks[k][-1])] for k in wrong)} "
            "though the model's output depends on their parameters: call them, or name other blocks"
        )


def check_wrapper(model: nn.Module, outputs: Sequence[Tensor]) -> None:
    """Raise a ``ValueError`` if the model is in a wrapper for several processes that does not sum all gradients.

    With ``static_graph`` or ``find_unused_parameters``, ``DistributedDataParallel`` searches the graph of the output
    for the parameters whose gradients it sums. That graph does not contain the hidden blocks.
    """
    wrapped = isinstance(model, nn.parallel.DistributedDataParallel)
    planned = wrapped and (model.static_graph or model.find_unused_parameters)
    if planned or any(type(output.grad_fn).__name__ == "_DDPSinkBackward" for output in outputs):
        raise ValueError(
            "model must be in a DistributedDataParallel without static_graph and find_unused_parameters, got one with "
            "one of these options: it searches the graph of the output, which contains no hidden block"
        )


def own_parameters(model: nn.Module, blocks: Sequence[Sequence[nn.Module]], block: int) -> list[nn.Parameter]:
    """Parameters that only this block holds; for a block without parameters, those before it that belong to it."""
    parts = [part for module in blocks[block] for part in module.modules()]
    inside = {id(part) for part in parts}
    others = (module for module in unwrap(model).modules() if id(module) not in inside)
    tied = {id(p) for module in others for p in module.parameters(recurse=False)}
    held = [p for part in parts for p in part.parameters(recurse=False)]
    return [p for p in held if id(p) not in tied] if held else parameters_of(model, blocks)[block]


def parameters_behind(outputs: Sequence[Tensor]) -> Iterator[Tensor]:
    """Leaf tensors in the graphs of some tensors."""
    for node in nodes_behind(outputs):
        leaf = getattr(node, "variable", None)  # only nodes that accumulate into a leaf have one, without a public type
        if leaf is not None:
            yield leaf


def nodes_behind(outputs: Sequence[Tensor]) -> Iterator[Node]:
    """Nodes of the graphs of some tensors."""
    seen: set[Node] = set()
    waiting = [torch.autograd.graph.get_gradient_edge(tensor).node for tensor in outputs if tensor.requires_grad]
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            yield node
            waiting += [before for before, _ in node.next_functions if before is not None]
