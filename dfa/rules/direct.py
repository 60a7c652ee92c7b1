"""Direct Feedback Alignment: every block learns from the output's error, and not from the block after it."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeAlias

import torch
from scipy.sparse import sparray, spmatrix
from torch import Tensor, nn

from dfa.arrays import as_sparse
from dfa.errors import check_loss
from dfa.feedback.base import CodedFeedback, Feedback, FeedbackFunction, State, scale_of
from dfa.rules.blocks import Blocks
from dfa.rules.calls import Call, Taught, check_called, check_wrapper
from dfa.rules.inspection import (
    check_sharding,
    inspect_step,
    warn_of_code,
    warn_of_compiled,
    warn_of_order,
    warn_of_unreached,
)
from dfa.rules.layout import Layout, Slice
from dfa.rules.learner import Output, tensors
from dfa.rules.outputs import find_errors, find_outputs
from dfa.rules.rows import SPREADS, Rows, count_taught, features_dim, rows_of, spread_over, sum_samples, width_of
from dfa.rules.separate import SeparateBlocks
from dfa.rules.targets import check_feedback, find_targets, pass_norm, teach_feedback, true_gradients

__all__ = ["DirectFeedback"]

Diffuse: TypeAlias = Tensor | sparray | spmatrix | Callable[[Tensor], Tensor]
"""Sparse matrix of torch or scipy, or a function of a signal."""


class DirectFeedback(SeparateBlocks):
    """Train any ``nn.Module`` by Direct Feedback Alignment.

    For block k with output h_k and ``e = dL/d(output)``, the teaching signal is ``delta_k = B_k e`` with B_k fixed and
    random. The parameters get the gradient of ``L(output) + sum_k <h_k, delta_k>``, where h_k is a constant for every
    module that reads it, because it is passed on detached. So no product with a transposed weight crosses a boundary
    between blocks. Modules outside the blocks belong to the graph that reads them: an embedding to the first block, a
    norm to the block after it. Everything after the last block, the *head*, has its true gradient. A last block without
    parameters after it also has its true gradient. The error of an output that ends with a softmax, its logarithm or a
    sigmoid is taken before it, at the logits: the error at probabilities does not vanish as the loss does.

    Parameters
    ----------
    model : nn.Module
        Called as usual. Hooks on it record the outputs of the blocks, until `remove`.
    blocks : str or sequence, optional
        Blocks in order: modules of the model or their dotted names (for an ``nn.Sequential`` also sequences of
        positions of children, which together cover all children); or the name of the ``nn.Sequential`` or
        ``nn.ModuleList`` that contains them. A module without parameters, such as an activation, may be named: the
        modules before it belong to its block. By default the blocks are the layers (children with weights of two or
        more dimensions) of the outermost such containers, each with the children after it: norms, activations, dropout.
    feedback : Feedback or callable, optional
        Source of the teaching signals; a plain function ``feedback(error, widths)`` returns one tensor (rows, width)
        for each width. None trains the head only.
    reduction : {"mean", "sum"}
        How the loss combines rows (samples, tokens, nodes). With "mean" the error is multiplied by the number of rows
        with an error before it is encoded, and the signal is divided by that number afterwards, so that thresholds
        refer to the error of one row. Rows whose error is zero (not in the loss) do not count.
    spread : {"each", "channels", "features"}
        Which entries of h_k have their own entry in the signal, if h_k has more dimensions than rows and width: every
        entry of a row's output (as in Nokland's work on convolutions), its channels (the first dimension after the
        rows; all places get the same signal), or its features (the last dimension; all tokens get the same signal).
    diffuse : sparse matrix or callable, optional
        For graphs: the signal of each block, (nodes, width), is multiplied from the left by this matrix (a normalised
        adjacency; or nodes by graphs, if the error has a row for each graph), or is passed through the callable.
    scale : float, optional
        Factor of the signals. By default 1/sqrt(3) for random and optical feedback: B has the variance of torch's
        initial weights, 1/(3 width), so that the signals have the size of backpropagation's, which matters with SGD. 1
        for a plain function and for feedback that learns.
    class_dim : int
        Dimension of the classes in the output, for layouts such as (batch, classes, height, width). The features of a
        block's output lie in the same dimension if it has the same rows around it: (batch, channels, height, width).
    through : {"norm"}, optional
        "norm": the signal enters behind a norm without parameters of each row of h_k, and passes its derivative, which
        uses no forward weights. For blocks that end in a residual sum, and deep convolutions without a norm.

    Attributes
    ----------
    names : list of str
        Names of the blocks, and "head" if there are parameters after the last block.

    Raises
    ------
    ValueError
        If a block is not found in the model, no blocks are named and none can be found, or a parameter is unknown.

    Notes
    -----
    Rows: an output (batch, classes), (batch, tokens, classes) or (nodes, classes) has one row for each sample, token or
    node. A block whose output has the same leading dimensions is taught row by row. A block that shares only the batch
    is taught by the sum of each sample's errors, scaled to the mean. Errors of several heads are joined along the
    classes. One of the two may have its rows in one dimension, (tokens batch, classes) for (tokens, batch, width).
    Rows are compared by their number only: a block with output (tokens, batch, width) in a model that returns (batch,
    tokens, classes) is refused, or told if there are as many tokens as samples. Use one layout in the whole model.

    A block is taught after the activation that follows it, also if that is a function (``torch.relu(block(x))``), with
    dropout, pooling, reshaping, a constant or, for a single layer, a norm between them: the first call looks for it. An
    activation made by hand of other functions is not found, and a warning names the block. In compiled code nothing
    is looked for, and a warning names the layers: name modules that end with the activation.

    A block that is called several times (tied weights) is taught after each call, each time by its own slice of B. The
    first step decides the order of the slices. A block that is skipped, or called with a shorter output, keeps its
    slice; a new block, call or length is added at the end. If a
    block returns several tensors, the first one is taught; all of them are passed on detached. A residual sum outside
    the blocks bypasses them: name an ``nn.Identity`` after the sum, or the modules before the first block are taught by
    all readers of the sum. A call may skip a block (stochastic depth). A block may not be used without being called
    (``linear(x, block.weight)``, the ``out_proj`` of ``nn.MultiheadAttention``): it would learn from the block after
    it, so `backward` raises an error. While gradients are recorded the blocks stay separated, also in evaluation mode:
    see `connected`.

    Works with bfloat16 autocast (the signals are computed in float32), any optimiser, clipping between `backward` and
    the step, accumulation over several calls, non-reentrant checkpointing, plain ``DistributedDataParallel`` (without
    ``static_graph`` and ``find_unused_parameters``), and ``torch.compile`` of the model, before or after the learner is
    created but before the first call. The loss and `backward` stay outside of the compiled code ("eager" and
    "aot_eager" are tested, with ``fullgraph``; other backends get the same graph).

    Call the model once for each `backward`. If a loss depends on two calls, such as two views of a sample, only the
    last call teaches the hidden blocks; concatenate both inputs along the batch instead.

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
        feedback: Feedback | FeedbackFunction | None = None,
        reduction: str = "mean",
        *,
        spread: str = "each",
        diffuse: Diffuse | None = None,
        class_dim: int = -1,
        through: str | None = None,
        scale: float | None = None,
    ) -> None:
        super().__init__(model, blocks)
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
        if spread not in SPREADS:
            raise ValueError(f"spread must be one of {SPREADS}, got {spread!r}")
        if through not in (None, "norm"):
            raise ValueError(f"through must be 'norm' or None, got {through!r}")
        if scale is not None and not 0 < scale < math.inf:
            raise ValueError(f"scale must be positive and finite, or None, got {scale!r}")
        self.feedback, self.given_scale = feedback, scale
        self.reduction, self.spread, self.class_dim, self.through = reduction, spread, class_dim, through
        check_feedback(self.feedback, model, self.blocks, through, diffuse is not None)
        self.diffuse: Tensor | Callable[[Tensor], Tensor] | None = None
        if diffuse is not None:
            self.diffuse = diffuse if callable(diffuse) else as_sparse(diffuse, "diffuse", "a callable")
        self._layout = Layout()
        self._attach()

    @property
    def scale(self) -> float:
        """Factor of the signals."""
        return scale_of(self.feedback, self.given_scale)

    def backward(self, loss: Tensor, output: Output, *, loss_scale: float = 1.0) -> None:
        """Add the DFA gradient to ``.grad`` of every parameter; the only new line in a training loop.

        Parameters
        ----------
        loss : Tensor, scalar
            Loss of this batch.
        output : Tensor, or tuple, list or dict of Tensor
            Output of the model from which `loss` was computed, or a tensor computed from it: shapes (batch, classes),
            (batch, tokens, classes), (nodes, classes) or (batch,). Tensors without dimensions (a loss) are passed over,
            and so are outputs of hidden blocks, if the loss depends on another output.
        loss_scale : float
            Factor by which the loss was multiplied for technical reasons (1 / number of accumulated batches, a scaler
            for float16). The error is encoded without it. It matters for every encoder whose signal is not proportional
            to the error: for `Ternary`, except with `restore` and a policy other than a fixed threshold.

        Raises
        ------
        ValueError
            If the loss is not finite; if the output is not of the model's last call or does not require a gradient; if
            a block's output shares no rows with it; if a block was used without being called as a module while
            gradients are recorded (as reentrant checkpointing does); or if the model is in an unsupported wrapper for
            several processes.
        """
        check_loss(loss)
        if not loss_scale > 0:
            raise ValueError(f"loss_scale must be positive, got {loss_scale!r}")
        if not self._handles:
            raise ValueError("model must have this learner's hooks, which were removed by remove or another learner")
        check_wrapper(self.model, tensors(output))
        call = self._call
        outputs = find_outputs(call, output)
        check_called(self.model, self.blocks, call.taught, outputs)
        self._teaching = call.number
        try:
            self._inspect(loss, outputs, call, loss_scale)
            self._call = Call(late=call.unrecorded - {t.module for t in call.taught})
            self._send(loss, outputs, call, loss_scale)
        finally:
            self._call.late.clear()
            self._teaching = 0

    def restart(self) -> Self:
        """Forget what earlier calls have shown of the model, and the slices of B."""
        self._layout = Layout()
        return super().restart()

    def _inspect(self, loss: Tensor, outputs: Sequence[Tensor], call: Call, loss_scale: float) -> None:
        """Check the outputs and, in the first step, what takes too long for every step."""
        hidden = [t for t in call.in_order() if all(t.output is not o for o in outputs)]
        if not self._inspector.steps:
            check_sharding(self.model)
            inspect_step(loss, outputs, self.feedback, self.class_dim, loss_scale, self.reduction)
            warn_of_unreached(self.blocks, self.names, loss, call)
            warn_of_compiled(self.names, call)
            warn_of_order(outputs, self.class_dim, call)
            if self.feedback is not None and not self.feedback.shrinks and self.through is None:
                warn_of_code(hidden, self.names)
        self._inspector.check_outputs(hidden)

    def _send(self, loss: Tensor, outputs: list[Tensor], call: Call, loss_scale: float) -> None:
        """Run the backward pass of the loss and, with their signals, of the hidden blocks."""
        if self.feedback is None and not any(constant.requires_grad for constant, _ in call.constants):
            loss.backward()
            return
        errors = find_errors(loss, outputs, call, self.class_dim)
        own = {id(t) for t in errors.carriers} | {id(t) for t, _ in errors.ends}
        taught = [t for t in call.in_order() if id(t.output) not in own] if self.feedback is not None else []
        true = true_gradients(loss, call)
        signals = self._signals(errors.joined, taught, loss_scale, true) if taught else []
        roots = [(t.output, s) for t, s in zip(taught, signals, strict=True) if t.output.requires_grad] + errors.ends
        torch.autograd.backward([loss, *(root for root, _ in roots)], [None, *(signal for _, signal in roots)])

    def state_dict(self) -> State:
        """Rule, blocks, slices of B, and the state of the feedback (seed, variant, counters), in plain types."""
        rule: State = {"rule": "direct", "blocks": self.names, "reduction": self.reduction, "spread": self.spread}
        rule |= {} if self.feedback is None else {"scale": self.scale}
        rule |= {"through": self.through, "layout": [list(one) for one in self._layout.slices]}
        return rule | {"feedback": {} if self.feedback is None else self.feedback.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state: the feedback takes its seed and counters from it.

        Raises
        ------
        ValueError
            If the state belongs to a learner with other blocks or another kind of feedback.
        """
        self._check_state({**state, "layout": self.state_dict()["layout"]})
        self._layout = Layout(state.get("layout", ()))
        if self.feedback is not None:
            self.feedback.load_state_dict(state["feedback"])
        elif state["feedback"]:
            raise ValueError(f"state must be of a learner without feedback, got one with {state['feedback']}")

    def _signals(
        self, error: Tensor, taught: Sequence[Taught], loss_scale: float, true: Mapping[int, Tensor]
    ) -> list[Tensor]:
        """Teaching signals in the blocks' shapes, by one call of the feedback for all blocks with the same rows."""
        dims = [-1 if self.diffuse is not None else features_dim(error, t.output, self.class_dim) for t in taught]
        targets = find_targets(self.feedback, [t.output for t in taught], dims, true)
        outputs = [last(t.output, dim) for t, dim in zip(taught, dims, strict=True)]
        rows = [self._rows(error, output, t) for output, t in zip(outputs, taught, strict=True)]
        wanted = [
            Slice(t.block, t.call, width_of(output, r.dims, self.spread))
            for t, output, r in zip(taught, outputs, rows, strict=True)
        ]
        signals: list[Tensor] = list(outputs)
        for each in sorted({r.each for r in rows}, reverse=True):
            known = [
                t.rows(r.dims, self.spread, self.through) if r.each == each else None
                for t, r in zip(targets, rows, strict=bool(targets))
            ]
            found = self._feed((error if each else sum_samples(error)).flatten(0, -2), wanted, loss_scale, known)
            for k, (output, r) in enumerate(zip(outputs, rows, strict=True)):
                if r.each == each:
                    signal = spread_over(found[k], output, r.dims, self.spread)
                    signals[k] = pass_norm(signal, output, r.dims, self.through).to(output.dtype)
        return [s if dim == -1 else s.movedim(-1, dim) for s, dim in zip(signals, dims, strict=True)]

    def _rows(self, error: Tensor, output: Tensor, taught: Taught) -> Rows:
        rows, name = rows_of(error, output) if self.diffuse is None else Rows(1, True), self.names[taught.block]
        if taught.rows_by_time or (taught.packed is not None and rows is None):
            raise ValueError(
                f"block {name!r} must not return a PackedSequence, whose rows are sorted by time, for an output with "
                f"rows {tuple(error.shape[:-1])}: put packing, layer and unpacking into one module, and name that"
            )
        if rows is None:
            raise ValueError(
                f"a block's output must have the rows of the error {tuple(error.shape[:-1])} before its features, or "
                f"its batch, got shape {tuple(output.shape)} from {name!r}: name a module that returns all rows"
            )
        return rows

    def _feed(
        self, error: Tensor, wanted: Sequence[Slice], loss_scale: float, targets: Sequence[Tensor | None]
    ) -> list[Tensor]:
        """Errors of all rows, (n_rows, classes), to signals (n_rows, width) on the scale of the loss."""
        assert self.feedback is not None
        if error.dtype in (torch.bfloat16, torch.float16):
            error = error.float()
        samples = count_taught(error) if self.reduction == "mean" else 1
        factor = samples / loss_scale
        with torch.no_grad(), torch.autocast(error.device.type, enabled=False):
            error, widths = error * factor, self._layout.widths(wanted)
            if targets:
                teach_feedback(self.feedback, error, self._layout.place(targets, wanted), factor)
            signals = self._layout.take(self.feedback(error, widths), wanted)
            # Coded feedback returns new tensors, which may be changed in place: new memory costs 5 % of a step.
            divide = Tensor.div_ if isinstance(self.feedback, CodedFeedback) else Tensor.div
            divisor = factor / self.scale
            return [self._apply_diffusion(divide(signal, divisor)) for signal in signals]

    def _apply_diffusion(self, signal: Tensor) -> Tensor:
        if self.diffuse is None:
            return signal
        if not isinstance(self.diffuse, Tensor):
            return self.diffuse(signal)
        if self.diffuse.dtype != signal.dtype or self.diffuse.device != signal.device:
            self.diffuse = self.diffuse.to(signal)
        return self.diffuse @ signal


def last(output: Tensor, dim: int) -> Tensor:
    """Output with its features last; they lie in dimension `dim`."""
    return output if dim == -1 else output.movedim(dim, -1)
