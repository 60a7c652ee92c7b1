"""The hooks that record the outputs of a model's blocks, and separate the blocks from each other."""

import warnings
from functools import partial
from typing import Any, Self
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn
from torch.jit import ScriptModule
from torch.nn.utils.rnn import PackedSequence
from torch.utils.hooks import RemovableHandle

from dfa.feedback.learned import LearnedFeedback
from dfa.rules.activations import ends_with_layer, is_single_layer, may_continue, open_output, plain, warn_of
from dfa.rules.blocks import Blocks, unwrap
from dfa.rules.calls import Call, Follower, Taught, start_graph
from dfa.rules.inspection import Inspector, check_checkpoint, check_recorded, check_sharding
from dfa.rules.learner import Hook, Learner, map_tensors, tensors

__all__ = ["SeparateBlocks"]


class SeparateBlocks(Learner):
    """A learner whose blocks pass on their outputs detached, so that no error crosses a boundary between blocks.

    A block is recorded after the activation that follows it.
    """

    def __init__(self, model: nn.Module, blocks: Blocks | None) -> None:
        super().__init__(model, blocks)
        check_sharding(model)
        self._call = Call()
        self._calls, self._teaching = 0, 0
        self._inspector = Inspector(self.names)
        self._follows: dict[tuple[int, int], bool] = {}
        """Whether an activation follows a block in a call, as the first call has shown."""
        self._checks: list[RemovableHandle] = []
        """Hooks that are needed until the first call has ended."""

    def restart(self) -> Self:
        """Forget what earlier calls have shown of the model."""
        self._call, self._inspector = Call(), Inspector(self.names)
        self._follows.clear()
        return self

    def _hook(self) -> list[RemovableHandle]:
        """Hooks at the start of the model's call, the end of each block, and the end of the model's call."""
        places: dict[int, tuple[nn.Module, list[int]]] = {}
        for k, group in enumerate(self.blocks):
            places.setdefault(id(group[-1]), (group[-1], []))[1].append(k)
        root = unwrap(self.model)
        handles = [root.register_forward_pre_hook(Hook(self, self._begin))]
        last = len(self.names) - 1  # the block after which no activation is needed
        search = {key: min(owners) < last and may_continue(module) for key, (module, owners) in places.items()}
        for module in {id(group[0]): group[0] for group in self.blocks}.values():
            if any(search.values()) and not isinstance(module, ScriptModule):  # which takes no hooks
                handles.append(module.register_forward_pre_hook(Hook(self, self._enter), with_kwargs=True))
        for i, (key, (module, owners)) in enumerate(places.items()):
            handles.append(module.register_forward_hook(Hook(self, self._cut, i, owners, search[key])))
        parts = {id(part): part for group in self.blocks for module in group for part in module.modules()}
        own = [part for part in parts.values() if any(True for _ in part.parameters(recurse=False))]
        own = [part for part in own if not isinstance(part, ScriptModule)]
        self._checks = [part.register_forward_pre_hook(Hook(self, self._check_part)) for part in own]
        return [*handles, *self._checks, root.register_forward_hook(Hook(self, self._end))]

    def _check_part(self, module: nn.Module, inputs: object) -> None:
        """In the first call: refuse a part of a block whose gradient would be None."""
        if self._call.inside and not self._connected and not torch.is_grad_enabled():
            check_checkpoint(module)

    def _begin(self, module: nn.Module, inputs: object) -> None:
        if self._active:
            self._calls += 1
            if self._call.returned and not torch.compiler.is_compiling():  # a call without a backward after it
                self._watch(self._call)
            self._call = Call(
                number=self._calls,
                inside=True,
                tracked=isinstance(self.feedback, LearnedFeedback) and self.feedback.due,
            )

    def _enter(self, module: nn.Module, inputs: object, named: object) -> object:
        """End the search for activations at a block's inputs: what the block does belongs to itself."""
        if not self._call.inside or all(f.found is not None for f in self._call.followers):
            return None
        return map_tensors(plain, inputs), map_tensors(plain, named)

    def _cut(
        self, place: int, owners: list[int], search: bool, module: nn.Module, inputs: object, output: object
    ) -> object:
        """Record a block's output, and pass it on detached; with `search` an activation may follow it."""
        call = self._call
        if self._connected or not call.inside:
            call.check_late(place, module)
            return None
        if not torch.is_grad_enabled():
            call.unrecorded.add(place)
            return None
        floats = [t for t in tensors(output) if t.is_floating_point()]
        if not floats:
            if output is not None and not tensors(output):
                raise ValueError(
                    "a block's output must be a tensor, or a tuple, list or dict of tensors, got "
                    f"{type(output).__name__}"
                )
            return None
        before = sum(t.module == place for t in call.taught)
        block = owners[min(before, len(owners) - 1)]
        check_recorded(self.blocks[block], inputs, floats[0])
        taught = Taught(
            block, floats[0], place, sum(t.block == block for t in call.taught), packed=packed_sizes(output)
        )
        call.taught.append(taught)
        if torch.compiler.is_compiling():
            taught.unsearched = search and is_single_layer(module)
            return map_tensors(call.detach, output)
        end = block == len(self.names) - 1  # no parameters after this block
        if end or not self._follows.get((block, taught.call), search):
            return map_tensors(partial(call.detach, end=end), output)
        follower = Follower(taught, is_single_layer(module), ends_with_layer(module))
        call.followers.append(follower)
        return map_tensors(lambda t: open_output(t, call, follower) if t is floats[0] else call.detach(t), output)

    def _end(self, module: nn.Module, inputs: object, output: object) -> object:
        """Return the recorded tensor instead of its detached copy, so that the last block has its true gradient."""
        if not self._active:
            return None
        call = self._call
        call.inside = False
        if not torch.compiler.is_compiling() and self._checks:
            for handle in self._checks:
                handle.remove()
            self._checks = []
        call.returned = [plain(call.attached(returned)) for returned in tensors(output)]
        changed = any(a is not b for a, b in zip(call.returned, tensors(output), strict=True))
        if not (self._inspector.steps or torch.compiler.is_compiling()):
            for returned in call.returned:
                if returned.grad_fn is not None:
                    returned.grad_fn.register_hook(partial(check_taught, ref(self)))
        found = iter(call.returned)
        given = map_tensors(lambda _: next(found), output) if changed else None
        for follower in call.followers:
            key = follower.taught.block, follower.taught.call
            if key not in self._follows:
                self._follows[key] = bool(follower.found)
                warn_of(self.names[follower.taught.block], follower)
        if not call.taught or any(t.requires_grad for t in call.returned) or self.parameters(len(self.names) - 1):
            return given
        # Everything after the hidden blocks is frozen and has no gradient, but the hidden blocks need the error.
        call.taught = [t for t in call.taught if all(t.output is not own for own in call.returned)]
        given = map_tensors(start_graph, output if given is None else given)
        call.returned = tensors(given)
        return given

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_call": Call(), "_checks": []}

    def _watch(self, call: Call) -> None:
        """Let the outputs of a call tell if the loss of a later call depends on them, too."""
        for returned in call.returned:
            if returned.requires_grad and returned.ndim > 0:
                returned.register_hook(partial(self._check_number, call.number))

    def _check_number(self, number: int, gradient: Tensor) -> None:
        """In the backward pass, at an output of a call: warn if it is not the call that teaches."""
        if self._teaching not in (0, number) and self._inspector.first_time(-1, "calls"):
            warnings.warn(
                "loss depends on two calls of the model, and only the last one teaches the hidden blocks: concatenate "
                "the inputs along the batch, and call the model once",
                UserWarning,
                stacklevel=2,
            )


def check_taught(learner: ReferenceType[SeparateBlocks], *gradients: object) -> None:
    """In a backward pass through the model before the first step: warn if it is not that of the learner.

    Before the first step the learner has its model's output, so a graph that had the learner would never be freed.
    """
    here = learner()
    if here is None or here.feedback is None or here._teaching or not here._inspector.first_time(-1, "backward"):
        return
    warnings.warn(
        "loss.backward() teaches only the modules after the last hidden block of a model with a learner: call "
        "learner.backward(loss, output), or make the model an ordinary one by learner.remove()",
        UserWarning,
        stacklevel=5,
    )


def packed_sizes(output: object) -> Tensor | None:
    """Samples at each time, if a module returns a ``PackedSequence``, alone or first; else None."""
    first = output[0] if type(output) is tuple and output else output
    return first.batch_sizes if isinstance(first, PackedSequence) else None
