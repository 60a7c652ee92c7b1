"""The version of the code that computes a point, part of its key.

It is a hash of code without comments, docstrings and layout. For a study of this project, that is its module and every
module of the project imported from there on: a change of documentation, of the command line or of the engine of sweeps
keeps all results, any change of the physics, the calibration or the training computes them again, released or not.
Modules count whole, pictures of `calibration` among them: computing too much is the safe side.

For a study that a user wrote, in a file or in a notebook, it is the class, the functions, classes and values that its
methods use by name, and whole modules that these come from, the user's own and the project's. What the study holds in
attributes is not code: it belongs into its ``describe()``. Versions of installed packages are recorded with each point.
"""

import ast
import dis
import hashlib
import inspect
import pickle
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from dfa.robustness.imports import bare, code_of, every_module, imported, is_ours, reachable, within
from dfa.robustness.keys import canonical
from dfa.robustness.memory import check_memory
from dfa.robustness.protocol import Study

__all__ = ["code_behind", "model_version", "project_version"]

WRAPPERS = ("__wrapped__", "__func__", "fget", "func")
"""Where decorators, methods, properties and partials keep the function."""


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

    def read(self, item: Any, name: str = "") -> None:
        """Take in an object and all that it uses; `name` is what it is called there."""
        if id(item) in self.seen:
            return
        self.seen[id(item)] = item  # held, so that no other object gets its id
        if isinstance(item, ModuleType):
            self.roots.update(within(item.__name__))
        elif isinstance(item, type):
            self.read_class(item)
        elif isinstance(item, FunctionType):
            self.read_function(item)
        elif not (inner := wrapped(item)):
            self.read_value(item, name)
        else:
            for function in inner:
                self.read(function, name)

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

    def read_function(self, item: FunctionType) -> None:
        """Take in a function: its text, or its instructions where there is none, and what it uses by name."""
        for function in wrapped(item):  # it may be another module's decorator around one of this module
            self.read(function)
        if item.__module__ not in (None, self.module):
            self.roots.add(item.__module__)
            return
        if not self.take(item):
            self.texts.add(instructions(item.__code__))
        for name in loaded(item.__code__):
            if name in item.__globals__:
                self.read(item.__globals__[name], name)
        for name, cell in zip(item.__code__.co_freevars, item.__closure__ or (), strict=True):
            with suppress(ValueError):  # nothing is in it yet
                self.read(cell.cell_contents, name)
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
        """Take in a value; of what cannot be written down, its class alone."""
        self.read(type(item))
        with suppress(Exception):  # pickle raises many
            self.texts.add(f"{name} = {written(item)}")


def wrapped(item: Any) -> list[Any]:
    """Return the functions that a decorator, method, property or partial holds."""
    names = {*dir(type(item)), *getattr(item, "__dict__", ())}
    return [getattr(item, name) for name in WRAPPERS if name in names]


def written(value: Any) -> str:
    """Return a value as text, the same in each process."""
    if isinstance(value, (set, frozenset)):
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
