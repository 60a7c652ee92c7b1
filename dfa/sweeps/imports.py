"""The modules that a module imports, and what their code says: read from their files, never run.

Modules of this project and the user's own are followed; the standard library and installed packages are not.
"""

import ast
import functools
import hashlib
import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

__all__ = ["PACKAGES", "bare", "code_of", "every_module", "imported", "is_ours", "reachable", "within"]

PACKAGES = ("photonics", "calibration", "dfa")
INSTALLED = {"site-packages", "dist-packages"}


def reachable(roots: Iterable[str]) -> frozenset[str]:
    """Modules and all that they import, directly or not, with the packages that these are in."""
    found, waiting = set(), list(roots)
    while waiting:
        name = waiting.pop()
        if name in found or (path := source(name)) is None:
            continue
        found.add(name)
        waiting += [name.rpartition(".")[0], *imports(name, path, path.stat().st_mtime_ns)]
    return frozenset(found)


def code_of(module: str) -> str:
    """Hash of the code of a module that `reachable` found."""
    path = source(module)
    assert path is not None
    return hashed(path, path.stat().st_mtime_ns)


@functools.cache
def hashed(path: Path, stamp: int) -> str:
    """Hash of the code of a file as it is at a time."""
    return hashlib.sha256(bare(tree(path, stamp)).encode()).hexdigest()


@functools.cache
def imports(module: str, path: Path, stamp: int) -> tuple[str, ...]:
    """What the file of a module imports, as it is at a time."""
    return tuple(dict.fromkeys(imported(tree(path, stamp), module)))


@functools.lru_cache(maxsize=1)
def tree(path: Path, stamp: int) -> ast.Module:
    """Syntax tree of a file as it is at a time."""
    return ast.parse(path.read_text(encoding="utf-8"))


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


def imported(code: ast.AST, module: str) -> Iterator[str]:
    """Every module that code in a module imports when it runs, or names in a string to import it when it is needed."""
    for node in running(code):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from within(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = origin(node, module)
            if is_followed(base):
                yield base
                for alias in node.names:
                    yield from within(home(base, alias.name))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and is_ours(node.value):
            yield node.value


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
    path = source(package)
    if path is None or path.name != "__init__.py":
        return package
    for node in ast.walk(tree(path, path.stat().st_mtime_ns)):
        if isinstance(node, ast.ImportFrom) and name in {alias.asname or alias.name for alias in node.names}:
            return origin(node, package)
    return package


def within(module: str) -> list[str]:
    """A module; if it is a package, also all that is in it, since any of it may be used as its attribute."""
    path = source(module)
    if path is None:
        return []
    return [module, *inside(module, path)]


def inside(package: str, path: Path) -> Iterator[str]:
    """Modules in a package; none if it is a module."""
    if path.name == "__init__.py":
        for file in sorted(path.parent.rglob("*.py")):
            parts = file.relative_to(path.parent).with_suffix("").parts
            yield ".".join([package, *(parts[:-1] if parts[-1] == "__init__" else parts)])


def every_module() -> frozenset[str]:
    """All modules of the project."""
    return frozenset(name for package in PACKAGES for name in within(package))


def is_ours(module: str) -> bool:
    """Whether a module is one of this project."""
    return module.split(".")[0] in PACKAGES


def is_followed(module: str) -> bool:
    """Whether a module is one of this project or the user's own."""
    top = module.split(".")[0]
    path = location(top, tuple(sys.path))
    return path is not None and (is_ours(top) or not INSTALLED.intersection(path.parts))


@functools.cache
def location(top: str, path: tuple[str, ...]) -> Path | None:
    """File or folder of a module or package on a path; None if it has none or is of the standard library."""
    if top in sys.stdlib_module_names or top in ("", "__main__"):
        return None
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    places = [spec.origin] if spec.has_location else [*(spec.submodule_search_locations or ())]
    return Path(places[0]) if places and places[0] else None


def source(module: str) -> Path | None:
    """File of a module of the project or of the user's own; None if there is no such module."""
    if not is_followed(module):
        return None
    package, _, name = module.rpartition(".")
    if not package:
        path = location(module, tuple(sys.path))
        return path if path is not None and path.suffix == ".py" else None
    root = source(package)
    if root is None:  # a folder without __init__.py: what is imported already can be found
        loaded = getattr(sys.modules.get(module), "__file__", None)
        return Path(loaded) if loaded else None
    if root.name != "__init__.py":
        return None
    for path in (root.parent / f"{name}.py", root.parent / name / "__init__.py"):
        if path.is_file():
            return path
    return None
