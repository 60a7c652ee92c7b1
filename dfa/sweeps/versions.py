"""The version of the code that computes a point, part of its key.

It is a hash of code without comments, docstrings and layout. For a study of this project, that is its module and every
module of the project imported from there on: a change of documentation, of the command line or of the engine of sweeps
keeps all results, any change of the physics, the calibration or the training computes them again, released or not.
Modules count whole, pictures of `calibration` among them: computing too much is the safe side.

For a study that a user wrote, in a file or in a notebook, it is the class, the functions, classes and values that its
methods use by name, and whole modules that these come from, the user's own and the project's. Of what the study
holds in attributes, functions and classes count; values are not code, and belong into its ``describe()``. Versions of
installed packages are recorded with each point.
"""

import ast
import dis
import functools
import hashlib
import inspect
import pickle
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from dfa.sweeps.imports import bare, code_of, every_module, imported, is_ours, reachable, within
from dfa.sweeps.keys import canonical
from dfa.sweeps.memory import check_memory
from dfa.sweeps.protocol import Study

__all__ = ["code_behind", "model_version", "project_version"]

WRAPPERS = ("__wrapped__", "__func__", "fget", "func")
"""Where decorators, methods, properties and partials keep the function."""
SIMPLE = (bool, int, float, complex, str, bytes, type(None))
"""Values of which many names may have the same object."""
CODE = (ModuleType, type, FunctionType, BuiltinFunctionType, np.ufunc)
"""What counts in a study's attributes."""


def model_version(study: Study) -> str:
    """Version of the code behind a study, 16 hexadecimal digits."""
    return code_behind(study)[0]


def code_behind(study: Study) -> tuple[str, frozenset[str]]:
    """Version of the code behind a study, and all modules that decide what it is in another process.

    Raises
    ------
    ValueError
        If one of them was edited after this process had loaded it.
    """
    kind = type(study)
    texts, roots = [f"{kind.__module__}.{kind.__qualname__}"], {kind.__module__}
    if not is_ours(kind.__module__):
        own = OwnCode(kind.__module__)
        own.read(kind)
        own.read_held(getattr(study, "__dict__", {}), "self")
        texts, roots = sorted(own.texts), own.roots
    files = reachable({*roots, kind.__module__}) | {kind.__module__}  # values may come from any that it imports
    check_memory(files)
    return digest(texts, roots), files


def project_version() -> str:
    """Version of all code of this project, 16 hexadecimal digits."""
    return digest([], every_module())


def digest(texts: list[str], roots: "set[str] | frozenset[str]") -> str:
    """Hash of texts and of modules with all that they import."""
    modules = [f"{name} {code_of(name)}" for name in sorted(reachable(roots))]
    return hashlib.sha256("\n".join([*texts, *modules]).encode()).hexdigest()[:16]


class OwnCode:
    """What a user's class uses of the module, script or notebook that it is in, and the modules that it needs besides.

    Parameters
    ----------
    module : str
        Name of the module; ``__main__`` for scripts and notebooks.
    """

    def __init__(self, module: str) -> None:
        self.module = module
        self.texts: set[str] = set()
        self.roots: set[str] = set()
        self.seen: dict[int, Any] = {}
        self.held: dict[int, Any] = {}

    def read(self, item: Any, name: str = "") -> None:
        """Take in an object and all that it uses; `name` is what it is called there."""
        if name and isinstance(item, (type, FunctionType)):
            self.texts.add(f"{name} is {item.__qualname__}")  # it may be imported by another name
        if id(item) in self.seen and not isinstance(item, SIMPLE):
            return
        self.seen[id(item)] = item  # held, so that no other object gets its id
        if isinstance(item, ModuleType):
            self.roots.update(within(item.__name__))
        elif isinstance(item, type):
            self.read_class(item)
        elif isinstance(item, FunctionType):
            self.read_function(item, name)
        elif isinstance(item, functools.partial):
            self.read(item.func, f"{name}.func")
            self.read([*item.args, item.keywords], f"{name}.args")
        elif not (inner := wrapped(item)):
            self.read_value(item, name)
        else:
            for function in inner:
                self.read(function, name)

    def read_held(self, item: Any, name: str) -> None:
        """Take in the code that a study holds, in lists and tables as well, and the classes of its values."""
        if isinstance(item, SIMPLE) or id(item) in self.held:
            return
        if isinstance(item, CODE) or wrapped(item):
            self.read(item, name)
        else:
            self.held[id(item)] = item
            self.read(type(item))
            for key, inner in items(item):
                self.read_held(inner, f"{name}[{key}]")

    def read_class(self, item: type) -> None:
        """Take in a class: its bases, its methods and the values of its attributes."""
        if item.__module__ != self.module:
            self.roots.add(item.__module__)
            return
        self.texts.add(f"class {item.__qualname__}")
        for base in item.__bases__:
            self.read(base)
        for name, member in vars(item).items():
            if isinstance(member, FunctionType) or wrapped(member) or not name.startswith("__"):
                self.read(member, name)

    def read_function(self, item: FunctionType, name: str) -> None:
        """Take in a function: its text, or its instructions where there is none, and what it uses by name."""
        for function in wrapped(item):  # it may be another module's decorator around one of this module
            self.read(function)
        if item.__module__ not in (None, self.module):
            self.roots.add(item.__module__)
            return
        if not self.take(item) or item.__name__ == "<lambda>":  # a line may hold many
            self.texts.add(f"{name} is {instructions(item.__code__)}")
        for used in loaded(item.__code__):
            if used in item.__globals__:
                self.read(item.__globals__[used], used)
        for free, cell in zip(item.__code__.co_freevars, item.__closure__ or (), strict=True):
            with suppress(ValueError):  # nothing is in it yet
                self.read(cell.cell_contents, f"{name}.{free}")
        for default in (*(item.__defaults__ or ()), *(item.__kwdefaults__ or {}).values()):
            self.read(default, item.__name__)

    def take(self, item: FunctionType) -> bool:
        """Take in the text of a function and what is imported there; whether there is one."""
        try:
            code = ast.parse(textwrap.dedent(inspect.getsource(item)))
        except (OSError, TypeError, SyntaxError):  # typed into an interpreter, or a part of a line
            return False
        self.texts.add(bare(code))
        self.roots.update(imported(code, self.module))
        return True

    def read_value(self, item: Any, name: str) -> None:
        """Take in a value, what holds functions one by one; of what cannot be written down, its class alone."""
        self.read(type(item))
        if isinstance(item, (list, tuple, set, frozenset, Mapping)) and not is_plain(item):
            self.texts.add(f"{name} has {len(item)}")
            for key, inner in items(item):
                self.read(inner, f"{name}[{key}]")
            return
        with suppress(Exception):  # pickle raises many
            self.texts.add(f"{name} = {written(item)}")


def items(value: Any) -> list[tuple[Any, Any]]:
    """Return what a list, set or table holds, with its places or keys; nothing for other values."""
    if isinstance(value, Mapping):
        return [(repr(key) if isinstance(key, SIMPLE) else place, v) for place, (key, v) in enumerate(value.items())]
    if isinstance(value, (set, frozenset)):
        return [("", inner) for inner in value]
    return list(enumerate(value)) if isinstance(value, (list, tuple)) else []


def is_plain(value: Any) -> bool:
    """Whether a value can be written as text."""
    try:
        canonical(value, "value")
    except (ValueError, RecursionError):
        return False
    return True


def wrapped(item: Any) -> list[Any]:
    """Return the functions that a decorator, method, property or partial holds."""
    names = {*dir(type(item)), *getattr(item, "__dict__", ())}
    return [getattr(item, name) for name in WRAPPERS if name in names]


def written(value: Any) -> str:
    """Return a value as text, the same in each process."""
    if isinstance(value, frozenset):  # among a function's constants
        return str(sorted(map(repr, value)))
    if not isinstance(value, np.ndarray):
        with suppress(ValueError):
            return canonical(value, "value")
    return hashlib.sha256(pickle.dumps(value)).hexdigest()


def instructions(code: CodeType) -> str:
    """Return what a function does, where its text is not known."""
    constants = [written(value) for value in code.co_consts if not isinstance(value, CodeType)]
    inner = [instructions(value) for value in code.co_consts if isinstance(value, CodeType)]
    return "\n".join([code.co_code.hex(), *constants, *code.co_names, *inner])


def loaded(code: CodeType) -> Iterator[str]:
    """Names of its module that a function uses, also in the functions within it."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for value in code.co_consts:
        if isinstance(value, CodeType):
            yield from loaded(value)
