"""What feedback learns from: true gradients of the blocks' outputs, or the outputs, in rows of the error."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfa.feedback.base import Feedback
from dfa.feedback.learned import LearnedFeedback
from dfa.rules.blocks import NORMS
from dfa.rules.calls import Call
from photonics.arrays import Shapes

__all__ = ["Target", "check_feedback", "find_targets", "pass_norm", "teach_feedback", "true_gradients"]

EPSILON = 1e-5
"""Added to the variance of a row, as in `torch.nn.LayerNorm`."""
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
DEEP = 3
"""Number of blocks with convolutions from which fixed feedback needs a norm."""


def true_gradients(loss: Tensor, call: Call) -> dict[int, Tensor]:
    """Gradients of the loss with respect to the outputs that blocks passed on, by the outputs' `id`.

    The loss is differentiated piece by piece, from the last detached copy to the first: each piece ends at the copies
    that it reads, and the gradient of a copy goes on into its original. The graph is kept.

    Parameters
    ----------
    loss : Tensor, scalar
        Loss of the call.
    call : Call
        A call whose copies record gradients (`Call.tracked`); no gradients are found for any other.
    """
    leaves = [leaf for leaf, _ in call.leaves]
    if not leaves:
        return {}
    pieces = torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True)
    sums: list[Tensor | None] = list(pieces)
    found: dict[int, Tensor] = {}
    for k in range(len(leaves) - 1, -1, -1):
        gradient, original = sums[k], call.leaves[k][1]
        if gradient is None:
            continue
        found[id(original)] = found[id(original)] + gradient if id(original) in found else gradient
        before = leaves[:k]
        if before and original.grad_fn is not None:
            pieces = torch.autograd.grad(original, before, gradient, retain_graph=True, allow_unused=True)
            sums[:k] = [a if b is None else b if a is None else a + b for a, b in zip(sums[:k], pieces, strict=True)]
    return found


@dataclass(frozen=True, repr=False)
class Target(Shapes):
    """What feedback learns from at the output of a block."""

    output: Tensor
    """Output of the block, its features last."""
    needs: str
    """"gradients" or "outputs", see `LearnedFeedback`."""
    true: Tensor | None = None
    """Gradient of the loss with respect to the output."""

    def rows(self, rows: int, spread: str, through: str | None) -> Tensor | None:
        """Bring it to (n_rows, width): the mean over the places that share a signal.

        With ``through="norm"`` it is that of the normalised output, whose mean and deviation count as constants.

        Parameters
        ----------
        rows : int
            Number of leading dimensions that are rows of the error.
        spread, through
            As for `dfa.DirectFeedback`.
        """
        target = self.output if self.needs == "outputs" else self.true if self.needs == "gradients" else None
        if target is None:
            return None
        if through == "norm":
            z, deviation = normalise(self.output, rows)
            target = z if self.needs == "outputs" else target * deviation
        kept = target.flatten(0, rows - 1)
        if spread == "each" or kept.ndim == 2:
            return kept.flatten(1)
        return kept.flatten(2).mean(dim=2) if spread == "channels" else kept.flatten(1, -2).mean(dim=1)


def find_targets(
    feedback: Feedback | None, outputs: Sequence[Tensor], dims: Sequence[int], true: Mapping[int, Tensor]
) -> list[Target]:
    """Targets of the blocks' outputs, whose features lie in dimension `dims`; none for fixed feedback.

    `true` is from `true_gradients`.
    """
    if not isinstance(feedback, LearnedFeedback):
        return []
    found = []
    for output, dim in zip(outputs, dims, strict=True):
        gradient = true.get(id(output))
        moved = None if gradient is None else gradient.movedim(dim, -1)
        found.append(Target(output.detach().movedim(dim, -1), feedback.needs, moved))
    return found


def teach_feedback(feedback: Feedback, error: Tensor, targets: Sequence[Tensor | None], factor: float) -> None:
    """Let feedback learn from its targets; gradients are multiplied by the factor of the error."""
    if isinstance(feedback, LearnedFeedback) and any(target is not None for target in targets):
        scale = factor if feedback.needs == "gradients" else 1.0
        feedback.learn(error, [t if t is None else t.to(error) * scale for t in targets])


def pass_norm(signal: Tensor, output: Tensor, rows: int, through: str | None) -> Tensor:
    """Signal at a block's output of a signal at the parameter-free norm of that output; unchanged without `through`.

    ``(delta - mean(delta) - z mean(delta z)) / deviation`` with z the normalised row: the transposed derivative of the
    norm. What would only change the mean or the length of a row is taken out.
    """
    if through is None:
        return signal
    z, deviation = normalise(output.detach(), rows)
    dims = list(range(rows, output.ndim))
    along = z * (signal * z).mean(dim=dims, keepdim=True)
    return (signal - signal.mean(dim=dims, keepdim=True) - along) / deviation


def normalise(output: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Each row of a block's output with mean 0 and variance 1, and the deviations by which it was divided."""
    output = output.float() if output.dtype in (torch.bfloat16, torch.float16) else output
    dims = list(range(rows, output.ndim))
    mean, deviation = output.mean(dim=dims, keepdim=True), output.var(dim=dims, keepdim=True, correction=0)
    deviation = (deviation + EPSILON).sqrt()
    return (output - mean) / deviation, deviation


def check_feedback(
    feedback: Feedback | None,
    model: nn.Module,
    blocks: Sequence[Sequence[nn.Module]],
    through: str | None,
    diffused: bool,
) -> None:
    """Refuse feedback that learns with diffused signals; warn of deep convolutions without a norm."""
    if isinstance(feedback, LearnedFeedback) and diffused:
        raise ValueError("diffuse must be None for feedback that learns, which is fitted to signals before diffusion")
    deep = sum(any(isinstance(part, CONVOLUTIONS) for module in block for part in module.modules()) for block in blocks)
    bare = deep >= DEEP and not any(isinstance(module, (*NORMS, nn.LocalResponseNorm)) for module in model.modules())
    if feedback is not None and through is None and bare:
        warnings.warn(
            f"{deep} blocks of convolutions without a norm learn little from fixed feedback (CIFAR-10: 25 % against "
            "52 % with batch norms): put a norm into each block, or set through='norm'",
            UserWarning,
            stacklevel=3,
        )
