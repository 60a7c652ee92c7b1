"""The reference of the public names: a page for every name in ``__all__`` of a public module."""

import importlib
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

from docs.extensions.gallery import write

__all__ = ["MODULES", "setup"]

MODULES = {
    "photonics": "Devices and their parts",
    "photonics.presets": "Devices that are ready to use",
    "photonics.medium": "Scattering media",
    "photonics.patterns": "Encodings of values as patterns",
    "photonics.patterns.encoding": "Patterns of bits",
    "photonics.analysis.speckle": "Statistics of speckle",
    "photonics.parts.blaze": "Diffraction orders of the mirrors",
    "photonics.parts.pupil": "Speckle grains behind a pupil",
    "photonics.parts.rounding": "Moments of rounded codes",
    "photonics.analysis.moments": "Mean and variance of the whole chain",
    "photonics.analysis.exposure": "Search for the exposure",
    "photonics.analysis.cost": "Time and energy on the bench",
    "photonics.random": "The counter-based generator",
    "photonics.plotting.plots": "Figures of a device",
    "calibration": "Projections, matrices, reports and recordings",
    "calibration.device": "What calibration knows of a device",
    "calibration.camera.photon_transfer": "Photon transfer of a camera (EMVA 1288)",
    "calibration.fields.holography": "Interference terms from frames",
    "calibration.metrics": "Errors of a projection and of a matrix",
    "calibration.storage.questions": "Questions to a bench, in rounds",
    "calibration.wavefront.focusing": "Focus through a medium",
    "calibration.wavefront.images": "Images through a medium",
    "dfa": "Training and sweeps",
    "dfa.costs": "Time and energy of a training step",
    "dfa.costs.figure": "Figure of that model",
    "dfa.data": "Data sets",
    "dfa.models": "Networks",
    "dfa.experiments": "Plans, methods and their comparison",
    "dfa.sweeps": "Sweeps and their designs",
    "dfa.robustness": "Studies of training",
    "dfa.robustness.studies": "Predefined studies",
    "dfa.robustness.figures": "Figures of a study",
    "dfa.robustness.tolerances": "How bad each part may be",
    "dfa.robustness.tolerances.figure": "Figure and page of tolerances",
}
"""Modules whose names a user imports, and what they hold."""


def make_pages(_: Sphinx, config: Config) -> None:
    """Write a page for each module, with a table of its names, and a table of modules; autosummary makes the rest."""
    folder = Path(__file__).parents[1] / "reference" / "api"
    folder.mkdir(parents=True, exist_ok=True)
    homes: dict[int, str] = {}
    for name, title in MODULES.items():
        module = importlib.import_module(name)
        found = {public: f"{name}.{public}" for public in module.__all__ if f"{name}.{public}" not in MODULES}
        for public, full in found.items():
            homes.setdefault(id(getattr(module, public)), full)
        own = [public for public, full in found.items() if homes[id(getattr(module, public))] == full]
        elsewhere = [homes[id(getattr(module, public))] for public in found if public not in own]
        write(folder / f"{name}.rst", page_of(name, title, own, elsewhere).encode())
    rows = "\n".join(f"| [`{name}`](api/{name}.rst) | {title} |" for name, title in MODULES.items())
    write(folder / "_modules.md", f"| module | what it has |\n|---|---|\n{rows}\n".encode())
    for stale in {path.stem for path in folder.glob("names/*.rst")} - {*homes.values()}:
        (folder / "names" / f"{stale}.rst").unlink()
    config.autosummary_generate = [str(folder / f"{name}.rst") for name in MODULES]
    config.autosummary_context = {"fields_of": fields_of}


def fields_of(full: str) -> list[str]:
    """Fields of a component class, which its text describes as parameters; empty for other classes."""
    module, _, name = full.rpartition(".")
    return list(getattr(getattr(importlib.import_module(module), name), "__pydantic_fields__", {}))


def page_of(name: str, title: str, own: list[str], elsewhere: list[str]) -> str:
    """Page of a module: its text, a table of the names that have a page here, and links to the others."""
    lines = [name, "=" * len(name), "", f"{title}.", "", f".. automodule:: {name}", "   :no-members:", ""]
    lines += [
        ".. autosummary::",
        "   :toctree: names",
        "   :nosignatures:",
        "",
        *(f"   {public}" for public in own),
        "",
    ]
    if elsewhere:
        lines += ["Also importable from here: " + ", ".join(f":obj:`{full}`" for full in elsewhere) + "."]
    return "\n".join(lines) + "\n"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the pages with Sphinx."""
    app.connect("config-inited", make_pages)
    return {"parallel_read_safe": True}
