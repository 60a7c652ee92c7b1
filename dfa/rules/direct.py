"""The rule of Direct Feedback Alignment: every block learns from the output's error, none from its successor."""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dfa.arrays import as_sparse
from dfa.errors import check_loss
from dfa.feedback.base import CodedFeedback, Feedback
from dfa.rules.blocks import Blocks, whole
from dfa.rules.calls import check_called, check_wrapper
from dfa.rules.learner import Hook, Learner, Output, mapped, tensors
from dfa.rules.rows import SPREADS, features_dim, joined, per_sample, rows_of, spread_over, taught_rows, width_of

__all__ = ["DirectFeedback"]


class Taught(NamedTuple):
    """A call of a block while the graph was recorded."""

    block: int
    output: Tensor
    """What the block made, which leads back into it."""
    module: int
    """Which of the hooked modules was called."""


class DirectFeedback(Learner):
    """Train any ``nn.Module`` by Direct Feedback Alignment.

    For block k with output h_k and ``e = dL/d(output)``, the teaching signal is ``delta_k = B_k e`` with B_k fixed and
    random. The parameters get the gradient of ``L(output) + sum_k <h_k, delta_k>``, in which whatever reads h_k, by any
    path, takes it as a constant: it is handed on detached. So no product with a transposed weight crosses a boundary
    between blocks. What is outside of the blocks belongs to the graph that reads it: an embedding to the first block, a
    norm to the block after it. All that follows the last block, the *head*, has its true gradient, and so has a
    block whose output the model returns.

    Parameters
    ----------
    model : nn.Module
        Called as usual; hooks on it note the blocks' outputs, until `remove`.
    blocks : str or sequence, optional
        Blocks in order: modules of the model or their dotted names (of an ``nn.Sequential`` also sequences of positions
        of children, all of them covered); or the name of an ``nn.Sequential`` or ``nn.ModuleList`` that holds
        them. A module without parameters, such as an activation, will do: what is before it belongs to it. By
        default every child with parameters of the outermost such containers, with what follows it there.
    feedback : Feedback, optional
        Where the teaching signals come from; None trains the head only.
    reduction : {"mean", "sum"}
        How the loss combines rows (samples, tokens, nodes). With "mean" the error is multiplied by the number of rows
        that have one before it is encoded, so that thresholds mean the error of one row, and the signal divided
        by it afterwards. Rows whose error is zero (not in the loss) do not count.
    spread : {"each", "channels", "features"}
        What a signal has an entry for, where h_k has more dimensions than rows and width: each entry of a row's output
        (as Nokland does for convolutions), its channels (the first dimension after the rows, the same signal at each
        place), or its features (the last dimension, the same signal for each token).
    diffuse : sparse Tensor or callable, optional
        For graphs: the signal of each block, (nodes, width), is multiplied by this matrix from the left (a normalised
        adjacency; or nodes by graphs, if the error has a row for each graph), or goes through the callable.
    class_dim : int
        Dimension of the output over which classes lie, for layouts such as (batch, classes, height, width). There lie
        the features of a block's output, too, if it has the same rows around it: (batch, channels, height, width).

    Attributes
    ----------
    names : list of str
        Names of the blocks, and "head" if parameters come after the last of them.

    Raises
    ------
    ValueError
        If a block is not found in the model, none were named and none can be found, or a parameter is unknown.

    Notes
    -----
    Rows: an output (batch, classes), (batch, tokens, classes) or (nodes, classes) has a row for each sample, token or
    node. A block whose output has the same leading dimensions is taught row by row; one that shares the batch
    only, by the sum of each sample's errors, brought to the mean. Errors of several heads are joined along classes.
    Rows are told by their numbers alone: a block that makes (tokens, batch, width) in a model that returns (batch,
    tokens, classes) is refused, but not if there are as many tokens as samples. Keep one layout in the model.

    A block that is called several times (tied weights) is taught after each call, by its own slice of B. Of a block
    that returns several tensors, the first is taught; all are handed on detached. A residual sum that is formed outside
    the blocks passes by them: name an ``nn.Identity`` after the sum, or what is before the first block is taught by
    all that read the sum. A block may be skipped in a call (stochastic depth), but not used without being called
    (``linear(x, block.weight)``, the ``out_proj`` of ``nn.MultiheadAttention``): it would learn from its successor, so
    `backward` refuses. While gradients are recorded the model stays cut, in evaluation too: see `connected`.

    Works with bfloat16 autocast (the signals are computed in float32), any optimiser, clipping between `backward` and
    the step, accumulation over several calls, non-reentrant checkpointing, plain ``DistributedDataParallel`` (without
    ``static_graph`` and ``find_unused_parameters``), and ``torch.compile`` of the model, before or after the learner is
    made but before the first call; the loss and `backward` stay outside of what is compiled ("eager" and "aot_eager"
    are tested, with ``fullgraph``; other backends get the same graph).

    One call of the model for each `backward`: of a loss of two calls, such as two views of a sample, only the last
    teaches the hidden blocks. Call the model once, on both one below the other.

    References
    ----------
    A. Nokland, NeurIPS 2016 (arXiv:1609.01596); J. Launay et al., arXiv:2012.06373; for other architectures J. Launay
    et al., NeurIPS 2020 (arXiv:2006.12878).

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
        model: nn.Module,
        blocks: Blocks | None = None,
        feedback: Feedback | None = None,
        reduction: str = "mean",
        *,
        spread: str = "each",
        diffuse: Any = None,
        class_dim: int = -1,
    ) -> None:
        super().__init__(model, blocks)
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
        if spread not in SPREADS:
            raise ValueError(f"spread must be one of {SPREADS}, got {spread!r}")
        self.feedback, self.reduction, self.spread, self.class_dim = feedback, reduction, spread, class_dim
        self.diffuse: Tensor | Callable[[Tensor], Tensor] | None = diffuse
        if diffuse is not None and not callable(diffuse):
            self.diffuse = as_sparse("diffuse", diffuse, beside=" or callable")
        self._forget()
        self._attach()

    def backward(self, loss: Tensor, output: Output, *, loss_scale: float = 1.0) -> None:
        """Add the DFA gradient to ``.grad`` of every parameter; the only new line in a training loop.

        Parameters
        ----------
        loss : Tensor, scalar
            Loss of this batch.
        output : Tensor, or tuple, list or dict of Tensor
            What the model returned, from which `loss` was computed: shapes (batch, classes), (batch, tokens, classes),
            (nodes, classes) or (batch,).
        loss_scale : float
            By how much the loss was multiplied for reasons of its own (1 / number of accumulated batches, a scaler for
            float16): the error is encoded without it. It matters to every encoder whose signal is not in proportion to
            the error: to `Ternary`, but for its `restore` with another policy than a fixed threshold.

        Raises
        ------
        ValueError
            If the loss is not finite, the output is not of the last call of the model or nothing in it learns, a
            block's output shares no rows with it, a block was used without being called as a module while gradients are
            recorded (reentrant checkpointing does that), or the model is wrapped for processes as it must not be.
        """
        check_loss(loss)
        if not loss_scale > 0:
            raise ValueError(f"loss_scale must be positive, got {loss_scale!r}")
        outputs = tensors(output)
        check_wrapper(self.model, outputs)
        if not outputs or any(all(given is not t for t in self._returned) for given in outputs):
            raise ValueError("output must be what the model's last call returned, with gradients enabled")
        if not any(given.requires_grad for given in outputs):
            raise ValueError(
                "output must depend on a parameter after the last block: leave the block that makes it out of blocks"
            )
        noted = [t.output for t in self._taught]
        check_called(self.model, self.blocks, [t.block for t in self._taught], [*outputs, *noted])
        order = sorted(self._taught, key=attrgetter("block"))  # calls of one block stay in theirs
        taught = [t for t in order if all(t.output is not given for given in outputs)]
        late = self._unrecorded - {t.module for t in self._taught}
        self._forget()
        self._late = late
        try:
            self._send(loss, outputs, taught, loss_scale)
        finally:
            self._late = set()

    def _send(self, loss: Tensor, outputs: list[Tensor], taught: list[Taught], loss_scale: float) -> None:
        """Run the backward pass of the loss and, with their signals, of the hidden blocks."""
        if self.feedback is None or not taught:
            loss.backward()
            return
        outputs = [given for given in outputs if given.requires_grad]
        # The graph between output and loss is kept: it is small, and the loss may have terms beside the output's.
        errors = torch.autograd.grad(loss, outputs, retain_graph=True, allow_unused=True)
        if all(error is None for error in errors):
            raise ValueError("loss must be computed from output, got one that does not depend on it")
        errors = [torch.zeros_like(given) if e is None else e for e, given in zip(errors, outputs, strict=True)]
        signals = self._signals(joined(errors, self.class_dim), [t.output for t in taught], loss_scale)
        roots = [(t.output, s) for t, s in zip(taught, signals, strict=True) if t.output.requires_grad]
        torch.autograd.backward([loss, *(root for root, _ in roots)], [None, *(signal for _, signal in roots)])

    def state_dict(self) -> dict[str, Any]:
        """Rule, blocks and the feedback's state (seed, variant, counters), in plain types."""
        state = getattr(self.feedback, "state_dict", dict)()
        return {"rule": "direct", "blocks": self.names, "reduction": self.reduction, "spread": self.spread} | {
            "feedback": state
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state: the feedback takes its seed and counters from it.

        Raises
        ------
        ValueError
            If it is of a learner with other blocks or another kind of feedback.
        """
        self._check_state(state)
        if state["feedback"]:
            if not hasattr(self.feedback, "load_state_dict"):
                raise ValueError(f"state is of a learner with feedback {state['feedback']}, this one has none to set")
            self.feedback.load_state_dict(state["feedback"])

    def _signals(self, error: Tensor, outputs: Sequence[Tensor], loss_scale: float) -> list[Tensor]:
        """Teaching signals in the blocks' shapes; one call of the feedback for all blocks of the same rows."""
        dims = [-1 if self.diffuse is not None else features_dim(error, o, self.class_dim) for o in outputs]
        outputs = [output.movedim(dim, -1) for output, dim in zip(outputs, dims, strict=True)]
        rows = [self._rows(error, output) for output in outputs]
        widths = [width_of(output, r, self.spread) for output, r in zip(outputs, rows, strict=True)]
        signals: list[Tensor] = list(outputs)
        for count in sorted(set(rows), reverse=True):
            summed = error if count == error.ndim - 1 or self.diffuse is not None else per_sample(error)
            found = self._feed(summed.flatten(0, -2), widths, loss_scale)
            for k, (output, r) in enumerate(zip(outputs, rows, strict=True)):
                if r == count:
                    signals[k] = spread_over(found[k], output, r, self.spread).to(output.dtype)
        return [signal.movedim(-1, dim) for signal, dim in zip(signals, dims, strict=True)]

    def _rows(self, error: Tensor, output: Tensor) -> int:
        rows = rows_of(error, output) if self.diffuse is None else 1
        if rows is None:
            raise ValueError(
                f"a block's output must have the rows of the error {tuple(error.shape[:-1])} before its features, or "
                f"its batch, got shape {tuple(output.shape)}"
            )
        return rows

    def _feed(self, error: Tensor, widths: Sequence[int], loss_scale: float) -> list[Tensor]:
        """Errors of all rows, (n_rows, classes), to signals (n_rows, width) on the loss's own scale."""
        assert self.feedback is not None
        if error.dtype in (torch.bfloat16, torch.float16):
            error = error.float()
        samples = taught_rows(error) if self.reduction == "mean" else 1
        factor = samples / loss_scale
        with torch.no_grad(), torch.autocast(error.device.type, enabled=False):
            signals = self.feedback(error * factor, widths)
            scaled = Tensor.div_ if isinstance(self.feedback, CodedFeedback) else Tensor.div  # new memory costs 5 %
            return [self._diffused(scaled(signal, factor)) for signal in signals]

    def _diffused(self, signal: Tensor) -> Tensor:
        if self.diffuse is None:
            return signal
        if not isinstance(self.diffuse, Tensor):
            return self.diffuse(signal)
        if self.diffuse.dtype != signal.dtype or self.diffuse.device != signal.device:
            self.diffuse = self.diffuse.to(signal)
        return self.diffuse @ signal

    def _hook(self) -> list[RemovableHandle]:
        """Hooks: the model's call begins, each block ends, the model's call ends."""
        places: dict[int, tuple[nn.Module, list[int]]] = {}
        for k, group in enumerate(self.blocks):
            places.setdefault(id(group[-1]), (group[-1], []))[1].append(k)
        root = whole(self.model)
        handles = [root.register_forward_pre_hook(Hook(self._begin))]
        for i, (module, owners) in enumerate(places.values()):
            handles.append(module.register_forward_hook(Hook(self._cut, i, owners)))
        return [*handles, root.register_forward_hook(Hook(self._end))]

    def _begin(self, module: nn.Module, inputs: Any) -> None:
        if self._active:
            self._forget()
            self._inside = True

    def _cut(self, place: int, owners: list[int], module: nn.Module, inputs: Any, output: Any) -> Any:
        if self._connected or not self._inside:
            self._check_late(place, module)
            return None
        if not torch.is_grad_enabled():
            self._unrecorded.add(place)
            return None
        made = [t for t in tensors(output) if t.is_floating_point()]
        if not made:
            if output is not None and not tensors(output):
                raise ValueError(
                    f"a block's output must be a tensor, or a tuple, list or dict of some, got {type(output).__name__}"
                )
            return None
        before = sum(t.module == place for t in self._taught)
        self._taught.append(Taught(owners[min(before, len(owners) - 1)], made[0], place))
        return mapped(self._handed_on, output)

    def _check_late(self, place: int, module: nn.Module) -> None:
        if place in self._late and torch.is_grad_enabled():
            raise ValueError(
                f"a block must be called while gradients are recorded, got {type(module).__name__} recorded only in "
                "the backward pass: checkpoint it with use_reentrant=False"
            )

    def _handed_on(self, made: Tensor) -> Tensor:
        constant = made.detach()
        self._constants.append((constant, made))
        return constant

    def _end(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        """A constant that the model returns was made by its last block, which has its true gradient: give it back."""
        if not self._active:
            return None
        self._inside = False
        self._returned = [self._given_back(returned) for returned in tensors(output)]
        changed = any(a is not b for a, b in zip(self._returned, tensors(output), strict=True))
        given = mapped(self._given_back, output) if changed else None
        if not self._taught or any(t.requires_grad for t in self._returned) or self.parameters(len(self.names) - 1):
            return given
        # What follows the hidden blocks is frozen: nothing there has a gradient, but the hidden blocks need the error.
        self._taught = [t for t in self._taught if all(t.output is not own for own in self._returned)]
        given = mapped(as_start, output if given is None else given)
        self._returned = tensors(given)
        return given

    def _given_back(self, returned: Tensor) -> Tensor:
        return next((made for constant, made in self._constants if constant is returned), returned)

    def _forget(self) -> None:
        self._taught: list[Taught] = []
        self._constants: list[tuple[Tensor, Tensor]] = []
        self._returned: list[Tensor] = []
        self._unrecorded: set[int] = set()
        """Which of the hooked modules the model called without recording gradients; those of the backward pass:"""
        self._late: set[int] = set()
        self._inside = False

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_taught": [], "_constants": [], "_returned": []}


def as_start(tensor: Tensor) -> Tensor:
    """The same numbers where a graph may begin, in a view: a wrapper for processes passes over the leaves."""
    return tensor.detach().requires_grad_().view_as(tensor) if tensor.is_floating_point() else tensor
