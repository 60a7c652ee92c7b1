"""The outputs of a model that carry the error, and the place where the error is taken."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from dfa.rules.calls import Call, parameters_behind
from dfa.rules.learner import Output, tensors
from dfa.rules.rows import join_heads

__all__ = ["Errors", "find_errors", "find_outputs", "normalisation"]

NORMALISATIONS = {"LogSoftmax", "Softmax", "Sigmoid", "LogSigmoid"}
"""Operations whose input are the logits."""
ENTRYWISE = {"ToCopy", "Clone", "Alias", "Log", "Clamp", "ClampMin"}
"""Operations that may follow a normalisation and keep the shape."""
RESHAPING = {"View", "UnsafeView", "ReshapeAlias", "Squeeze"}
"""Operations that may follow a normalisation if the classes are the last dimension."""


class Errors(NamedTuple):
    """Error of the outputs of a call."""

    joined: Tensor
    """Error of all heads, (*rows, classes)."""
    carriers: list[Tensor]
    """Outputs that carry it."""
    ends: list[tuple[Tensor, Tensor]]
    """Outputs of the last block and their true gradients, if the model changes them without further parameters."""


def find_outputs(call: Call, output: Output) -> list[Tensor]:
    """Tensors of the model's last call that `output` contains, or from which it was computed.

    Raises
    ------
    ValueError
        If the output is not of that call, or contains no predictions.
    """
    given = tensors(output)
    if not call.returned:
        raise ValueError(
            "model must be called with gradients enabled before each backward, and return tensors, got no such call "
            "since the last one"
        )
    if given and all(t.ndim == 0 for t in given):
        raise ValueError("output must contain the model's predictions, got only a loss: return the logits, too")
    given = [t for t in given if t.ndim > 0]
    if not given:
        raise ValueError(
            f"output must be a tensor, or a tuple, list or dict of tensors, got {type(output).__name__} without any"
        )
    found = [t for one in given for t in origin(one, call.returned)]
    if any(t.requires_grad for t in found):
        return [t for t in found if t.requires_grad and t.ndim > 0]
    if found:
        raise ValueError(
            "output must depend on a parameter after the last block: leave the block that computes it out of blocks"
        )
    shape = tuple(given[0].shape)
    if not given[0].requires_grad:
        raise ValueError(f"output must require a gradient, got a detached tensor of shape {shape}")
    raise ValueError(f"output must be the result of the model's last call, got another tensor of shape {shape}")


def origin(given: Tensor, returned: Sequence[Tensor]) -> list[Tensor]:
    """The tensor itself if the model returned it, or the returned tensors from which it was computed."""
    if any(given is t for t in returned):
        return [given]
    wanted = {t.grad_fn: t for t in returned if t.grad_fn is not None and t.ndim > 0}
    found: dict[int, Tensor] = {}
    seen: set[Node] = set()
    waiting = [given.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in wanted:
            found[id(wanted[node])] = wanted[node]
        else:
            waiting += [before for before, _ in node.next_functions]
    return list(found.values())


def normalisation(output: Tensor, class_dim: int = -1) -> Node | None:
    """Node of the softmax or sigmoid that computed an output; None if there is no such node."""
    passed = ENTRYWISE | (RESHAPING if class_dim == -1 else set())
    node = output.grad_fn
    while node is not None and operation(node) in passed:
        node = node.next_functions[0][0]
    return node if node is not None and operation(node) in NORMALISATIONS else None


def operation(node: Node) -> str:
    """Name of the operation of a node of the graph."""
    return node.name().partition("Backward")[0]


def logits_edge(output: Tensor, class_dim: int) -> GradientEdge:
    """Edge of the graph at which the error is taken: the input of a final normalisation, or the output itself."""
    node = normalisation(output, class_dim)
    before, number = (None, 0) if node is None else node.next_functions[0]
    return get_gradient_edge(output) if before is None else GradientEdge(before, number)


def find_errors(loss: Tensor, outputs: list[Tensor], call: Call, class_dim: int) -> Errors:
    """Error of the outputs on which the loss depends.

    Outputs of hidden blocks that the model returns carry the error only if no other output does. Of the other outputs,
    those that the loss does not use have the error zero if they have the same rows, and are passed over otherwise.

    Raises
    ------
    ValueError
        If the loss depends on none of the outputs.
    """
    hidden = {id(original) for _, original in call.constants}
    leaves = [pair for pair in call.constants if pair[0].requires_grad and pair[0].is_leaf]
    edges = [logits_edge(output, class_dim) for output in outputs]
    edges += [get_gradient_edge(leaf) for leaf, _ in leaves]
    # The graph between output and loss is kept: it is small, and the loss may have terms besides the output's.
    gradients = torch.autograd.grad(loss, edges, retain_graph=True, allow_unused=True)
    if not leaves and len(outputs) == 1 and gradients[0] is not None:  # nearly every model, without further searches
        return Errors(join_heads(gradients, class_dim), outputs[:1], [])
    found = list(zip(outputs, gradients, strict=False))
    used = [(output, gradient) for output, gradient in found if gradient is not None]
    ends = [(t, g) for (_, t), g in zip(leaves, gradients[len(outputs) :], strict=True) if g is not None]
    after = parameters_behind([output for output in outputs if id(output) not in hidden]) if ends else ()
    if any(isinstance(leaf, nn.Parameter) for leaf in after):
        ends = []  # a head with parameters that belong to a block
    heads = [(output, gradient) for output, gradient in used if id(output) not in hidden] or used
    if not heads and ends:  # the model has computed the loss itself
        errors = [at_logits(original, gradient, class_dim) for original, gradient in ends]
        return Errors(join_heads(errors, class_dim), [], ends)
    if not heads:
        raise ValueError("loss must be computed from output, got one that does not depend on it")
    carriers = [output for output, _ in heads]
    rows = rows_shape(heads[0][1], class_dim)
    errors = []
    for output, gradient in found:
        if gradient is not None and any(output is one for one in carriers):
            errors.append(gradient)
        elif gradient is None and id(output) not in hidden and rows_shape(output, class_dim) == rows:
            errors.append(torch.zeros_like(output))
    return Errors(join_heads(errors, class_dim), carriers, ends)


def at_logits(output: Tensor, gradient: Tensor, class_dim: int) -> Tensor:
    """Gradient at the input of the final normalisation of an output, from that at the output."""
    if normalisation(output, class_dim) is None:
        return gradient
    return torch.autograd.grad(output, [logits_edge(output, class_dim)], gradient, retain_graph=True)[0]


def rows_shape(error: Tensor, class_dim: int) -> torch.Size:
    """Shape of the rows of an output or its error: all dimensions except the classes."""
    return error.shape if error.ndim == 1 else error.movedim(class_dim, -1).shape[:-1]
