"""The structure of the packages, read from syntax trees: one direction of imports, no circles, no hidden knowledge."""

import ast
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("photonics", "calibration", "dfa")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
MAX_FILES_IN_FOLDER = 16
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 50
"""Without the signature and the docstring."""

MAY_IMPORT = {
    "photonics": {"photonics"},
    "calibration": {"photonics", "calibration"},
    "dfa": {"photonics", "calibration", "dfa"},
}
NO_TORCH = ("photonics", "calibration")
HIDDEN = {"block", "effective_matrix", "propagate", "adjoint", "mean_photons", "_lit", "_panels", "_matrix"}
"""Names that give the transmission matrix away: calibration knows the patterns it sent and the frames it got."""
ARRAY = re.compile(r"(NDArray\[.*\]|\w*Array|np\.ndarray|Tensor)( \| None)?")
"""Annotations of arrays."""
OWN_STATE = {"default_rng", "Generator", "SeedSequence", "Philox", "PCG64", "BitGenerator"}
"""Names of `numpy.random` that do not touch its global state."""


@cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def package(path):
    return path.relative_to(ROOT).parts[0]


def module(path):
    """Dotted name of a file's module; a package's is that of its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in FILES}


def names_of(path, node, here):
    """Origin and names of an import statement, in full."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = here[: len(here) + 1 - node.level] if node.level else []
        origin = ".".join([*base, *([node.module] if node.module else [])])
        yield origin
        yield from (f"{origin}.{alias.name}" for alias in node.names)


def imported_names(path):
    """Every name that a file imports, anywhere in it, with its full path."""
    here = module(path).split(".") if path.stem == "__init__" else module(path).split(".")[:-1]
    for node in ast.walk(tree(path)):
        yield from names_of(path, node, here)


@cache
def fronts():
    """Modules of the packages' lazy names, from their stubs: ``photonics.OPU`` is in ``photonics.opu``."""
    homes = {}
    for stub in sorted(stub for name in PACKAGES for stub in (ROOT / name).rglob("__init__.pyi")):
        for name in imported_names(stub):
            home, _, last = name.rpartition(".")
            homes[f"{module(stub)}.{last}"] = name if name in MODULES else home
    return {name: home for name, home in homes.items() if home in MODULES and home != name}


def imported_modules(path):
    """Modules of this project that a file imports, inside functions and for type checkers as well.

    A package's `__init__` counts where a name is taken from the package itself, not where a module of it is.
    """
    names = set(imported_names(path))
    lazy = {fronts()[name] for name in names & fronts().keys()}
    found = {name for name in names & MODULES.keys() if name != module(path)} | lazy
    prefixes = {".".join(name.split(".")[:n]) for name in found for n in range(1, name.count(".") + 1)}
    taken = {name.rpartition(".")[0] for name in names if name not in MODULES and name not in fronts()}
    return {name for name in found if name not in prefixes or name in taken}


def folder(name):
    """The folder or single file, directly in a package, that a module belongs to."""
    return ".".join(name.split(".")[:2])


def circles(graph):
    """Groups of nodes that import each other, by Tarjan's algorithm."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def dotted(node):
    """``a.b.c`` of a chain of attributes, or an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return base and f"{base}.{node.attr}"
    return ""


def attributes(path):
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)]


def offenders(check, paths=FILES):
    """Results of `check` by file, without files that pass."""
    found = {str(path.relative_to(ROOT)): check(path) for path in paths}
    return {path: what for path, what in found.items() if what}


def test_there_are_files_to_look_at():
    assert {package(path) for path in FILES} == set(PACKAGES)


def test_circles_are_found():
    """The search itself. Catches: a test of circles that cannot fail."""
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}}) == []


def test_packages_are_imported_one_way():
    """``dfa -> calibration -> photonics``, and nothing imports the tests. Catches: an import the other way."""
    ours = {*PACKAGES, "tests", "benchmarks"}

    def wrong(path):
        return ({name.split(".")[0] for name in imported_names(path)} & ours) - MAY_IMPORT[package(path)]

    assert not offenders(wrong)


def test_no_module_imports_itself_in_a_circle():
    """Catches: two files that only work together, and an import hidden in a function to make them work."""
    assert circles({name: imported_modules(path) for name, path in MODULES.items()}) == []


def test_no_folder_imports_a_higher_one():
    """Folders of a package have an order. Catches: a folder that imports one that builds on it."""
    graph = {}
    for name, path in MODULES.items():
        if name.count("."):
            same = {folder(other) for other in imported_modules(path) if other.count(".")}
            graph.setdefault(folder(name), set()).update(same - {folder(name)})
    assert circles(graph) == []


def test_no_folder_has_too_many_files():
    """Catches: folders with too many files."""
    counts = Counter(path.parent.relative_to(ROOT) for path in FILES)
    assert {str(place): count for place, count in counts.items() if count > MAX_FILES_IN_FOLDER} == {}


def test_only_dfa_imports_torch():
    """Catches: torch in the simulator or the calibration."""
    without = [path for path in FILES if package(path) in NO_TORCH]
    assert not offenders(lambda path: "torch" in {name.split(".")[0] for name in imported_names(path)}, without)


def test_sweeps_do_not_import_training():
    """Catches: a worker of a sweep of the device that loads torch."""
    sweeps = [path for path in FILES if module(path).startswith("dfa.sweeps")]
    assert sweeps
    training = {name for name in MODULES if name.startswith("dfa.") and not name.startswith("dfa.sweeps")}
    assert not offenders(lambda path: imported_modules(path) & training, sweeps)


def test_calibration_does_not_read_the_medium():
    """No entry of a medium is read: not as an attribute, not by its name in a string. Catches: a peek at the truth."""

    def peeks(path):
        words = {node.value for node in ast.walk(tree(path)) if isinstance(node, ast.Constant)}
        return ({node.attr for node in attributes(path)} | {w for w in words if isinstance(w, str)}) & HIDDEN

    assert not offenders(peeks, [path for path in FILES if package(path) == "calibration"])


def test_nothing_prints():
    """Catches: a ``print`` left in; the command line writes through its own console."""

    def prints(path):
        calls = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
        return [call.lineno for call in calls if dotted(call.func) == "print"]

    assert not offenders(prints)


def test_no_global_randomness():
    """Nothing touches a global state, and the simulator draws from Philox alone. Catches: ``np.random.rand``."""

    def drawn(path):
        used = {dotted(node) for node in attributes(path)} | set(imported_names(path))
        used = {f"numpy.{name[3:]}" if name.startswith("np.") else name for name in used}
        names = {name.split(".")[2] for name in used if name.startswith("numpy.random.")}
        allowed = set() if package(path) == "photonics" else OWN_STATE
        return (names - allowed) | ({"random"} & used)

    assert not offenders(drawn)


def test_a_file_reads_in_one_sitting():
    assert not offenders(lambda path: len(path.read_text(encoding="utf-8").splitlines()) > MAX_FILE_LINES)


def test_a_function_fits_a_screen():
    """Catches: one function that does everything."""

    def long(path):
        functions = [n for n in ast.walk(tree(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        bodies = {f: f.body[1:] if ast.get_docstring(f) and f.body[1:] else f.body for f in functions}
        sizes = {f.name: f.end_lineno - body[0].lineno + 1 for f, body in bodies.items()}
        return {name: size for name, size in sizes.items() if size > MAX_FUNCTION_LINES}

    assert not offenders(long)


def test_no_dataclass_prints_its_arrays():
    """Shapes in place of values, by `photonics.arrays.Shapes`. Catches: ``print(focus)`` that fills a screen."""

    def printed(path):
        for made in (node for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)):
            how = " ".join(ast.unparse(one) for one in made.decorator_list)
            own = any(isinstance(one, ast.FunctionDef) and one.name == "__repr__" for one in made.body)
            if own or not re.match(r"dataclass|component", how) or "repr=False" in how:
                continue
            for one in (field for field in made.body if isinstance(field, ast.AnnAssign)):
                hidden = one.value is not None and "repr=False" in ast.unparse(one.value)
                if ARRAY.fullmatch(ast.unparse(one.annotation)) and not hidden:
                    yield f"{made.name}.{ast.unparse(one.target)}"

    assert not offenders(lambda path: list(printed(path)))


@pytest.mark.parametrize("name", ["photonics", "calibration", "dfa.cli.main"])
def test_light_imports(name):
    """Neither the simulator nor the command line's ``--help`` waits for torch. Catches: an eager import."""
    code = f"import {name}, sys; sys.exit('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr or f"import {name} imports torch"
