"""The installation: its version, and which extras it has."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version

from packaging.requirements import Requirement

from opu_sim import NAME

__all__ = ["Needed", "describe_version", "extra_of", "requirements"]

USED = {"bench": "images of a bench", "train": "training networks", "cluster": "sweeps", "notebooks": "the notebooks"}
"""Extras that a user needs, and what for."""


@dataclass(frozen=True)
class Needed:
    """A distribution that this one or one of its extras requires."""

    name: str
    found: str | None
    """Installed version; None if it is not installed."""
    allowed: str
    """Versions that are allowed."""
    extra: str
    """Extra that requires it; empty if it is always required."""

    @property
    def fits(self) -> bool:
        """Whether an allowed version is installed."""
        return self.found is not None and Requirement(f"{self.name}{self.allowed}").specifier.contains(
            self.found, prereleases=True
        )


def describe_version() -> str:
    """Version of this distribution, of its installation, and of the folder that it is in."""
    try:
        return f"{NAME} {version(NAME)}"
    except PackageNotFoundError:
        return f"{NAME}, not installed"


def requirements() -> list[Needed]:
    """Distributions that this one and the extras in `USED` require, in the order of the metadata."""
    try:
        lines = distribution(NAME).requires or []
    except PackageNotFoundError:
        return []
    found = []
    for line in map(Requirement, lines):
        for extra in ("", *USED):
            if applies(line, extra):
                found.append(Needed(line.name, version_of(line.name), str(line.specifier), extra))
                break
    return found


def applies(line: Requirement, extra: str) -> bool:
    """Whether a requirement is that of an extra on this machine."""
    return line.marker is None or line.marker.evaluate({"extra": extra})


def version_of(name: str) -> str | None:
    """Installed version of a distribution; None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def extra_of(module: str | None) -> str:
    """Extra that provides a module which could not be imported; empty if every installation has it."""
    names = {needed.name.replace("-", "_"): needed.extra for needed in requirements()}
    return names.get({"dask": "distributed"}.get(str(module), str(module)), "" if names else "train")
