"""The rule of Direct Feedback Alignment: every block learns from the output's error, none from its successor."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from dfa.feedback import Feedback

__all__ = ["DirectFeedback"]


class DirectFeedback:
    """Train an ``nn.Sequential`` by Direct Feedback Alignment.

    For block k with output h_k and ``e = dL/d(output)``, the teaching signal is ``delta_k = B_k e`` with B_k fixed and
    random; the block's parameters get the gradient of ``<h_k, delta_k>``, everything before the block held constant.
    The last block gets its true gradient. No product with a transposed weight crosses a boundary between blocks: the
    input of each block is detached, so autograd has no way back.

    Parameters
    ----------
    model : nn.Sequential
        Called as usual; hooks on it note the blocks' outputs, until `remove`. A module may stand in it once only.
    blocks : sequence, optional
        The blocks in order: each a child module or a sequence of positions of children, all of them covered.
        By default every child with parameters begins a block.
    feedback : Feedback, optional
        Where the teaching signals come from; None trains the last block only.
    reduction : {"mean", "sum"}
        How the loss combines samples. With "mean" the error is multiplied by the batch size before it is encoded,
        so that thresholds mean the error of one sample, and the signal divided by it afterwards.

    Raises
    ------
    ValueError
        If the blocks do not cover the model in order, or a parameter is unknown.

    References
    ----------
    A. Nokland, NeurIPS 2016 (arXiv:1609.01596); J. Launay et al., arXiv:2012.06373.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from dfa import DirectFeedback, RandomFeedback
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    >>> dfa = DirectFeedback(model, feedback=RandomFeedback(seed=0))
    >>> output = model(torch.ones(2, 4))
    >>> loss = nn.functional.cross_entropy(output, torch.tensor([0, 2]))
    >>> dfa.backward(loss, output)
    >>> model[0].weight.grad.shape
    torch.Size([8, 4])
    """

    def __init__(
        self,
        model: nn.Sequential,
        blocks: Sequence[nn.Module | Sequence[int]] | None = None,
        feedback: Feedback | None = None,
        reduction: str = "mean",
    ) -> None:
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
        self.model, self.feedback, self.reduction = model, feedback, reduction
        self.blocks = cut(model, blocks)
        self._outputs: dict[int, Tensor] = {}
        self._connected = False
        for earlier in learners(model):
            earlier.remove()
        self._hooks = [block[0].register_forward_pre_hook(self._detach) for block in self.blocks[1:]]
        for k, block in enumerate(self.blocks):
            self._hooks.append(block[-1].register_forward_hook(partial(self._record, k)))

    def parameters(self, block: int) -> list[nn.Parameter]:
        """Parameters of a block."""
        return [parameter for module in self.blocks[block] for parameter in module.parameters()]

    def remove(self) -> None:
        """Take the hooks off: the model is whole again, and this learner of no more use. A new learner does it, too."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Inside, the model is whole again, and ``loss.backward()`` is backpropagation."""
        self._connected = True
        try:
            yield
        finally:
            self._connected = False

    def backward(self, loss: Tensor, output: Tensor) -> None:
        """Add the DFA gradient to ``.grad`` of every parameter; the only new line in a training loop.

        Parameters
        ----------
        loss : Tensor, scalar
            Loss of this batch.
        output : Tensor, shape (batch, classes)
            What the model returned, from which `loss` was computed.

        Raises
        ------
        ValueError
            If the loss is not finite, the output has another shape, or it is not of the last call of the model.
        """
        if not torch.isfinite(loss):
            raise ValueError(f"loss must be finite, got {loss.item()}: training has diverged")
        if output.ndim != 2:
            raise ValueError(f"output must have shape (batch, classes), got {tuple(output.shape)}")
        *hidden, last = [self._outputs.pop(k, None) for k in range(len(self.blocks))]
        if last is not output:
            raise ValueError("output must be what the model's last call returned, with gradients enabled")
        (error,) = torch.autograd.grad(loss, output)
        if self.feedback is None or not hidden:
            output.backward(error)
            return
        samples = len(output) if self.reduction == "mean" else 1
        signals = self.feedback(error * samples, [h[0].numel() for h in hidden])
        signals = [s.view_as(h) / samples for s, h in zip(signals, hidden, strict=True)]
        torch.autograd.backward([*hidden, output], [*signals, error])

    def _detach(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        return None if self._connected else tuple(x.detach() for x in inputs)

    def _record(self, k: int, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.requires_grad and not self._connected:
            self._outputs[k] = output


def learners(model: nn.Module) -> list[DirectFeedback]:
    """Learners whose hooks are on a model, found through the hooks themselves: the model keeps no other trace."""
    hooks = [h for m in model.modules() for h in (*m._forward_pre_hooks.values(), *m._forward_hooks.values())]
    owners = [getattr(getattr(hook, "func", hook), "__self__", None) for hook in hooks]
    return list({id(owner): owner for owner in owners if isinstance(owner, DirectFeedback)}.values())


def cut(model: nn.Sequential, blocks: Sequence[nn.Module | Sequence[int]] | None) -> list[list[nn.Module]]:
    """Group the children of a model into blocks, each with at least one parameter."""
    if not isinstance(model, nn.Sequential):
        raise ValueError(f"model must be an nn.Sequential, got {type(model).__name__}")
    children = list(model)
    if len({id(child) for child in children}) < len(children):
        raise ValueError("model must not hold the same module twice: give each place its own")
    if blocks is None:
        groups: list[list[nn.Module]] = []
        for child in children:
            if not groups or (has_parameters([child]) and has_parameters(groups[-1])):
                groups.append([])
            groups[-1].append(child)
    else:
        try:
            groups = [[b] if isinstance(b, nn.Module) else [children[i] for i in b] for b in blocks]
        except (TypeError, IndexError):
            raise ValueError(f"blocks must be modules or sequences of positions 0 to {len(children) - 1}") from None
        if [id(m) for group in groups for m in group] != [id(child) for child in children]:
            raise ValueError(f"blocks must cover the model's {len(children)} children once and in order, got {blocks}")
    for k, group in enumerate(groups):
        if not has_parameters(group):
            raise ValueError(f"blocks must have parameters, got none in block {k}")
    return groups


def has_parameters(modules: Sequence[nn.Module]) -> bool:
    """Whether there is anything to learn."""
    return any(True for module in modules for _ in module.parameters())
