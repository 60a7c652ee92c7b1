"""``opu doctor``: what is installed, what is missing, and the line that mends it."""

import os
import platform
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

import opu_sim
from dfa.cli.common import Json, print_json, print_table
from dfa.cli.installation import USED, describe_version, requirements
from opu_sim import checkout, install_line

__all__ = ["doctor"]


@dataclass(frozen=True)
class Finding:
    """One line of the table."""

    what: str
    state: str
    """"ok", "missing" (something optional) or "broken"."""
    found: str
    remedy: str = ""


def doctor(as_json: Json = False) -> None:
    """Show versions, extras, cores, memory, GPU and data, what is missing, and the line that mends it.

    The exit code is 0 if the simulator works, also without extras, GPU and data; 1 if something is broken.
    """
    findings = [*installation(), *extras(), *machine(), gpu(), data(), compiled_code()]
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        print_table(["", "state", "found"], [[one.what, one.state, one.found] for one in findings])
        for one in findings:
            if one.remedy:
                typer.echo(f"{one.what}: {one.remedy}")
    raise typer.Exit(any(one.state == "broken" for one in findings))


def installation() -> Iterator[Finding]:
    """The distribution, its packages, and what it requires."""
    place = f"checkout {checkout()}" if checkout() else str(opu_sim.HOME)
    yield Finding("python", "ok", f"{platform.python_version()} in {sys.prefix}")
    if not requirements():
        yield Finding("opu-sim", "missing", f"{describe_version()}, {place}", install_line())
    elif (newer := checkout_version()) not in (None, opu_sim.__version__):
        yield Finding("opu-sim", "missing", f"{describe_version()}, but the {place} is {newer}", install_line())
    else:
        yield Finding("opu-sim", "ok", f"{describe_version()}, {place}")
    for name, problem in opu_sim.collisions().items():
        yield Finding(f"package {name}", "broken", problem, opu_sim.REMEDY)
    base = [needed for needed in requirements() if not needed.extra]
    wrong = [needed for needed in base if not needed.fits]
    if wrong:
        text = ", ".join(f"{one.name} {one.found or 'missing'} (needs {one.allowed})" for one in wrong)
        yield Finding("requirements", "broken", text, install_line())
    elif base:
        shown = ("numpy", "scipy", "numba", "matplotlib", "h5py")
        yield Finding("requirements", "ok", ", ".join(f"{one.name} {one.found}" for one in base if one.name in shown))


def checkout_version() -> str | None:
    """Version of the checkout, not always the one that was installed from it; None without a checkout."""
    folder = checkout()
    if folder is None:
        return None
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def extras() -> Iterator[Finding]:
    """The optional parts."""
    for extra, use in USED.items():
        needed = [one for one in requirements() if one.extra == extra]
        wrong = [one for one in needed if not one.fits]
        if not needed:
            continue
        if wrong:
            text = ", ".join(f"{one.name} {one.found or 'missing'}" for one in wrong)
            yield Finding(f"extra {extra}", "missing", f"for {use}: {text}", install_line(extra))
        else:
            yield Finding(f"extra {extra}", "ok", ", ".join(f"{one.name} {one.found}" for one in needed))


def machine() -> Iterator[Finding]:
    """Cores and memory."""
    import psutil

    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    limit = os.environ.get("NUMBA_NUM_THREADS")
    threads = f", NUMBA_NUM_THREADS={limit}" if limit else ""
    yield Finding("cores", "ok", f"{cores} ({platform.machine()}){threads}")
    yield Finding("memory", "ok", f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free")


def gpu() -> Finding:
    """The GPU that ``opu.to("cuda")`` would use."""
    from photonics.backend import find_backend

    try:
        return Finding("GPU", "ok", str(find_backend("cuda").device))
    except ValueError as error:
        remedy = f"{install_line('cuda13')} (or cuda12, as nvidia-smi says), for an NVIDIA GPU"
        return Finding("GPU", "missing", str(error), remedy)


def data() -> Finding:
    """The folder of the data sets; digits are part of scikit-learn."""
    root = os.environ.get("OPU_DATA")
    if not root:
        return Finding("data", "ok", "digits; the other data sets are downloaded when they are first used")
    folders = sorted(path.name for path in Path(root).iterdir() if path.is_dir()) if Path(root).is_dir() else []
    if folders:
        return Finding("data", "ok", f"digits; OPU_DATA={root} with {', '.join(folders)}")
    return Finding("data", "missing", f"OPU_DATA={root} has no data", "set OPU_DATA to their folder, or unset it")


def compiled_code() -> Finding:
    """Whether numba can keep compiled code, and has some of an earlier run."""
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        from photonics.kernels import cpu  # compiles nothing yet, but looks for a folder
    if caught:
        return Finding("compiled code", "missing", str(caught[0].message), "set NUMBA_CACHE_DIR to a writable folder")
    folder = Path(getattr(cpu.expose_rows, "stats").cache_path)  # noqa: B009 (a name of numba's functions)
    if any(folder.glob("cpu.expose_rows-*.nbc")):
        return Finding("compiled code", "ok", f"kept in {folder}")
    return Finding("compiled code", "ok", f"none yet: the first run compiles for 5 to 20 s and keeps it in {folder}")
