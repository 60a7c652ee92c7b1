"""Base class of the learning rules, and the hooks by which they act on a model."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dfa.feedback.base import Feedback, FeedbackFunction, State, as_feedback
from dfa.rules.blocks import Blocks, find_blocks, name_of, parameters_of, unwrap

__all__ = ["Hook", "Learner", "Output", "map_tensors", "tensors"]

Output: TypeAlias = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
"""Output of a model: a tensor, or several in a tuple, list or dict."""


class Hook:
    """A learner's method as a hook at one place of the model. A copied or unpickled hook does nothing."""

    def __init__(
        self, learner: "Learner | None" = None, call: Callable[..., object] | None = None, *place: object
    ) -> None:
        self.learner, self.call, self.place = learner, call, place

    def __call__(self, *arguments: object) -> Any:
        """Result of the method for its place and the arguments that torch passes to a hook."""
        return None if self.call is None else self.call(*self.place, *arguments)

    def remove(self) -> None:
        """Remove all hooks of this hook's learner."""
        if self.learner is not None:
            self.learner.remove()

    def __reduce__(self) -> tuple[type["Hook"], tuple[()]]:
        return Hook, ()


class Learner(ABC):
    """Fills ``.grad`` of a model's parameters by a learning rule. The model is called as usual.

    A copy of the learner (`copy.deepcopy`, pickle) has its own model, feedback and hooks. A copy of the model alone has
    no hooks and is trained by ``loss.backward()``.
    """

    def __init__(self, model: nn.Module, blocks: Blocks | None) -> None:
        if not isinstance(model, nn.Module):
            raise ValueError(f"model must be an nn.Module, got {type(model).__name__}")
        self.model = model
        self.blocks = find_blocks(model, blocks)
        names = [name_of(model, group) for group in self.blocks]
        self.names = [*names, "head"] if parameters_of(model, self.blocks)[-1] else names
        """Names of the blocks, and "head" if there are parameters after the last block."""
        self._feedback: Feedback | None = None
        self._handles: list[RemovableHandle] = []
        self._connected = False

    def __repr__(self) -> str:
        names = self.names if len(self.names) <= 6 else [*self.names[:3], "...", *self.names[-2:]]
        blocks = f"{type(self.model).__name__}, {len(self.names)} blocks: {', '.join(names)}"
        return f"{type(self).__name__}({blocks}; {self._rule()})"

    def _rule(self) -> str:
        """Describe what teaches the blocks, in a few words."""
        return f"feedback={self._feedback!r}"

    @property
    def feedback(self) -> Feedback | None:
        """Source of the teaching signals; None for a rule without one. A plain function may be set, too."""
        return self._feedback

    @feedback.setter
    def feedback(self, feedback: Feedback | FeedbackFunction | None) -> None:
        self._feedback = as_feedback(feedback)

    def parameters(self, block: int) -> list[nn.Parameter]:
        """Trainable parameters of a block, and of the modules before it that are in no block; see `names`."""
        return [parameter for parameter in parameters_of(self.model, self.blocks)[block] if parameter.requires_grad]

    def remove(self) -> None:
        """Remove the hooks. The model is then an ordinary one. A new learner on the model also removes them."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Context in which the hooks do nothing, and ``loss.backward()`` is backpropagation."""
        before, self._connected = self._connected, True
        try:
            yield
        finally:
            self._connected = before

    @abstractmethod
    def backward(self, loss: Tensor, output: Output) -> None:
        """Add the gradient of this rule to ``.grad`` of every parameter."""

    @abstractmethod
    def state_dict(self) -> State:
        """The rule and its state, in plain types, without the state of the model."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""

    @abstractmethod
    def _hook(self) -> list[RemovableHandle]:
        """Register the hooks on the model."""

    def _attach(self) -> None:
        root = unwrap(self.model)
        for module in root.modules():  # hooks of an earlier learner, and inactive hooks that copying has left
            for hooks in (module._forward_pre_hooks, module._forward_hooks):
                for key, hook in list(hooks.items()):
                    if isinstance(hook, Hook):
                        hook.remove()
                        hooks.pop(key, None)
        self._handles = self._hook()

    @property
    def _active(self) -> bool:
        return not self._connected and torch.is_grad_enabled()

    def _check_state(self, state: Mapping[str, Any]) -> None:
        mine = self.state_dict()
        for name in mine:
            if name != "feedback" and state.get(name) != mine[name]:
                raise ValueError(
                    f"state must be of a learner with {name} {mine[name]!r}, got one with {state.get(name)!r}"
                )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handles": [], "_connected": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._attach()


def tensors(output: object) -> list[Tensor]:
    """Tensors in the output of a module, in order: itself, or those in tuples, lists and mappings."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        output = list(output.values())
    return [t for part in output for t in tensors(part)] if isinstance(output, tuple | list) else []


def map_tensors(change: Callable[[Tensor], Tensor], output: object) -> object:
    """Apply a function to each tensor in the output of a module."""
    if isinstance(output, Tensor):
        return change(output)
    if isinstance(output, Mapping):
        build = cast(Callable[[dict[Any, object]], object], type(output))
        return build({key: map_tensors(change, part) for key, part in output.items()})
    if isinstance(output, tuple | list):
        parts = [map_tensors(change, part) for part in output]
        named = cast(Callable[..., object], type(output))
        return named(*parts) if hasattr(output, "_fields") else type(output)(parts)
    return output
