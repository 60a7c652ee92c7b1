"""What all learners share: hooks on a model, which can be taken off, and which copies of the model do not inherit."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dfa.rules.blocks import Blocks, find_blocks, name_of, parameters_of, whole

__all__ = ["Hook", "Learner", "mapped", "tensors"]

Output = Tensor | Sequence[Tensor] | Mapping[str, Tensor]


class Hook:
    """A learner's method, bound to a place in the model. A copy, or what is read from a file, does nothing."""

    def __init__(self, call: Callable[..., Any] | None = None, *place: Any) -> None:
        self.call, self.place = call, place

    def __call__(self, *arguments: Any) -> Any:
        """What the method makes of its place and of what torch passes to a hook."""
        return None if self.call is None else self.call(*self.place, *arguments)

    def leave(self) -> None:
        """Take all of its learner's hooks off, wherever they are."""
        if self.call is not None:
            self.call.__self__.remove()  # type: ignore[attr-defined]

    def __reduce__(self) -> tuple[Any, ...]:
        return Hook, ()


class Learner(ABC):
    """Fills ``.grad`` of a model's parameters by some rule; the model is called as usual.

    A copy of the learner (`copy.deepcopy`, pickle) has a model, a feedback and hooks of its own; a copy of its model
    alone has none, and is trained by ``loss.backward()``.
    """

    feedback: Any = None
    """Where the teaching signals come from, if the rule needs that."""

    def __init__(self, model: nn.Module, blocks: Blocks | None) -> None:
        if not isinstance(model, nn.Module):
            raise ValueError(f"model must be an nn.Module, got {type(model).__name__}")
        self.model = model
        self.blocks = find_blocks(model, blocks)
        names = [name_of(model, group) for group in self.blocks]
        self.names = [*names, "head"] if parameters_of(model, self.blocks)[-1] else names
        """Names of the blocks, and of the head if there is anything to learn after the last of them."""
        self._handles: list[RemovableHandle] = []
        self._connected = False

    def parameters(self, block: int) -> list[nn.Parameter]:
        """Parameters of a block that learn, those before it that are in no block included; see `names`."""
        return [parameter for parameter in parameters_of(self.model, self.blocks)[block] if parameter.requires_grad]

    def remove(self) -> None:
        """Take the hooks off: the model is whole again, and this learner of no more use. A new learner does it, too."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Inside, the model is whole again, and ``loss.backward()`` is backpropagation."""
        before, self._connected = self._connected, True
        try:
            yield
        finally:
            self._connected = before

    @abstractmethod
    def backward(self, loss: Tensor, output: Any) -> None:
        """Add the gradient of this rule to ``.grad`` of every parameter; the only new line in a training loop."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What the learner is and where it stands, in plain types; the model's state is the model's."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""

    @abstractmethod
    def _hook(self) -> list[RemovableHandle]:
        """Put the hooks on the model."""

    def _attach(self) -> None:
        root = whole(self.model)
        for module in root.modules():  # hooks of an earlier learner, and what copying has left of them
            for hooks in (module._forward_pre_hooks, module._forward_hooks):
                for key, hook in list(hooks.items()):
                    if isinstance(hook, Hook):
                        hook.leave()
                        hooks.pop(key, None)
        self._handles = self._hook()

    @property
    def _active(self) -> bool:
        return not self._connected and torch.is_grad_enabled()

    def _check_state(self, state: Mapping[str, Any]) -> None:
        mine = self.state_dict()
        for name in mine:
            if name != "feedback" and state.get(name) != mine[name]:
                raise ValueError(f"state is of a learner with {name} {state.get(name)!r}, this one has {mine[name]!r}")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handles": [], "_connected": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._attach()


def tensors(output: Any) -> list[Tensor]:
    """Tensors in what a module returned: itself, or in tuples, lists and mappings."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        output = list(output.values())
    return [t for part in output for t in tensors(part)] if isinstance(output, tuple | list) else []


def mapped(change: Callable[[Tensor], Tensor], output: Any) -> Any:
    """What a module returned, each tensor changed."""
    if isinstance(output, Tensor):
        return change(output)
    if isinstance(output, Mapping):
        return type(output)({key: mapped(change, part) for key, part in output.items()})  # type: ignore[call-arg]
    if isinstance(output, tuple | list):
        parts = [mapped(change, part) for part in output]
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
    return output
