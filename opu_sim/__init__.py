"""The distribution: its version, the entry of the command line, and the check that its packages are its own.

Other distributions have packages called ``dfa`` or ``photonics``, too. Python imports the one that it finds first, so
this package, whose name no other has, imports nothing of the three and finds out which ones Python would take.
"""

import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

__all__ = ["NAME", "PACKAGES", "__version__", "check", "checkout", "collisions", "install_line", "main"]

NAME = "opu-sim"
"""Name of the distribution."""
PACKAGES = ("photonics", "calibration", "dfa")
"""Packages of this distribution; each imports those before it."""
__version__: str
"""Version of the distribution opu-sim."""
HOME = Path(__file__).resolve().parents[1]
"""Folder of the packages: site-packages, or a checkout."""
REMEDY = "install opu-sim in an environment of its own (python -m venv .venv)"


def collisions() -> dict[str, str]:
    """Packages of this distribution that another one hides or has overwritten, each with a sentence that says so."""
    found = {}
    for name in PACKAGES:
        folder = folder_of(name)
        if folder is not None and folder.parent != HOME:
            found[name] = f"{name} is imported from {folder}{owner(name)} instead of {HOME / name}"
        elif others := [path.name for path in HOME.glob(f"{name}-*.dist-info")]:
            other = " ".join(others[0].removesuffix(".dist-info").split("-"))
            found[name] = f"{other} is installed over the package {name} of opu-sim in {HOME}"
    return found


def folder_of(name: str) -> Path | None:
    """Folder of a package that Python would import; None if there is none."""
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).resolve().parent


def owner(name: str) -> str:
    """Distribution that provides a package, in brackets; empty if none does."""
    from importlib.metadata import packages_distributions, version

    others = [other for other in packages_distributions().get(name, []) if other != NAME]
    return f" ({others[0]} {version(others[0])})" if others else ""


def check(package: str) -> None:
    """Check, when a package of this distribution is imported, that the others are its own too.

    Parameters
    ----------
    package : str
        The package that is imported, one of `PACKAGES`.

    Raises
    ------
    ImportError
        If a package that it imports belongs to another distribution. For other packages there is a `RuntimeWarning`.
    """
    for name, problem in collisions().items():
        message = f"{problem}: {REMEDY}"
        if PACKAGES.index(name) < PACKAGES.index(package):
            raise ImportError(message)
        warnings.warn(message, RuntimeWarning, stacklevel=3)


def checkout() -> Path | None:
    """Folder of the checkout that is used; None for an installed wheel."""
    return HOME if (HOME / "pyproject.toml").is_file() else None


def install_line(extra: str = "") -> str:
    """Command that installs this distribution with an extra, from where it came."""
    extras = f"[{extra}]" if extra else ""
    folder = checkout()
    if folder is not None:
        return f'pip install -e "{"." if Path.cwd() == folder else folder}{extras}"'
    url = address()
    return f'pip install "{NAME}{extras} @ {url}"' if url else f'pip install "{NAME}{extras}"'


def address() -> str | None:
    """Address of the wheel or folder that was installed; None if it came from an index."""
    import json
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        text = distribution(NAME).read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    return json.loads(text)["url"] if text else None


def main() -> None:
    """Run the command ``opu``; one line and exit code 2 if another distribution hides the packages."""
    if found := collisions():
        sys.stderr.write(f"opu: {'; '.join(found.values())}: {REMEDY}\n")
        sys.exit(2)
    from dfa.cli.main import main as run

    run()


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version(NAME)
    raise AttributeError(f"module 'opu_sim' has no attribute {name!r}")
