"""The studies of robustness that are ready to run, each one function.

Every function returns a `Ready`; ``studies.read_noise().run()`` trains on MNIST through `lab_bench` (minutes to hours),
``studies.read_noise(studies.SMALL).run(range(2), workers=0)`` on digits in seconds. `dfa.robustness.figures.draw` makes
the figure of what comes back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dfa.experiments.plans import Plan
from dfa.experiments.teachers import build_device
from dfa.robustness.flaws import FLAWS, STILL, Flaw
from dfa.robustness.names import change_plan
from dfa.robustness.prepared import Ready, View
from dfa.robustness.training_study import TrainingStudy
from dfa.sweeps.designs import Grid, OneAtATime

__all__ = [
    "MNIST",
    "SMALL",
    "STUDIES",
    "bit_depth",
    "budget",
    "contrast",
    "dead_pixels",
    "drift_recalibration",
    "input_dimension",
    "laser_drift",
    "macropixel",
    "medium_drift",
    "output_dimension",
    "pointing",
    "prnu",
    "read_noise",
    "reference_phase",
    "rin",
    "saturation",
    "sensitivities",
    "shot_noise",
    "stuck_mirrors",
    "threshold",
    "two_parameters",
]

MNIST = Plan(data="mnist", hidden=(256,), epochs=2, batch_size=32, samples=5_000)
"""What studies train on if nothing else is given; a point takes some five seconds on one core."""

SMALL = Plan(data="digits", hidden=(32,), epochs=10, batch_size=32, learning_rate=5e-3)
"""The same on handwritten digits of 8 x 8 pixels: a point takes about a second."""


def shot_noise(plan: Plan = MNIST, values: Sequence[Any] = ()) -> Ready:
    """Photons per pixel: the well shrinks and the exposure with it, read noise and dark signal are off."""
    return curve("shot_noise", plan, values)


def read_noise(plan: Plan = MNIST, values: Sequence[Any] = ()) -> Ready:
    """Read noise of the camera."""
    return curve("read_noise", plan, values)


def bit_depth(plan: Plan = MNIST, values: Sequence[Any] = ()) -> Ready:
    """Bits of a pixel."""
    return curve("bit_depth", plan, values)


def saturation(plan: Plan = MNIST, values: Sequence[Any] = ()) -> Ready:
    """Exposure in multiples of the right one: dark below 1, saturated above."""
    return curve("saturation", plan, values)


def contrast(plan: Plan = MNIST, values: Sequence[Any] = ()) -> Ready:
    """Contrast of the mirrors: light that mirrors leak when they are OFF."""
    return curve("contrast", plan, values)


def stuck_mirrors(plan: Plan = MNIST, values: Sequence[Any] = ()) -> Ready:
    """Mirrors that do not move, half of them ON."""
    return curve("stuck_mirrors", plan, values)


def medium_drift(plan: Plan = MNIST, values: Sequence[Any] = ()) -> Ready:
    """A medium that drifts while the network learns; never calibrated again."""
    return curve("medium_drift", plan, values)


def laser_drift(plan: Plan = MNIST, values: Sequence[Any] = ()) -> Ready:
    """Slow drift of the laser's power, with a correlation time of 10 s in place of an hour, so that it is seen."""
    return curve("laser_drift", plan, values)


def rin(plan: Plan = MNIST, values: Sequence[Any] = ()) -> Ready:
    """Relative intensity noise of the laser."""
    return curve("rin", plan, values)


def pointing(plan: Plan = MNIST, values: Sequence[Any] = ()) -> Ready:
    """Pointing of the laser."""
    return curve("pointing", plan, values)


def reference_phase(plan: Plan = MNIST, values: Sequence[Any] = ()) -> Ready:
    """Phase noise between the reference arm and the light through the medium; projections by phase stepping."""
    return curve("reference_phase", plan, values)


def prnu(plan: Plan = MNIST, values: Sequence[Any] = ()) -> Ready:
    """Pixels that do not respond equally."""
    return curve("prnu", plan, values)


def dead_pixels(plan: Plan = MNIST, values: Sequence[Any] = ()) -> Ready:
    """Pixels that do not respond to light; a device of just the size of the network runs out of others."""
    return curve("dead_pixels", plan, values)


def threshold(plan: Plan = MNIST, values: Sequence[float] = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5)) -> Ready:
    """Fixed threshold of the ternary code of the error; compared with exact DFA and backpropagation."""
    label = "threshold (error of one output)"
    view = View(kind="curve", title="Ternarisation threshold", x="encoder.threshold", label=label, log=True)
    return Ready(
        study=TrainingStudy(plan), design=Grid({view.x: values}), view=view, references=("bp", "dfa", "last-layer")
    )


def macropixel(plan: Plan = MNIST, values: Sequence[int] = (32, 8, 4, 2, 1)) -> Ready:
    """Mirrors of an input: few mirrors send little light, and a frame is only so long."""
    x, label = "dmd.macropixel", "mirrors along the side of an input"
    view = View(kind="curve", title="Mirrors of an input", x=x, label=label, log=True, without={x: 0})
    return Ready(study=TrainingStudy(plan), design=Grid({view.x: values}), view=view)


def input_dimension(
    plan: Plan = MNIST,
    values: Sequence[int] = (20, 200, 2000, 10_000),
    methods: Sequence[str] = ("anchor", "phase-stepping"),
) -> Ready:
    """Inputs of the device, of which the error takes one for each class, and what the others do to its light.

    With an anchor they are ON beside the error and bring shot noise; by phase stepping they are OFF and leak.
    """
    view = View(kind="curve", title="Input dimension", x="training.inputs", label="inputs of the device", log=True)
    over = {"calibration.method": list(methods), view.x: list(values)}
    return Ready(study=TrainingStudy(plan), design=Grid(over), view=view, references=("bp", "dfa", "last-layer"))


def output_dimension(plan: Plan = MNIST, values: Sequence[Sequence[int]] = ((32,), (128,), (512,))) -> Ready:
    """Width of the hidden blocks, which is the number of pixels that the device must have; with each method a line."""
    view = View(kind="curve", title="Output dimension", x="training.hidden", label="hidden units (pixels read)")
    over = {"training.method": ["bp", "dfa", "optical", "last-layer"], view.x: [list(widths) for widths in values]}
    return Ready(study=TrainingStudy(plan), design=Grid(over), view=view, references=())


def drift_recalibration(
    plan: Plan = MNIST,
    correlation_frames: Sequence[float] = (STILL, 1e6, 1e5, 1e4),
    recalibrate_every: Sequence[int] = (0, 100, 20),
) -> Ready:
    """Correlation time of a drifting medium against the steps after which the projection is measured again."""
    view = View(
        kind="map",
        title="Drift of the medium against re-calibration",
        x="medium.correlation_frames",
        y="training.recalibrate_every",
        label=FLAWS["medium_drift"].label,
        y_label="steps between calibrations (0: never)",
        log=True,
        without={"training.recalibrate_every": 0, "medium.correlation_frames": 0},
    )
    over = {view.y: list(recalibrate_every), view.x: list(correlation_frames)}
    return Ready(study=TrainingStudy(for_flaw(FLAWS["medium_drift"], plan)), design=Grid(over), view=view)


def two_parameters(
    first: str, second: str, plan: Plan = MNIST, values: Sequence[Any] = (), second_values: Sequence[Any] = ()
) -> Ready:
    """Every pair of values of two flaws, by their names in `FLAWS`: whether they cost more together than each alone.

    The first of the `values` of either, which are those of its own study if not given, is where it is not there.
    """
    one, two = flaw(first), flaw(second)
    if one.parameter == two.parameter:
        raise ValueError(f"second must be another flaw than {first}, got {second}")
    view = View(
        kind="map",
        title=f"{one.title} and {two.title.lower()}",
        x=one.parameter,
        y=two.parameter,
        label=one.label,
        y_label=two.label,
        log=one.log,
        without={one.parameter: 0, two.parameter: 0},
    )
    over = {two.parameter: second_values or two.values, one.parameter: values or one.values}
    return Ready(study=TrainingStudy(for_flaw(one, for_flaw(two, plan))), design=Grid(over), view=view)


def sensitivities(plan: Plan = MNIST, over: Mapping[str, Sequence[Any]] | None = None) -> Ready:
    """Each parameter of the device changed alone, to half and to twice its value on the bench if nothing else is said.

    The default parameters are those whose value is a positive number there, in so far as half and twice are possible.
    """
    bench = bench_values(plan)
    if over is None:
        scales = {name: (value / 2, 2 * value) for name, value in bench.items() if is_scale(name, value)}
        tried = {name: [value for value in two if is_allowed(plan, name, value)] for name, two in scales.items()}
        over = {name: values for name, values in tried.items() if values}
    view = View(
        kind="budget",
        title="Sensitivity to each parameter",
        without={"point": 0},
        names={name: name for name in over},
        bench={name: bench.get(name) for name in over},
    )
    return Ready(study=TrainingStudy(plan), design=OneAtATime(over), view=view)


def budget(plan: Plan = MNIST, flaws: Sequence[str] = (), worse: bool = True) -> Ready:
    """What each flaw of the bench costs: each taken away alone and, if asked for, made as bad as on a bad bench.

    The base is the device as it is. With a projection by another method than the reference arm, its phase noise is
    left out; with it, it is in.
    """
    bench = bench_values(plan)
    names = flaws or [name for name, flaw in FLAWS.items() if flaw.calibration.items() <= plan.calibration.items()]
    over: dict[str, list[Any]] = {}
    called = {}
    for chosen in map(flaw, names):
        # A medium that drifts is an effect around the one that there is: the base has none.
        parameter = "medium" if chosen.parameter.startswith("medium.") else chosen.parameter
        called[parameter] = chosen.title
        values = [chosen.without] * chosen.removable + [chosen.worse] * worse
        if parameter == "medium":
            values = [dict(chosen.changes["medium"]) | {"correlation_frames": value} for value in values]
        over[parameter] = [value for value in values if value != bench.get(parameter, "")]
    over = {name: values for name, values in over.items() if values}
    view = View(
        kind="budget",
        title="What each flaw costs",
        without={"point": 0},
        names={name: called[name] for name in over},
        bench={name: bench.get(name) for name in over},
    )
    return Ready(study=TrainingStudy(plan), design=OneAtATime(over), view=view)


def curve(name: str, plan: Plan, values: Sequence[Any]) -> Ready:
    """A flaw from none to far too much; the first of the values is where it is not there."""
    chosen = flaw(name)
    view = View(
        kind="curve",
        title=chosen.title,
        x=chosen.parameter,
        label=chosen.label,
        log=chosen.log,
        without={chosen.parameter: 0},
    )
    study = TrainingStudy(for_flaw(chosen, plan))
    return Ready(study=study, design=Grid({chosen.parameter: values or chosen.values}), view=view)


def flaw(name: str) -> Flaw:
    """The flaw of that name, or a ``ValueError``."""
    if name not in FLAWS:
        raise ValueError(f"flaw must be one of {', '.join(FLAWS)}, got {name!r}")
    return FLAWS[name]


def for_flaw(chosen: Flaw, plan: Plan) -> Plan:
    """Return the plan under which a flaw can be seen; what it says itself of the device is kept."""
    changes = {**chosen.changes, **plan.device_changes}
    return replace(plan, device_changes=changes, calibration={**plan.calibration, **chosen.calibration})


def bench_values(plan: Plan) -> dict[str, Any]:
    """Every parameter of the plan's device by its dotted name, and the exposure that the plan gives it."""
    found: dict[str, Any] = {"training.exposure": plan.exposure}
    tables = [("", build_device(change_plan(plan, {}), 2, 4, 0).to_dict())]
    while tables:
        prefix, table = tables.pop()
        for name, value in table.items():
            if isinstance(value, Mapping):
                tables.append((f"{prefix}{name}.", value))
            else:
                found[prefix + name] = value
    return found


def is_scale(name: str, value: Any) -> bool:
    """Whether half and twice a value can be tried: a positive number of laser, mirrors or camera, and no count."""
    return name.split(".")[0] in ("laser", "dmd", "camera") and isinstance(value, float) and value > 0


def is_allowed(plan: Plan, name: str, value: Any) -> bool:
    """Whether the plan's device may have a value."""
    try:
        change_plan(plan, {name: value})
    except ValueError:
        return False
    return True


STUDIES = {
    study.__name__: study
    for study in (
        shot_noise,
        read_noise,
        bit_depth,
        saturation,
        contrast,
        stuck_mirrors,
        medium_drift,
        laser_drift,
        rin,
        pointing,
        reference_phase,
        prnu,
        dead_pixels,
        threshold,
        macropixel,
        input_dimension,
        output_dimension,
        drift_recalibration,
        sensitivities,
        budget,
    )
}
"""By name; `two_parameters` takes two names, and so is not among them."""
