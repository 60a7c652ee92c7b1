"""What makes two points the same: the key of a point, and the version of the code that computes it.

The key is the SHA-256 of canonical JSON of the study's description, the settings, the seed and the *model version*. The
model version is a hash of the code that the study can reach by imports within this project, without comments,
docstrings and layout. So a change of documentation, of the command line or of this package keeps all results, and any
change of the physics, the calibration or the training computes them again, released or not. Packages count whole where
their ``__init__`` imports them whole, pictures of `calibration` among them: computing too much is the safe side.
"""

import ast
import functools
import hashlib
import inspect
import json
import math
import textwrap
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from dfa.robustness.protocol import Study

__all__ = ["canonical", "model_version", "plain", "point_key"]

PACKAGES = ("photonics", "calibration", "dfa")


def plain(value: Any, name: str) -> Any:
    """`value` in types that JSON has, tuples and arrays as lists, numpy's numbers as Python's, or a ``ValueError``."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: plain(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, name) for item in value]
    raise ValueError(f"{name} must be made of finite numbers, strings, booleans, None, lists and tables, got {value!r}")


def canonical(value: Any, name: str) -> str:
    """`value` as JSON, the same for the same content."""
    return json.dumps(plain(value, name), sort_keys=True, separators=(",", ":"), allow_nan=False)


def point_key(study: str, settings: Mapping[str, Any], seed: int, model: str) -> str:
    """Key of a point, hexadecimal; `study` is the canonical JSON of its description."""
    text = canonical([study, dict(settings), seed, model], "settings")
    return hashlib.sha256(text.encode()).hexdigest()


def model_version(study: Study) -> str:
    """Version of the code behind a study, 16 hexadecimal digits.

    For a study of this project, the code is its module and every module of the project imported from there on. For one
    that a user defines, it is its class and the modules of the project that its file imports, or all of them if
    there is no file, as in a notebook; what else it uses belongs into ``describe()``.
    """
    kind = type(study)
    if kind.__module__.split(".")[0] in PACKAGES:
        return digest("", reachable(kind.__module__))
    try:
        own = bare(ast.parse(textwrap.dedent(inspect.getsource(kind))))
    except (OSError, TypeError, SyntaxError):
        own = ""  # typed into an interpreter: there is no text to look at
    file = getattr(inspect.getmodule(kind), "__file__", None)
    if kind.__module__ == "__main__" or file is None:
        return digest(own, frozenset(every_module()))
    roots = frozenset(imported(ast.parse(Path(file).read_text(encoding="utf-8")), kind.__module__))
    return digest(own, frozenset().union(*(reachable(root) for root in roots)))


@functools.cache
def digest(own: str, modules: frozenset[str]) -> str:
    """Hash of a class and of modules, in order of their names."""
    text = [own, *(f"{name}\n{bare(tree(name))}" for name in sorted(modules))]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()[:16]


def bare(code: ast.AST) -> str:
    """Code without comments, docstrings and layout; names and numbers stay."""
    code = ast.parse(ast.unparse(code))  # a copy
    for node in ast.walk(code):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not is_text(line)] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(code)


def is_text(line: ast.stmt) -> bool:
    """Whether a statement is a string alone, which is how classes, functions and attributes are documented."""
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)


@functools.cache
def reachable(module: str) -> frozenset[str]:
    """A module of the project and all that it imports from the project, directly or not, with their packages."""
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name in found or source(name) is None:
            continue
        found.add(name)
        waiting += [name.rpartition(".")[0], *imported(tree(name), name)]
    return frozenset(found)


def imported(code: ast.Module, module: str) -> Iterator[str]:
    """Every module of the project that a file imports when it runs."""
    for node in running(code):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if is_ours(alias.name))
        elif isinstance(node, ast.ImportFrom):
            base = origin(node, module)
            if is_ours(base):
                yield base
                yield from (home(base, alias.name) for alias in node.names)


def running(code: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(code):
        if not is_type_checking(node):
            yield node
            yield from running(node)


def is_type_checking(node: ast.AST) -> bool:
    """Whether a node is what only the type checker sees."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def origin(node: ast.ImportFrom, module: str) -> str:
    """Full name of the module that names are taken from."""
    if not node.level:
        return node.module or ""
    here = module.split(".")
    path = source(module)
    parents = here if path is not None and path.name == "__init__.py" else here[:-1]
    base = parents[: len(parents) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def home(package: str, name: str) -> str:
    """Module that a name of a package is or comes from: packages import lazily, and tell type checkers from where."""
    if source(f"{package}.{name}") is not None:
        return f"{package}.{name}"
    for node in ast.walk(tree(package)) if source(package) is not None else ():
        if isinstance(node, ast.ImportFrom) and name in {alias.asname or alias.name for alias in node.names}:
            return origin(node, package)
    return package


def is_ours(module: str) -> bool:
    """Whether a module is one of this project."""
    return module.split(".")[0] in PACKAGES


def every_module() -> Iterator[str]:
    """All modules of the project."""
    for package in PACKAGES:
        root = source(package)
        for path in sorted(root.parent.rglob("*.py")) if root else ():
            parts = path.relative_to(root.parent.parent).with_suffix("").parts  # type: ignore[union-attr]
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def tree(module: str) -> ast.Module:
    """Syntax tree of a module that has a source."""
    path = source(module)
    assert path is not None
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def source(module: str) -> Path | None:
    """File of a module of the project; None if there is no such module."""
    package, _, name = module.rpartition(".")
    if not package:
        spec = find_spec(module) if is_ours(module) else None
        return Path(spec.origin) if spec and spec.origin else None
    root = source(package)
    if root is None or root.name != "__init__.py":
        return None
    for path in (root.parent / f"{name}.py", root.parent / name / "__init__.py"):
        if path.is_file():
            return path
    return None
