"""The blocks of a network, and the parameters that belong to each block."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import permutations
from typing import TypeAlias, cast

from torch import nn
from torch.jit import ScriptModule
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils.parametrize import ParametrizationList

__all__ = ["Blocks", "check_present", "find_blocks", "name_of", "parameters_of", "unwrap"]

Blocks: TypeAlias = str | Sequence[nn.Module | str | Sequence[int]]
"""Modules of a model, dotted names, or positions of the children of an ``nn.Sequential``; or a container's name."""

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
"""Norms of torch: batch and instance norms, and the others."""


def find_blocks(model: nn.Module, blocks: Blocks | None) -> list[list[nn.Module]]:
    """Modules of each block in order; the last module of a block gives its output.

    Raises
    ------
    ValueError
        If there is no such module, the positions do not cover the model in order, or no blocks are named and none can
        be found.
    """
    model = unwrap(model)
    if isinstance(model, ScriptModule):
        raise ValueError("model must not come from torch.jit, whose code calls no hooks: use torch.compile")
    return check_apart(model, default_blocks(model) if blocks is None else named_blocks(model, blocks))


def named_blocks(model: nn.Module, blocks: Blocks) -> list[list[nn.Module]]:
    """Modules of each block that the user has named."""
    if isinstance(blocks, str):
        container = by_name(model, blocks)
        if not isinstance(container, nn.Sequential | nn.ModuleList):
            raise ValueError(f"blocks must be a list or the name of a container, got the name of a module, {blocks!r}")
        return children_in_groups(container)
    if not isinstance(blocks, Iterable):
        hint = ", name feedback=..." if callable(blocks) and not isinstance(blocks, nn.Module) else ""
        raise ValueError(f"blocks must be a list of modules or names, got {type(blocks).__name__}{hint}")
    chosen = list(blocks)
    if not chosen:
        raise ValueError("blocks must name at least one module, got none")
    if isinstance(model, nn.Sequential) and not any(isinstance(block, nn.Module | str) for block in chosen):
        return by_positions(model, cast(Sequence[Sequence[int]], chosen))
    groups = [[block if isinstance(block, nn.Module) else by_name(model, block)] for block in chosen]
    inside = {id(module) for module in model.modules()}
    for [module] in groups:
        if id(module) not in inside:
            raise ValueError(f"blocks must be modules of the model, got a {type(module).__name__} that is not in it")
    if len({id(module) for [module] in groups}) < len(groups):
        raise ValueError("blocks must be different modules; name a module that is called several times once")
    return groups


def default_blocks(model: nn.Module) -> list[list[nn.Module]]:
    """Blocks that are found if none are named: the children of the outermost containers, in order."""
    groups = [group for container in containers(model) for group in children_in_groups(container)]
    if not groups:
        layers = [name for name, child in model.named_children() if is_layer(child)]
        hint = f": name all layers but the last, as blocks={layers[:-1]}" if len(layers) > 1 else ""
        raise ValueError(
            f"blocks must be named, {type(model).__name__} contains no nn.Sequential or nn.ModuleList with parameters"
            f"{hint}"
        )
    return groups


def check_apart(model: nn.Module, groups: list[list[nn.Module]]) -> list[list[nn.Module]]:
    """Return the groups, or raise a ``ValueError`` if a block is inside another one or ends with scripted code."""
    inside = [{id(part) for module in group for part in list(module.modules())[1:]} for group in groups]
    for outer, inner in permutations(range(len(groups)), 2):
        if any(id(module) in inside[outer] for module in groups[inner]):
            raise ValueError(
                f"blocks must not contain each other, got {name_of(model, groups[inner])!r} inside "
                f"{name_of(model, groups[outer])!r}: name one of them"
            )
    if any(isinstance(group[-1], ScriptModule) for group in groups):
        raise ValueError(
            "blocks must not end with a module from torch.jit, which takes no hooks: wrap it, as "
            "nn.Sequential(module, nn.Identity())"
        )
    return groups


def containers(module: nn.Module) -> Iterator[nn.Sequential | nn.ModuleList]:
    """``nn.Sequential`` and ``nn.ModuleList`` modules that are in no other such module, without parametrisations."""
    if isinstance(module, ParametrizationList):
        return
    if isinstance(module, nn.Sequential | nn.ModuleList):
        yield module
        return
    for child in module.children():
        yield from containers(child)


def children_in_groups(container: nn.Sequential | nn.ModuleList) -> list[list[nn.Module]]:
    """One group for each layer and the children after it that are no layers; the first also has those before it."""
    groups: list[list[nn.Module]] = []
    for child in container:
        if not groups or (is_layer(child) and any(is_layer(before) for before in groups[-1])):
            groups.append([])
        groups[-1].append(child)
    return check_ends([group for group in groups if has_parameters(group)])


def is_layer(module: nn.Module) -> bool:
    """Whether a module has weights of two or more dimensions. Norms, PReLU, scales and biases have none.

    In modules that are not torch's, dimensions of one entry do not count: scales of images are (1, channels, 1, 1).
    """
    return any(has_weights(part) for part in module.modules() if not isinstance(part, NORMS))


def has_weights(module: nn.Module) -> bool:
    """Whether a module itself, without its parts, has the weights of a layer."""
    known = any(kind.__module__.startswith("torch.") for kind in type(module).__mro__ if kind is not nn.Module)
    return any(
        isinstance(p, UninitializedParameter) or (p.ndim if known else sum(n > 1 for n in p.shape)) > 1
        for p in module.parameters(recurse=False)
    )


def by_positions(model: nn.Sequential, blocks: Sequence[Sequence[int]]) -> list[list[nn.Module]]:
    """Groups of children by their positions, which must cover the model."""
    children = list(model)
    try:
        positions = [[int(i) for i in block] for block in blocks]
        groups = [[children[i] for i in block] for block in positions]
    except (TypeError, IndexError):
        raise ValueError(
            f"blocks must be modules, names or sequences of positions 0 to {len(children) - 1}, got {blocks}"
        ) from None
    if [i for block in positions for i in block] != list(range(len(children))):
        raise ValueError(f"blocks must cover the model's {len(children)} children once and in order, got {blocks}")
    for k, group in enumerate(groups):
        if not has_parameters(group):
            raise ValueError(f"blocks must have parameters, got none in block {k}")
    return check_ends(groups)


def check_ends(groups: list[list[nn.Module]]) -> list[list[nn.Module]]:
    """Return the groups, or raise a ``ValueError`` if a module ends one block and is inside another."""
    ends = [id(group[-1]) for group in groups]
    for k, group in enumerate(groups):
        if any(id(module) in ends for module in group[:-1]):
            raise ValueError(f"model must not contain the same module twice, inside block {k} and at a block's end")
    return groups


def by_name(model: nn.Module, name: object) -> nn.Module:
    """Module with a dotted name."""
    try:
        if not isinstance(name, str) or not name:
            raise AttributeError
        return model.get_submodule(name)
    except AttributeError:
        names = [other for other, _ in model.named_children()]
        raise ValueError(
            f"blocks must be modules of the model or their dotted names ({', '.join(names)} ...), got {name!r}"
        ) from None


def name_of(model: nn.Module, group: Sequence[nn.Module]) -> str:
    """Dotted name of a block's first module; the empty string for the model itself."""
    return next(name for name, module in unwrap(model).named_modules() if module is group[0])


def parameters_of(model: nn.Module, groups: Sequence[Sequence[nn.Module]]) -> list[list[nn.Parameter]]:
    """Parameters of each block, and last those of the head.

    A module outside all blocks belongs to the next block, in the order in which modules were added to the model:
    embeddings to the first block, a norm after the last block to the head.

    Raises
    ------
    ValueError
        If a block's module is no longer in the model.
    """
    model = unwrap(model)
    check_present(model, groups)
    order = {id(module): i for i, module in enumerate(model.modules())}
    owner: dict[int, int] = {}
    for k, group in enumerate(groups):
        for module in group:
            for part in module.modules():
                owner.setdefault(id(part), k)
    ends = [max(order[id(part)] for module in group for part in module.modules()) for group in groups]
    found: list[list[nn.Parameter]] = [[] for _ in range(len(groups) + 1)]
    seen: set[int] = set()
    for module in model.modules():
        later = [k for k, end in enumerate(ends) if end > order[id(module)]]
        k = owner.get(id(module), min(later, key=ends.__getitem__, default=len(groups)))
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                found[k].append(parameter)
    return found


def check_present(model: nn.Module, groups: Sequence[Sequence[nn.Module]]) -> None:
    """Raise a ``ValueError`` if a module of a block is no longer in the model."""
    present = {id(module) for module in unwrap(model).modules()}
    gone = [type(module).__name__ for group in groups for module in group if id(module) not in present]
    if gone:
        raise ValueError(
            f"blocks must be modules of the model, got {gone[0]} that was replaced after the learner was "
            "created: create the learner again"
        )


def unwrap(model: nn.Module) -> nn.Module:
    """The original of a model that ``torch.compile`` returned; any other model unchanged."""
    return getattr(model, "_orig_mod", model)


def has_parameters(modules: Sequence[nn.Module]) -> bool:
    """Whether a module has parameters."""
    return any(True for module in modules for _ in module.parameters())
