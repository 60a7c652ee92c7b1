"""The activation that follows a block: its derivative belongs to the block."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from dfa.rules.blocks import NORMS, has_parameters, is_layer
from dfa.rules.calls import Call, Follower, parameters_behind

__all__ = ["Open", "ends_with_layer", "is_single_layer", "may_continue", "open_output", "plain", "warn_of"]


def names(text: str) -> frozenset[str]:
    """Set of the words of a text."""
    return frozenset(text.split())


ACTIVATIONS = names(
    "relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish sigmoid log_sigmoid tanh hardtanh hardsigmoid "
    "hardswish softplus softsign softshrink hardshrink tanhshrink threshold glu sin cos erf clamp clamp_min clip atan "
    "arctan asinh arcsinh sinh expm1"
)
"""Functions after which a block is taught."""
NORMALISING = names("batch_norm layer_norm group_norm instance_norm rms_norm")
"""Functions that may come before the activation of a layer; the norm then belongs to the block."""
PASSING = names(
    "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d dropout dropout1d dropout2d "
    "dropout3d alpha_dropout feature_dropout flatten unflatten view reshape transpose permute movedim squeeze "
    "unsqueeze contiguous clone to float double half bfloat16 t mean neg nan_to_num masked_fill interpolate pad "
    "pixel_shuffle"
)
"""Functions without parameters that may come before the activation."""
SUMS = names("add radd sub")
"""Functions that may come before the activation if no other operand depends on a parameter."""
UNKNOWN = names("add radd sub rsub mul rmul div truediv pow exp square sqrt abs max min maximum minimum where")
"""Functions that make an activation by hand of a tensor that was read before, such as ``x * sigmoid(x)``."""
LINEAR = names(
    "linear bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d matmul rmatmul mm bmm mv "
    "addmm baddbmm einsum tensordot scaled_dot_product_attention multi_head_attention_forward lstm gru rnn_tanh "
    "rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell"
)
"""Functions of the next layer: no activation was there to be found."""
QUIET = names(
    "get size dim ndimension numel nelement stride len is_contiguous is_floating_point get_device detach zeros_like "
    "ones_like full_like empty_like rand_like randn_like new_zeros new_ones new_full new_empty"
)
"""Functions that read no entries, or whose result has no gradient."""


@dataclass
class Path:
    """Way from the blocks to a tensor that has not met an activation yet."""

    original: Tensor = field(repr=False)
    """The same tensor with its graph."""
    followers: list[Follower]
    call: Call
    """Record of the model's call."""
    norms: bool
    """Whether norms may follow."""

    @property
    def active(self) -> bool:
        """Whether the search goes on for all blocks."""
        return all(f.found is None for f in self.followers)


class Open(Tensor):
    """Detached output of a block that the next function reads: an activation, or the end of the search."""

    path: Path

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call a function: on the original if an activation may still follow, else on the constant."""
        kwargs = kwargs or {}
        name = str(getattr(func, "__name__", "")).strip("_")
        name = name.removeprefix("i") if name == "iadd" else name
        leaves = tree_leaves((args, kwargs))
        known = [leaf.path for leaf in leaves if isinstance(leaf, Open)]
        paths = [path for path in known if path.active]
        with torch._C.DisableTorchFunctionSubclass():
            if name in QUIET or not paths:
                for follower in (f for path in known for f in path.followers if name in UNKNOWN):
                    follower.reader = follower.reader or name
                return func(*args, **kwargs)
            if not may_pass(name, paths, leaves):
                close(paths, name)
                return func(*args, **kwargs)
            constant = None
            if paths[0].call.tracked and name in PASSING | SUMS:  # the copies record gradients
                with torch.random.fork_rng(enabled="dropout" in name):
                    constant = func(*args, **kwargs)
            args, kwargs = tree_map(attach, (args, kwargs))
            return pass_on(func(*args, **kwargs), constant, name, paths)


def may_pass(name: str, paths: list[Path], leaves: list[object]) -> bool:
    """Whether the function is an activation, or one may still follow it."""
    if name in SUMS:
        others = [leaf for leaf in leaves if isinstance(leaf, Tensor) and not isinstance(leaf, Open)]
        return not any(isinstance(parameter, nn.Parameter) for parameter in parameters_behind(others))
    return len(paths) == 1 and (
        name in ACTIVATIONS or name in PASSING or (name in NORMALISING and all(path.norms for path in paths))
    )


def attach(leaf: object) -> object:
    """The original of an open tensor whose search goes on; everything else unchanged."""
    return leaf.path.original if isinstance(leaf, Open) and leaf.path.active else leaf


def pass_on(result: object, constant: object, name: str, paths: list[Path]) -> object:
    """Record the output of an activation or a norm, and detach it; or keep the search going.

    Parameters
    ----------
    result : object
        Result of the function for the originals.
    constant : object
        Its result for the constants, or None: then it is the detached `result`.
    name : str
        Name of the function.
    paths : list of Path
        Paths that the function reads.
    """
    followers = list({id(f): f for path in paths for f in path.followers}.values())
    call, norms = paths[0].call, all(path.norms for path in paths) and name not in SUMS
    if not isinstance(result, Tensor):
        close(paths, name)
        return constant or tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, result)
    if name in ACTIVATIONS:
        followers[0].taught.output = result
        for follower in followers:
            follower.found = True
        for follower in followers[1:]:
            follower.taught.joined = True  # summed before the activation: one signal teaches all of them
        return call.detach(result)
    if name in NORMALISING:
        followers[0].taught.output = result
        constant = call.detach(result)
    opened = (constant if isinstance(constant, Tensor) else result.detach()).as_subclass(Open)
    opened.path = Path(result, followers, call, norms)
    return opened


def open_output(tensor: Tensor, call: Call, follower: Follower) -> Tensor:
    """Detach a block's output, and follow what reads it."""
    opened = call.detach(tensor).as_subclass(Open)
    opened.path = Path(tensor, [follower], call, follower.layer)
    call.constants[-1] = opened, tensor
    return opened


def close(paths: Iterable[Path], reader: str) -> None:
    """End the search: no activation was found before this function."""
    for follower in (f for path in paths for f in path.followers):
        if follower.found is None:
            follower.found, follower.reader = False, reader


def plain(tensor: Tensor) -> Tensor:
    """The constant of an open tensor, whose search ends; any other tensor unchanged."""
    if not isinstance(tensor, Open):
        return tensor
    close([tensor.path], "")
    return tensor.as_subclass(Tensor)


def may_continue(module: nn.Module) -> bool:
    """Whether an activation may follow a block that ends with this module."""
    return has_parameters([module]) and not isinstance(module, nn.RNNBase | nn.RNNCellBase | nn.Embedding)


def is_single_layer(module: nn.Module) -> bool:
    """Whether a module is one layer or norm."""
    return not any(True for _ in module.children()) and (is_layer(module) or isinstance(module, NORMS))


def ends_with_layer(module: nn.Module) -> bool:
    """Whether a module is one layer or norm, or an ``nn.Sequential`` that ends with one."""
    while isinstance(module, nn.Sequential) and len(module):
        module = module[-1]
    return is_single_layer(module)


def warn_of(name: str, follower: Follower) -> None:
    """Warn if a layer is read by a function that may be part of an activation, such as ``x * sigmoid(x)``.

    A sum of an ``nn.Sequential`` is taken for a residual sum.
    """
    by_hand = UNKNOWN if follower.found else None
    reader = follower.reader
    known = reader in LINEAR or (reader in SUMS and not follower.layer)
    if follower.bare and reader and not known and (by_hand is None or reader in by_hand):
        warnings.warn(
            f"blocks: an activation may follow {name!r}, but it cannot be found, because {reader!r} reads "
            "the block's output: if an activation is made of it, put layer and activation in one module, and name that",
            stacklevel=2,
        )
