"""The angle between the update of a block and the true gradient."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from dfa.rules.learner import Learner
from dfa.training.checkpoint import random_state, restore_random_state

__all__ = ["alignment"]


def alignment(learner: Learner, loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, target: Tensor) -> list[float]:
    """Angle between the learner's gradient and that of backpropagation, in degrees, one for each block.

    A block whose angle is below 90 degrees descends the loss. The last block has its true gradient and the angle 0. A
    block without an update (no feedback, an empty error, frozen parameters) has 90. The run is not changed: gradients,
    buffers, random states (also of every GPU) and the clock of a simulated device are restored.

    Parameters
    ----------
    learner : Learner
        Holds the model and the feedback.
    loss : callable
        ``loss(output, target)``, the loss of the training.
    x, target : Tensor
        A batch.
    """
    parameters = [learner.parameters(k) for k in range(len(learner.names))]
    flat = [p for block in parameters for p in block]
    kept = [p.grad for p in flat]
    buffers = [(buffer, buffer.clone()) for buffer in learner.model.buffers()]
    state = random_state()
    try:
        with learner.feedback.rehearsal() if learner.feedback is not None else nullcontext():
            with learner.connected():
                true = torch.autograd.grad(loss(learner.model(x), target), flat, materialize_grads=True)
            restore_random_state(state)
            for p in flat:
                p.grad = None
            output = learner.model(x)
            learner.backward(loss(output, target), output)
            found = [torch.zeros_like(p) if p.grad is None else p.grad for p in flat]
    finally:
        restore_random_state(state)
        for p, grad in zip(flat, kept, strict=True):
            p.grad = grad
        for buffer, before in buffers:
            buffer.copy_(before)
    angles, start = [], 0
    for block in parameters:
        part = slice(start, start + len(block))
        angles.append(angle(found[part], true[part]))
        start += len(block)
    return angles


def angle(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """Angle between two lists of tensors, each taken as one vector, in degrees; 90 if they are empty."""
    if not first:
        return 90.0
    a, b = (torch.cat([part.flatten() for part in parts]).double() for parts in (first, second))
    cosine = float(a @ b / (a.norm() * b.norm()).clamp_min(1e-300))
    return math.degrees(math.acos(min(max(cosine, -1.0), 1.0)))
