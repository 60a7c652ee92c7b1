"""Lines from a good device to a bad one, along one parameter or several together."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dfa.experiments.plans import Plan
from dfa.robustness.flaws import FLAWS
from dfa.robustness.studies import bench_values
from dfa.sweeps.protocol import Settings
from photonics.component import choose, number

__all__ = ["LINES", "Line", "everything", "line", "together"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """Values of one or more parameters from the best place, 0, to the worst, 1.

    Examples
    --------
    >>> noise = Line(title="Dark signal", ends={"camera.dsnu_e": (1.0, 1000.0)})
    >>> noise.at(0.5)
    {'camera.dsnu_e': 31.62}
    """

    title: str
    ends: Mapping[str, tuple[float, float]]
    """Best and worst value of each parameter, by its dotted name (see `dfa.robustness.names.change_plan`)."""
    label: str = ""
    """Name of the value, with its unit."""
    decade: float | None = None
    """Change of a value that counts as a factor of ten, for parameters that are linear, such as decibels or bits. None:
    values are spaced by their logarithm."""
    whole: bool = False
    """Whether values are whole numbers."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Worst value that a parameter may have, where it stays while others of the line become worse."""
    changes: Settings = field(default_factory=dict)
    """Other settings of every training on the line, also of the reference."""

    def __post_init__(self) -> None:
        if not self.ends:
            raise ValueError("ends must have one parameter or more, got none")
        for name, pair in self.ends.items():
            try:
                best, worst = map(number, pair)
            except (TypeError, ValueError):
                best = worst = math.nan
            if not (math.isfinite(best) and math.isfinite(worst) and best != worst):
                raise ValueError(f"ends of {name} must be the best and the worst value, two numbers, got {pair!r}")
            if self.decade is None and min(best, worst) <= 0:
                raise ValueError(f"ends of {name} must be above 0 for a logarithm, got {pair!r}; or give decade")
        if self.decade is not None and not self.decade > 0:
            raise ValueError(f"decade must be above 0, got {self.decade!r}")

    @property
    def decades(self) -> float:
        """Length of the line in factors of ten; of the first parameter if there are several."""
        best, worst = next(iter(self.ends.values()))
        return abs(worst - best) / self.decade if self.decade else abs(math.log10(worst / best))

    def at(self, place: float) -> dict[str, float]:
        """Return the values at a place, with four digits."""
        return {name: self.value(name, place) for name in self.ends}

    def settings(self, place: float) -> dict[str, object]:
        """Return all settings of a training at a place."""
        return {**self.changes, **self.at(place)}

    def value(self, name: str, place: float) -> float:
        """Return the value of one of the parameters at a place."""
        best, worst = self.ends[name]
        value = best + place * (worst - best) if self.decade else best * (worst / best) ** place
        limit = self.limits.get(name, value)
        value = min(value, limit) if worst > best else max(value, limit)
        return round(value) if self.whole else float(f"{value:.4g}")

    def place(self, name: str, value: float) -> float:
        """Return the place of a value of one of the parameters; it may be outside of the line."""
        best, worst = self.ends[name]
        return (value - best) / (worst - best) if self.decade else math.log(value / best) / math.log(worst / best)

    def own(self, bench: Settings) -> float | None:
        """Return the place of a device's own values (`bench_values`); None if it has no such flaw."""
        found = [self.own_place(name, {**bench, **self.changes}.get(name)) for name in self.ends]
        places = [place for place in found if place is not None]
        return places[0] if len(places) == len(found) and max(places) - min(places) < 1e-6 else None

    def own_place(self, name: str, value: object) -> float | None:
        """Return the place of a value of the device; None if the line does not reach it, or if it is not a number."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return None
        return None if self.decade is None and value <= 0 else self.place(name, float(value))


def of_flaw(name: str, best: float, worst: float, title: str = "", decade: float | None = None, **more: object) -> Line:
    """Return the line of a flaw, with the changes that it needs."""
    flaw = FLAWS[name]
    changes = {**flaw.changes, **{f"calibration.{key}": value for key, value in flaw.calibration.items()}, **more}
    whole = isinstance(flaw.values[0], int)
    return Line(
        title=title or flaw.title,
        ends={flaw.parameter: (best, worst)},
        label=flaw.label,
        decade=decade,
        whole=whole,
        changes=changes,
    )


LINES = {
    "shot_noise": of_flaw("shot_noise", 1e5, 3.0),
    "read_noise": of_flaw("read_noise", 1.0, 3000.0),
    "bit_depth": of_flaw("bit_depth", 12, 1, decade=1.0 / math.log10(2.0)),
    "short_exposure": of_flaw("saturation", 1.0, 1e-3, "Exposure too short"),
    "long_exposure": of_flaw("saturation", 1.0, 100.0, "Exposure too long"),
    "contrast": of_flaw("contrast", 1e4, 1.1),
    "stuck_mirrors": of_flaw("stuck_mirrors", 1e-3, 1.0),
    "dead_pixels": of_flaw("dead_pixels", 1e-3, 1.0),
    "prnu": of_flaw("prnu", 1e-3, 0.2),
    "laser_drift": of_flaw("laser_drift", 1e-4, 0.1),
    "rin": of_flaw("rin", -160.0, -60.0, decade=10.0),
    "pointing": of_flaw("pointing", 1e-7, 1e-3),
    "reference_phase": of_flaw("reference_phase", 0.01, 10.0),
    "medium_drift": of_flaw("medium_drift", 1e8, 1e2, "Drift of the medium, followed", **{"training.refresh": True}),
    "stale_medium": of_flaw("medium_drift", 1e8, 1e2, "Drift, not followed", **{"training.refresh": False}),
}
"""One line or two for each flaw of `dfa.robustness.flaws`. The ends are wide, up to what the simulator allows."""
SCALED = ("read_noise", "contrast", "prnu", "laser_drift", "pointing")
"""Flaws of `everything`, besides the full well."""


def line(name: str, plan: Plan) -> Line:
    """Return the line of that name, or "everything" of a plan's device.

    Raises
    ------
    ValueError
        If there is no such line.
    """
    choose({**LINES, "everything": None}, name, "line")
    return everything(plan) if name == "everything" else LINES[name]


def together(title: str, *lines: Line) -> Line:
    """Return the line on which the parameters of several lines become worse together, each from its best end.

    Raises
    ------
    ValueError
        If the lines share a parameter, or one is linear and another logarithmic.
    """
    names = [name for one in lines for name in one.ends]
    if len(set(names)) < len(names) or len({one.decade for one in lines}) != 1:
        raise ValueError(f"lines must have different parameters and one kind of spacing, got {', '.join(names)}")
    ends: dict[str, tuple[float, float]] = {}
    limits: dict[str, float] = {}
    changes: dict[str, object] = {}
    for one in lines:
        ends, limits, changes = ends | dict(one.ends), limits | dict(one.limits), changes | dict(one.changes)
    return replace(lines[0], title=title, label="", ends=ends, limits=limits, changes=changes)


def everything(plan: Plan, factor: float = 1000.0) -> Line:
    """Return the line on which every flaw that the plan's device has becomes worse by the same factor.

    These are the full well (and with it the light), read noise, contrast, non-uniform pixels, drift and pointing of the
    laser. A value that reaches the end of what the simulator allows stays there.
    """
    bench = bench_values(plan)
    ends: dict[str, tuple[float, float]] = {}
    limits: dict[str, float] = {}
    for name in ("shot_noise", *SCALED):
        ((parameter, (best, worst)),) = LINES[name].ends.items()
        value = bench.get(parameter)
        if isinstance(value, float) and value > 0:
            ends[parameter] = (value, value * factor if worst > best else value / factor)
            limits[parameter] = worst
    return Line(title="Everything at once", ends=ends, limits=limits)
