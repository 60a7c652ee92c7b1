"""How well the update of a block points along the true gradient."""

import contextlib
import math
from collections.abc import Callable

import torch
from torch import Tensor

from dfa.rules.learner import Learner
from dfa.training.checkpoint import random_state, restore_random_state

__all__ = ["alignment"]


def alignment(learner: Learner, loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, target: Tensor) -> list[float]:
    """Angle between the DFA gradient and backpropagation's, in degrees, one for each block.

    Below 90 degrees the block descends the loss; the last block has its true gradient and 0. A block without an update
    (feedback None, an empty error, all of it frozen) has 90. The run is not changed: gradients, buffers, random state
    (that of every GPU, too) and the device's clock are put back.

    Parameters
    ----------
    learner : Learner
        Holds the model and the feedback.
    loss : callable
        ``loss(output, target)``, the one trained with.
    x, target : Tensor
        A batch.
    """
    parameters = [learner.parameters(k) for k in range(len(learner.names))]
    flat = [p for block in parameters for p in block]
    kept = [p.grad for p in flat]
    buffers = [(buffer, buffer.clone()) for buffer in learner.model.buffers()]
    state = random_state()
    rehearsal = getattr(learner.feedback, "rehearsal", contextlib.nullcontext)
    try:
        with rehearsal():
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
        if not block:
            angles.append(90.0)
            continue
        part = slice(start, start + len(block))
        a, b = (torch.cat([g.flatten() for g in group[part]]).double() for group in (found, true))
        cosine = float(a @ b / (a.norm() * b.norm()).clamp_min(1e-300))
        angles.append(math.degrees(math.acos(min(max(cosine, -1.0), 1.0))))
        start += len(block)
    return angles
