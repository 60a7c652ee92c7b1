"""Prepared studies of robustness: what each parameter of a device, its calibration or a training costs.

``studies.prepare("read_noise").run()`` trains on MNIST through `lab_bench` (minutes to hours),
``studies.prepare("read_noise", studies.SMALL).run(range(2), workers=0)`` on digits in seconds.
`dfa.robustness.figures.draw` draws the figure.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dfa.experiments.plans import Plan
from dfa.experiments.teachers import build_device
from dfa.robustness.flaws import FLAWS, NO_DRIFT, Flaw, flaw
from dfa.robustness.prepared import PreparedStudy, View
from dfa.robustness.training_study import TrainingStudy
from dfa.sweeps.designs import Grid
from dfa.sweeps.protocol import Settings
from photonics.component import choose

__all__ = ["MNIST", "SMALL", "STUDIES", "bench_values", "prepare", "two_parameters"]

MNIST = Plan(data="mnist", hidden=(256,), epochs=2, batch_size=32, samples=5_000)
"""Default plan of the studies; a point takes some five seconds on one core."""
SMALL = Plan(data="digits", hidden=(32,), epochs=10, batch_size=32, learning_rate=5e-3)
"""A smaller plan, on handwritten digits of 8 x 8 pixels; a point takes about a second."""

Values = Sequence[object]


@dataclass(frozen=True, kw_only=True)
class GridStudy:
    """A grid over one or two parameters of a training, and its figure."""

    summary: str
    """What is varied, in one sentence."""
    title: str
    over: Mapping[str, tuple[str, Values]]
    """Dotted name and default values of each parameter, by the name of the option that replaces the values. The last
    parameter is the figure's x axis."""
    label: str
    """Label of the x axis, with the unit."""
    kind: str = "curve"
    """Of the figure, see `View`."""
    y_label: str = ""
    """Label of the y axis of a map."""
    log: bool = False
    """Whether the axes are logarithmic."""
    compared: bool = False
    """Whether the first value of each parameter is the one without the flaw, with which the others are compared."""
    references: tuple[str, ...] = ("bp", "last-layer")
    """Methods that are trained for comparison."""
    changes: Settings = field(default_factory=dict)
    """Changes of the device; those of the plan come first."""
    calibration: Settings = field(default_factory=dict)
    """Arguments of the calibration, which replace the plan's."""
    refresh: bool | None = None
    """Whether the device is followed (`Plan.refresh`); None for what the plan says."""

    def prepare(self, plan: Plan, options: Mapping[str, Values]) -> PreparedStudy:
        """Return the study with a plan; options that are not empty replace default values."""
        over = {name: list(options.get(option, ())) or list(values) for option, (name, values) in self.over.items()}
        *first, x = over
        view = View(
            kind=self.kind,
            title=self.title,
            x=x,
            y=first[0] if self.kind == "map" else "",
            label=self.label,
            y_label=self.y_label,
            log=self.log,
            without=dict.fromkeys(over, 0) if self.compared else {},
        )
        changes = {**self.changes, **plan.device_changes}
        plan = replace(
            plan,
            device_changes=changes,
            calibration={**plan.calibration, **self.calibration},
            refresh=plan.refresh if self.refresh is None else self.refresh,
        )
        return PreparedStudy(study=TrainingStudy(plan), design=Grid(over), view=view, references=self.references)


def curve_of(one: Flaw) -> GridStudy:
    """Return the study of a flaw, from the value without it to values that are far worse than on a bench."""
    return GridStudy(
        summary=one.summary,
        title=one.title,
        over={"values": (one.parameter, one.values)},
        label=one.label,
        log=one.log,
        compared=True,
        changes=one.changes,
        calibration=one.calibration,
    )


GRIDS = {name: curve_of(one) for name, one in FLAWS.items()} | {
    "medium_drift": replace(curve_of(FLAWS["medium_drift"]), refresh=False),
    "threshold": GridStudy(
        summary="Fixed threshold of the ternary error, beside exact DFA and backpropagation.",
        title="Ternarisation threshold",
        over={"values": ("encoder.threshold", (0.01, 0.03, 0.1, 0.2, 0.3, 0.5))},
        label="threshold (error of one output)",
        log=True,
        references=("bp", "dfa", "last-layer"),
    ),
    "macropixel": GridStudy(
        summary="Mirrors of an input: few mirrors send little light, and a frame limits the exposure.",
        title="Mirrors of an input",
        over={"values": ("dmd.macropixel", (32, 8, 4, 2, 1))},
        label="mirrors along the side of an input",
        log=True,
        compared=True,
    ),
    "input_dimension": GridStudy(
        # With an anchor the other inputs are ON beside the error and bring shot noise. By phase stepping they are OFF
        # and leak. The beam is uniform: the inputs of the error come first, and on a chip with many inputs they lie in
        # a corner, which a Gaussian beam lights with 0.22 of its mean.
        summary="Inputs of the device, of which the error uses one for each class.",
        title="Input dimension",
        over={
            "methods": ("calibration.method", ("anchor", "phase-stepping")),
            "values": ("training.inputs", (20, 200, 2000, 10_000)),
        },
        label="inputs of the device",
        log=True,
        references=("bp", "dfa", "last-layer"),
        changes={"laser.beam_radius_m": None},
    ),
    "output_dimension": GridStudy(
        summary="Width of the hidden blocks, which is the number of pixels of the device, for each method.",
        title="Output dimension",
        over={
            "methods": ("training.method", ("bp", "dfa", "optical", "last-layer")),
            "values": ("training.hidden", ([32], [128], [512])),
        },
        label="hidden units (pixels read)",
        references=(),
    ),
    "drift_recalibration": GridStudy(
        summary="Correlation time of a drifting medium that is not followed, and steps between two calibrations.",
        title="Drift of the medium against re-calibration",
        over={
            "recalibrate_every": ("training.recalibrate_every", (0, 100, 20)),
            "correlation_frames": ("medium.correlation_frames", (NO_DRIFT, 1e5, 1e4, 3e3, 1e3)),
        },
        label=FLAWS["medium_drift"].label,
        kind="map",
        y_label="steps between calibrations (0: never)",
        log=True,
        compared=True,
        changes=FLAWS["medium_drift"].changes,
        refresh=False,
    ),
}


def two_parameters(
    first: str, second: str, plan: Plan = MNIST, values: Values = (), second_values: Values = ()
) -> PreparedStudy:
    """Every pair of values of two flaws: whether they cost more together than separately.

    Parameters
    ----------
    first, second : str
        Names in `dfa.robustness.flaws.FLAWS`.
    plan : Plan
        What is trained.
    values, second_values : sequence, optional
        Values of each flaw, the one without the flaw first; default those of its own study.
    """
    one, two = flaw(first), flaw(second)
    if one.parameter == two.parameter:
        raise ValueError(f"second must be a flaw of another parameter than {first}, got {second}")
    grid = GridStudy(
        summary="Every pair of values of two flaws.",
        title=f"{one.title} and {two.title.lower()}",
        over={"second_values": (two.parameter, two.values), "values": (one.parameter, one.values)},
        label=one.label,
        kind="map",
        y_label=two.label,
        log=one.log,
        compared=True,
        changes={**one.changes, **two.changes},
        calibration={**two.calibration, **one.calibration},
    )
    return grid.prepare(plan, {"values": values, "second_values": second_values})


def bench_values(plan: Plan) -> dict[str, object]:
    """Return every parameter of the plan's device by its dotted name, and the plan's exposure."""
    found: dict[str, object] = {"training.exposure": plan.exposure}
    tables: list[tuple[str, Settings]] = [("", build_device(plan, 2, 4, 0).to_dict())]
    while tables:
        prefix, table = tables.pop()
        for name, value in table.items():
            if isinstance(value, Mapping):
                tables.append((f"{prefix}{name}.", value))
            else:
                found[prefix + name] = value
    return found


STUDIES = {name: grid.summary for name, grid in GRIDS.items()}
"""Names of the studies that need no options, each with one sentence. `two_parameters` needs two names."""


def prepare(name: str, plan: Plan = MNIST, **options: Any) -> PreparedStudy:
    """Return a study by its name.

    Parameters
    ----------
    name : str
        One of `STUDIES`, or "two_parameters".
    plan : Plan
        What is trained.
    **options
        Other values of the parameters: ``values``; for "input_dimension" and "output_dimension" also ``methods``; for
        "drift_recalibration" ``correlation_frames`` and ``recalibrate_every``. The first of the values that are
        compared is the one without the flaw. "two_parameters" takes the arguments of `two_parameters`.

    Raises
    ------
    ValueError
        If the study or an option is unknown.
    """
    make = choose(GRIDS | {"two_parameters": two_parameters}, name, "study")
    known = make.over if isinstance(make, GridStudy) else [*inspect.signature(make).parameters]
    for option in options:
        if option not in known or option == "plan":
            allowed = ", ".join(option for option in known if option != "plan")
            raise ValueError(f"options of {name} must be among {allowed}, got {option!r}")
    try:
        return make.prepare(plan, options) if isinstance(make, GridStudy) else make(plan=plan, **options)
    except TypeError as error:
        raise ValueError(
            f"options of {name} must be complete and of the right types, got {options} ({error})"
        ) from None
