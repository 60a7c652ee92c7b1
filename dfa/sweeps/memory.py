"""The code that this process holds in memory, which is not that of the files any more once these are edited.

What a module was loaded from is not kept by Python: it is what the file says when this process first looks at a module
that is loaded, and again when it is reloaded. Sweeps look before and after their points.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dfa.sweeps.imports import hashed, source

__all__ = ["check_memory", "in_memory"]

LOADED: dict[str, tuple[Any, str]] = {}
"""Of each loaded module, its spec, which is a new one after a reload, and the hash of its code."""


def in_memory(modules: Iterable[str]) -> dict[str, str]:
    """Hash of the code of modules as they are loaded, or as they would be; those that cannot be found are left out."""
    found = in_files(modules)
    for name, code in found.items():
        if name not in sys.modules:
            LOADED.pop(name, None)
            continue
        spec = getattr(sys.modules[name], "__spec__", None)
        if name not in LOADED or LOADED[name][0] is not spec or is_autoreloaded(name):
            LOADED[name] = (spec, code)
    return {name: LOADED.get(name, (None, code))[1] for name, code in found.items()}


def in_files(modules: Iterable[str]) -> dict[str, str]:
    """Hash of the code of modules as their files have it; those without a file are left out."""
    paths = {name: file_of(name) for name in modules}
    return {name: hashed(path, path.stat().st_mtime_ns) for name, path in paths.items() if path is not None}


def file_of(module: str) -> Path | None:
    """File of a module or of the script that runs; None for a notebook."""
    if module != "__main__":
        return source(module)
    path = getattr(sys.modules["__main__"], "__file__", None) or ""
    return Path(path) if path.endswith(".py") and Path(path).is_file() else None


def check_memory(modules: Iterable[str]) -> None:
    """Raise a ``ValueError`` if the file of a module was edited after the module was loaded."""
    loaded = in_memory(modules)
    if old := [name for name, code in in_files(loaded).items() if code != loaded[name]]:
        raise ValueError(
            f"code must be that of its files, but {', '.join(sorted(old))} changed after this process had loaded it: "
            "reload the module (importlib.reload) and make the study again, or restart Python"
        )


def is_autoreloaded(name: str) -> bool:
    """Whether IPython's autoreload, which may patch a module without a new spec, has seen the file as it is."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    magics = shell.magics_manager.registry.get("AutoreloadMagics") if shell is not None else None
    reloader, path = getattr(magics, "_reloader", None), file_of(name)
    if path is None or not getattr(reloader, "enabled", False):
        return False
    return reloader.modules_mtimes.get(name) == path.stat().st_mtime and str(path) not in reloader.failed
