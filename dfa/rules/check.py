"""A dry run of a model: which blocks would learn from what, and what will not learn."""

import copy
import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dfa.feedback.base import Feedback
from dfa.rules.blocks import Blocks
from dfa.rules.calls import Call, parameters_behind
from dfa.rules.direct import DirectFeedback
from dfa.rules.outputs import operation

__all__ = ["Block", "Report", "check"]


@dataclass(frozen=True)
class Block:
    """What a block of a model learns from."""

    name: str
    """Dotted name of its first module, or "head"."""
    modules: str
    """Classes of its modules."""
    teacher: str
    """"feedback", "true gradient", "frozen", or "nothing"."""
    after: str
    """Operation whose output is taught; empty without feedback."""
    outputs: tuple[tuple[int, ...], ...]
    """Shape of the output in each call."""
    width: int
    """Entries of the teaching signals of a row, all calls together: the pixels of a device for this block."""
    parameters: int
    """Number of trainable parameters."""


@dataclass(frozen=True)
class Report:
    """Result of `check`; printed as a table."""

    blocks: list[Block]
    """Blocks in order, and last the head."""
    classes: int = 0
    """Entries of the error of a row: inputs that a device must have for it."""
    rows: int = 0
    """Rows of the error for this sample (samples, tokens, nodes)."""
    problems: list[str] = field(default_factory=list)
    """What will not learn, or not well, and why; a line each."""
    sums: int = 0
    """Further rows that a step sends: sums of the errors of a sample, for blocks that share only the batch."""

    @property
    def pixels(self) -> int:
        """Outputs that a device must have: the sum of the widths."""
        return sum(block.width for block in self.blocks)

    def frames(self, frames_per_vector: int = 2) -> int:
        """Frames of a step with this sample, if every row and sum is shown with entries of both signs.

        Parameters
        ----------
        frames_per_vector : int
            That of the projection: 2 for one anchor, the number of steps for phase stepping, 1 for off-axis holography.
        """
        return 2 * frames_per_vector * (self.rows + self.sums)

    def __str__(self) -> str:
        problems = [f"! {problem}" for problem in self.problems]
        if not self.blocks:
            return "\n".join(problems)
        header = ("block", "modules", "learns from", "taught after", "output", "pixels", "parameters")
        table = [header, *(describe(block) for block in self.blocks)]
        widths = [max(len(row[k]) for row in table) for k in range(len(header))]
        lines = ["  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in table]
        sent = f"{self.rows} rows and {self.sums} sums" if self.sums else f"{self.rows} rows"
        lines += [
            "",
            f"error: {sent} of {self.classes} entries; a device needs {self.classes} inputs for it, besides "
            f"those of its anchors, and {self.pixels} usable pixels",
            f"frames of a step: up to {self.frames(1)} by off-axis holography, {self.frames(2)} with an anchor, "
            f"{self.frames(4)} by four phase steps",
        ]
        return "\n".join(lines + problems)


def describe(block: Block) -> tuple[str, ...]:
    """Cells of a block's row in the table."""
    shapes = " ".join("x".join(map(str, shape)) for shape in dict.fromkeys(block.outputs))
    calls = f" ({len(block.outputs)} calls)" if len(block.outputs) > 1 else ""
    modules = block.modules if len(block.modules) <= 40 else block.modules[:37] + "..."
    counts = str(block.width or "-"), str(block.parameters)
    return block.name, modules, block.teacher, block.after or "-", (shapes or "-") + calls, *counts


class Recorder(Feedback):
    """Feedback of random signals that keeps the shape of the error."""

    proportional = False

    def __init__(self) -> None:
        self.shape, self.sent = (0, 0), 0

    def __call__(self, error: Tensor, widths: Sequence[int]) -> list[Tensor]:
        """Normal signals of the size of those of `RandomFeedback`."""
        self.shape, self.sent = (max(self.shape[0], len(error)), error.shape[1]), self.sent + len(error)
        size = error.norm(dim=1, keepdim=True)
        return [torch.randn(len(error), w).to(error) * size / math.sqrt(3 * w) for w in widths]


def check(
    model: nn.Module | DirectFeedback,
    sample: tuple[Any, Any] | Mapping[str, Any],
    loss: Callable[[Any, Any], Tensor],
    blocks: Blocks | None = None,
    **options: Any,
) -> Report:
    """Try one step on a copy of a model, and tell what each block learns from, and what will not learn.

    Nothing is shown to a device, and neither the model nor torch's random state changes.

    Parameters
    ----------
    model : nn.Module or DirectFeedback
        A model, or the learner of a model with its blocks and settings.
    sample : tuple or mapping
        ``(inputs, target)``; `inputs` is a tensor, a tuple of arguments, or a mapping of named arguments. A
        mapping alone holds the named arguments of a model that gets its target as one of them.
    loss : callable
        ``loss(output, target)``; ``loss(output, sample)`` if the sample is a mapping.
    blocks, **options
        As for `DirectFeedback`, if a model is given.

    Returns
    -------
    Report
        Print it, or read ``blocks``, ``classes``, ``pixels``, ``frames()`` and ``problems``. If a step is impossible,
        there are no blocks, and the last problem is the reason.

    Notes
    -----
    Parameters outside the blocks are counted in the block that follows them, in the order in which modules were added
    to the model, or in the head. This includes the weights of a norm that the model applies as a function
    (``layer_norm(block(x), ..., norm.weight)``): they may be taught with the block before it, where `after` names the
    norm or the activation behind it.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> import dfa
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> report = dfa.check(model, (torch.ones(2, 4), torch.tensor([0, 2])), nn.functional.cross_entropy)
    >>> report.pixels, report.classes, report.frames(), report.problems
    (8, 3, 8, [])
    """
    if not isinstance(model, nn.Module | DirectFeedback):
        raise ValueError(f"model must be an nn.Module or a DirectFeedback, got {type(model).__name__}")
    if isinstance(model, DirectFeedback) and (blocks is not None or options):
        raise ValueError("blocks and options must not be given with a learner, which has its own")
    with torch.random.fork_rng(), warnings.catch_warnings(record=True) as caught, torch.enable_grad():
        warnings.simplefilter("always")
        try:
            found = try_step(copy_learner(model, blocks, options), sample, loss)
        except ValueError as error:
            found = Report([], problems=[str(error)])
    found.problems[:0] = dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, UserWarning))
    return found


def copy_learner(model: nn.Module | DirectFeedback, blocks: Blocks | None, options: dict[str, Any]) -> DirectFeedback:
    """Learner of a copy of the model, whose feedback is a `Recorder`."""
    recorder = Recorder()
    if isinstance(model, nn.Module):
        return DirectFeedback(copy.deepcopy(model), blocks, recorder, **options)
    if model.feedback is not None:
        recorder.proportional, recorder.shrinks = model.feedback.proportional, model.feedback.shrinks
    learner = copy.deepcopy(model, {id(model.feedback): recorder})
    learner.feedback = recorder
    return learner.restart()


def try_step(
    learner: DirectFeedback, sample: tuple[Any, Any] | Mapping[str, Any], loss: Callable[[Any, Any], Tensor]
) -> Report:
    """Take the step, and describe it."""
    learner.model.zero_grad()
    output, target = call_model(learner.model, sample)
    call = learner._call
    learner.backward(loss(output, target), output)
    widths: Counter[tuple[int, int]] = Counter()
    for block, number, width in learner._layout.slices:
        widths[block, number] += width
    rows = []
    for k, name in enumerate(learner.names):
        calls = [t for t in call.in_order() if t.block == k]
        parameters = learner.parameters(k)
        width = sum(widths[t.block, t.call] for t in calls)
        learns = any(p.grad is not None for p in parameters)
        rows.append(
            Block(
                name=name,
                modules=", ".join(type(m).__name__ for m in learner.blocks[k]) if k < len(learner.blocks) else "",
                teacher=("feedback" if width else "true gradient") if learns else "nothing" if parameters else "frozen",
                after=operation(node) if width and calls and (node := calls[0].output.grad_fn) else "",
                outputs=tuple(tuple(t.output.shape) for t in calls),
                width=width,
                parameters=sum(p.numel() for p in parameters),
            )
        )
    recorder = learner.feedback
    assert isinstance(recorder, Recorder)
    problems = [*find_problems(learner, rows, recorder), *find_bypassed(learner, call)]
    return Report(rows, recorder.shape[1], recorder.shape[0], problems, recorder.sent - recorder.shape[0])


def call_model(model: nn.Module, sample: tuple[Any, Any] | Mapping[str, Any]) -> tuple[Any, Any]:
    """Output of the model for a sample, and what the loss compares it with."""
    if isinstance(sample, Mapping):
        return model(**sample), sample
    if not isinstance(sample, tuple | list) or len(sample) != 2:
        raise ValueError(f"sample must be (inputs, target) or named arguments, got {type(sample).__name__}")
    inputs, target = sample
    if isinstance(inputs, Mapping):
        return model(**inputs), target
    return (model(*inputs) if isinstance(inputs, tuple) else model(inputs)), target


def find_problems(learner: DirectFeedback, rows: Sequence[Block], recorder: Recorder) -> list[str]:
    """Lines on parameters without a gradient, and on blocks that nothing teaches."""
    problems = []
    for k, row in enumerate(rows):
        silent = [p for p in learner.parameters(k) if p.grad is None]
        if row.parameters and row.teacher == "nothing":
            reason = "it was not called" if not row.outputs and row.name != "head" else "no output depends on it"
            problems.append(f"block {row.name!r} will not learn: {reason}")
        elif silent:
            count = sum(p.numel() for p in silent)
            problems.append(f"{count} of {row.parameters} parameters of block {row.name!r} will not learn: no gradient")
    frozen = sum(p.numel() for p in learner.model.parameters() if not p.requires_grad)
    if frozen:
        problems.append(f"{frozen} parameters are frozen (requires_grad=False)")
    if not recorder.shape[1]:
        problems.append("no block learns from feedback: the whole model has its true gradient")
    return problems


def find_bypassed(learner: DirectFeedback, call: Call) -> list[str]:
    """Lines on parameters of taught blocks that an output depends on without a boundary between them."""
    hidden = {id(original) for _, original in call.constants}
    found = {id(p) for p in parameters_behind([o for o in call.returned if id(o) not in hidden])}
    taught = sorted({t.block for t in call.taught} & set(range(len(learner.names) - 1)))
    counts = {k: sum(p.numel() for p in learner.parameters(k) if id(p) in found) for k in taught}
    return [
        f"{count} parameters counted in block {learner.names[k]!r} also have the true gradient: the output depends on "
        "them past the blocks (a sum outside the blocks, tied weights)"
        for k, count in counts.items()
        if count
    ]
