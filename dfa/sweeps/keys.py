"""The content of a point's key: its settings, its study, and hashes of the code that computes it."""

import ast
import functools
import hashlib
import inspect
import json
import linecache
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, FunctionType
from typing import TypeAlias

import numpy as np

from dfa.sweeps.protocol import Settings, Study

__all__ = ["Code", "Plain", "canonical_json", "code_of", "point_key", "to_plain"]

PACKAGES = ("photonics", "calibration", "dfa")
NOT_HASHED = {*PACKAGES, *sys.stdlib_module_names}
"""Modules whose classes are not hashed as bases of a study's class: the packages are hashed, Python has a version."""

Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[str, Plain] | None"
"""Values that JSON can represent."""


@dataclass(frozen=True)
class Code:
    """Hashes of the code that computes a point."""

    packages: str
    """Hash of the files of photonics, calibration and dfa."""
    study: str
    """Hash of the source of the study's class and of its bases."""


def to_plain(value: object, name: str) -> Plain:
    """Return `value` in the types of JSON: tuples and arrays as lists, numpy's numbers as Python's.

    Raises
    ------
    ValueError
        If JSON cannot represent the value. The message uses `name`.
    """
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: to_plain(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item, name) for item in value]
    raise ValueError(f"{name} must consist of finite numbers, strings, booleans, None, lists and tables, got {value!r}")


def canonical_json(value: object, name: str) -> str:
    """Return `value` as JSON text that depends on its content only."""
    return json.dumps(to_plain(value, name), sort_keys=True, separators=(",", ":"), allow_nan=False)


def point_key(study: str, settings: Settings, seed: int, model: str) -> str:
    """Return the key of a point, hexadecimal; `study` is the canonical JSON of the study's description."""
    text = canonical_json([study, dict(settings), seed, model], "settings")
    return hashlib.sha256(text.encode()).hexdigest()


def code_of(study: Study) -> Code:
    """Return the hashes of the code behind a study; its attribute ``version``, if it has one, counts as code.

    Raises
    ------
    ValueError
        If there is no source of the study's class and the study has no ``version``.
    """
    version = getattr(study, "version", None)
    texts = [] if version is None else [canonical_json(version, "version")]
    for kind in type(study).__mro__:
        if kind.__module__.partition(".")[0] not in NOT_HASHED:
            source = class_source(kind, functions_of(kind))
            if source is None and version is None:
                raise ValueError(
                    f"study must have an attribute version, which changes with its code, because Python has no source "
                    f"of its class {kind.__qualname__}"
                )
            texts.append(f"{kind.__module__}.{kind.__qualname__} {source}")
    return Code(PACKAGES_HASH, hashlib.sha256("\n".join(texts).encode()).hexdigest())


def hash_packages() -> str:
    """Return a hash of every Python file of photonics, calibration and dfa."""
    found = hashlib.sha256()
    for package in PACKAGES:
        spec = find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            for path in sorted(Path(folder).rglob("*.py")):
                found.update(f"{package}/{path.relative_to(folder).as_posix()}\n".encode() + path.read_bytes())
    return found.hexdigest()


PACKAGES_HASH = hash_packages()
"""Computed once, when this process loads the module, so that it is the hash of the code that runs."""


def functions_of(kind: type) -> tuple[CodeType, ...]:
    """Return the code of the functions that a class defines."""
    return tuple(member.__code__ for member in vars(kind).values() if isinstance(member, FunctionType))


@functools.cache
def class_source(kind: type, functions: tuple[CodeType, ...]) -> str | None:
    """Return the source text of a class, or None if there is none.

    The text is read once for each class and each version of its functions. The file of a class that is already loaded
    may be edited; the text stays that of the code in memory until the class is loaded again.
    """
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        pass
    # Python finds no file for the class of a notebook, but it finds the cell of each function.
    for code in functions:
        lines = linecache.getlines(code.co_filename)
        for node in ast.walk(ast.parse("".join(lines))):
            if isinstance(node, ast.ClassDef) and node.name == kind.__name__:
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                if first <= code.co_firstlineno <= (node.end_lineno or 0):
                    return "".join(lines[first - 1 : node.end_lineno])
    return None
