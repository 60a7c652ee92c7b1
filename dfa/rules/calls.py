"""What a call of a model must have been like for its blocks to be taught."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from dfa.rules.blocks import parameters_of, whole

__all__ = ["check_called", "check_wrapper"]


def check_called(
    model: nn.Module, blocks: Sequence[Sequence[nn.Module]], called: Iterable[int], outputs: Sequence[Tensor]
) -> None:
    """Raise a ``ValueError`` if parameters of a block that was not called lead to what the model or a block made.

    Such a block is not cut from what reads it, so it would learn from its successor. One that was left out on purpose
    (stochastic depth) has no part in what was made, and passes.

    Parameters
    ----------
    model : nn.Module
        Holds the blocks.
    blocks : sequence of sequences of nn.Module
        Modules of each block.
    called : iterable of int
        Positions of the blocks whose outputs were noted.
    outputs : sequence of Tensor
        What the model returned and the blocks made.
    """
    missed = sorted(set(range(len(blocks))) - set(called))
    if not missed:
        return
    found = reached(outputs)
    wrong = [k for k in missed if any(id(p) in found for p in owned(model, blocks, k))]
    if wrong:
        names = {id(module): name for name, module in whole(model).named_modules()}
        raise ValueError(
            f"blocks must be called as modules, got no call of {', '.join(names[id(blocks[k][-1])] for k in wrong)} "
            "though the model's output depends on their parameters: call them, or name other blocks"
        )


def check_wrapper(model: nn.Module, outputs: Sequence[Tensor]) -> None:
    """Raise a ``ValueError`` if the model is wrapped for several processes in a way that does not add up gradients.

    With ``static_graph`` or ``find_unused_parameters``, ``DistributedDataParallel`` plans its sums by a walk from the
    output back, or begins them there; nothing leads from there to a hidden block.
    """
    wrapped = isinstance(model, nn.parallel.DistributedDataParallel)
    planned = wrapped and (model.static_graph or model.find_unused_parameters)
    if planned or any(type(output.grad_fn).__name__ == "_DDPSinkBackward" for output in outputs):
        raise ValueError(
            "model must be in a DistributedDataParallel without static_graph and find_unused_parameters, got one with: "
            "it looks for parameters from the output back, and finds no hidden block"
        )


def owned(model: nn.Module, blocks: Sequence[Sequence[nn.Module]], block: int) -> list[nn.Parameter]:
    """What a block alone holds; if it has no parameters, such as an activation, what is before it."""
    parts = [part for module in blocks[block] for part in module.modules()]
    inside = {id(part) for part in parts}
    others = (module for module in whole(model).modules() if id(module) not in inside)
    tied = {id(p) for module in others for p in module.parameters(recurse=False)}
    held = [p for part in parts for p in part.parameters(recurse=False)]
    return [p for p in held if id(p) not in tied] if held else parameters_of(model, blocks)[block]


def reached(outputs: Sequence[Tensor]) -> set[int]:
    """Identities of the parameters that the graphs of some tensors lead back to."""
    found: set[int] = set()
    seen: set[torch.autograd.graph.Node] = set()
    waiting = [tensor.grad_fn for tensor in outputs]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting += [before for before, _ in node.next_functions]
    return found
