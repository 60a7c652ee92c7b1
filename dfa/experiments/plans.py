"""What is trained, on what, and how: all that decides a run beside its method and its seed."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from calibration import measure_projection
from calibration.projections.projection import METHODS as PROJECTIONS
from calibration.projections.projection import check_arguments
from dfa.data import DATASETS, GRAPHS, TEXTS
from dfa.feedback.encoding import Ternary
from dfa.rules.rows import SPREADS
from dfa.training.steps import check_numbers
from photonics import OPU, presets
from photonics import medium as media
from photonics.component import integer, number

__all__ = ["ACCURACY", "BITS", "NETWORKS", "Metric", "Plan", "changed"]


@dataclass(frozen=True)
class Metric:
    """What a run is judged by."""

    name: str
    unit: str
    factor: float
    """By what a score is multiplied to have that unit."""
    higher_is_better: bool


ACCURACY = Metric("test accuracy", "%", 100.0, True)
BITS = Metric("bits per character", "bits", 1.0, False)

IMAGES = {
    "data": tuple(DATASETS),
    "batch_size": 128,
    "learning_rate": 1e-3,
    "hidden_rate": 1.0,
    "epochs": 5,
    "metric": ACCURACY,
}
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": IMAGES | {"hidden": (1024, 1024), "encoder": Ternary()},
    "cnn": IMAGES | {"hidden": (16, 32, 128), "encoder": Ternary()},
    "gcn": {
        "data": tuple(GRAPHS),
        "hidden": (16,),
        "epochs": 250,
        "learning_rate": 0.01,
        "hidden_rate": 1.0,
        "encoder": Ternary(threshold=0.2),
        "metric": ACCURACY,
    },
    "transformer": {
        "data": tuple(TEXTS),
        "hidden": (128, 128, 128, 128),
        "steps": 600,
        "batch_size": 32,
        "learning_rate": 3e-3,
        "hidden_rate": 0.1,
        "encoder": Ternary(stochastic=1.0, pairs=True),
        "metric": BITS,
    },
}
"""Networks: the data that they can learn, and what a plan takes if it does not say otherwise."""
COUNTS = ("epochs", "steps", "batch_size", "samples", "context", "heads")
RATES = ("learning_rate", "hidden_rate", "exposure")
FILLED = ("hidden", "epochs", "steps", "batch_size", "learning_rate", "hidden_rate", "encoder")
REGULARISED = {"bp": (0.5, 5e-4), "other": (0.1, 1e-4)}
"""Dropout and weight decay of graph networks: what is best for backpropagation is too much for fixed feedback."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is trained, and how. A run is a function of its method, its seed and this.

    What is None takes the network's own value (`NETWORKS`) when the plan is made; what has no meaning for the network
    stays None and may not be given. `dataclasses.replace` makes the next plan of a sweep.

    Raises
    ------
    ValueError
        If anything is unknown, out of range, or does not fit the data or the network: before the first run starts.
    """

    data: str = "digits"
    """digits, mnist, fashion-mnist; cora, citeseer, pubmed; tiny-shakespeare."""
    network: str | None = None
    """mlp (tanh) or cnn (tanh) for images, gcn for graphs, transformer for text."""
    hidden: tuple[int, ...] | None = None
    """Widths of the hidden blocks, or that of the only one: units of an mlp's layers; channels of a cnn's convolutions,
    then units of its fully connected layer; units of a gcn's layers; the transformer's width, once for each block."""
    epochs: int | None = None
    """Passes through images; for a graph an epoch is one step."""
    steps: int | None = None
    """Steps for text."""
    batch_size: int | None = None
    """Images or contexts in a step."""
    learning_rate: float | None = None
    """Adam's."""
    hidden_rate: float | None = None
    """Learning rate of hidden blocks on fixed feedback, in units of `learning_rate`; backpropagation has one rate. 0.1
    for a transformer (fixed feedback knows nothing of the weights, and blocks that change as fast as the output
    outrun it), 1 for the others."""
    context: int = 64
    """Characters that a transformer sees at once."""
    heads: int = 4
    """Heads of a transformer's attention."""
    dropout: float | None = None
    """Of a gcn; None is 0.5 for backpropagation and 0.1 for the others."""
    weight_decay: float | None = None
    """Of a gcn; None is 5e-4 for backpropagation and 1e-4 for the others."""
    samples: int | None = None
    """Train on the first so many training samples (nodes, characters); None for all."""
    spread: str = "each"
    """What a teaching signal has an entry for, see `dfa.DirectFeedback`."""
    diffuse: bool = True
    """Let the signals of a gcn's blocks spread over the graph once."""
    encoder: Ternary | None = None
    """How the error is ternarised; the seed of a stochastic one is the run's."""
    device: str = "lab_bench"
    """A preset's name, or a TOML file that describes a device."""
    inputs: int | None = None
    """Inputs of a preset's device; None for two for each class. The error is shown on the first ones; the others are
    the anchor's, or stay OFF with a calibration by phase stepping or off-axis."""
    device_changes: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of the device by dotted name, see `changed`."""
    exposure: float = 1.0
    """Exposure in multiples of what a person would set; for presets whose ``exposure_s`` is not among the changes."""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `calibration.measure_projection`, ``method`` among them."""
    recalibrate_every: int = 0
    """Steps after which the projection is measured again, 0 for never."""

    def __post_init__(self) -> None:
        fits = [name for name, network in NETWORKS.items() if self.data in network["data"]]
        if not fits:
            known = [data for name in ("mlp", "gcn", "transformer") for data in NETWORKS[name]["data"]]
            raise ValueError(f"data must be one of {', '.join(known)}, got {self.data!r}")
        if self.network not in (None, *fits):
            raise ValueError(f"network must be one of {', '.join(fits)} for {self.data}, got {self.network!r}")
        network = self.network or fits[0]
        object.__setattr__(self, "network", network)
        for name in FILLED:
            given, default = getattr(self, name), NETWORKS[network].get(name)
            if given is None:
                object.__setattr__(self, name, default)
            elif default is None:
                raise ValueError(f"{name} must be left out for {self.network}, got {given!r}")
        object.__setattr__(self, "hidden", widths(self.hidden))
        self._check_numbers()
        self._check_device()

    @property
    def metric(self) -> Metric:
        """What a run is judged by."""
        return NETWORKS[str(self.network)]["metric"]

    def regularisation(self, method: str) -> tuple[float, float]:
        """Dropout and weight decay of a graph network that is trained by a method."""
        dropout, decay = REGULARISED["bp" if method == "bp" else "other"]
        return (
            dropout if self.dropout is None else self.dropout,
            decay if self.weight_decay is None else self.weight_decay,
        )

    def _check_numbers(self) -> None:
        assert self.hidden is not None
        given = {name: getattr(self, name) for name in (*COUNTS, *RATES) if getattr(self, name) is not None}
        for name in given.keys() & set(COUNTS):
            integer(given[name], name, 1)
        check_numbers(**{name: given[name] for name in RATES if name in given})
        if self.network == "cnn" and len(self.hidden) < 2:
            raise ValueError(f"hidden must be the channels of a convolution or more, and the units, got {self.hidden}")
        if self.network == "transformer" and (len(set(self.hidden)) > 1 or self.hidden[0] % self.heads):
            raise ValueError(
                f"hidden must be one width, divisible by the {self.heads} heads, for all blocks, got {self.hidden}"
            )
        for name in ("dropout", "weight_decay"):
            value = getattr(self, name)
            if value is not None and self.network != "gcn":
                raise ValueError(f"{name} must be left out for {self.network}, got {value!r}")
            if value is not None and not 0 <= number(value) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {value!r}")
        if self.spread not in SPREADS:
            raise ValueError(f"spread must be one of {', '.join(SPREADS)}, got {self.spread!r}")
        if not isinstance(self.diffuse, bool):
            raise ValueError(f"diffuse must be true or false, got {self.diffuse!r}")
        if not isinstance(self.encoder, Ternary):
            raise ValueError(f"encoder must be a Ternary, got {self.encoder!r}")
        integer(self.recalibrate_every, "recalibrate_every", 0)
        if self.inputs is not None:
            integer(self.inputs, "inputs", 2)

    def _check_device(self) -> None:
        if not isinstance(self.device, str):
            raise ValueError(f"device must be a preset's name or a TOML file, got {self.device!r}")
        for name in ("device_changes", "calibration"):
            if not isinstance(getattr(self, name), Mapping):
                raise ValueError(f"{name} must be a table of values by name, got {getattr(self, name)!r}")
        known = [name for name in inspect.signature(measure_projection).parameters if name not in ("opu", "n_inputs")]
        for name in self.calibration:
            if name not in known:
                raise ValueError(f"calibration may have {', '.join(known)}, got {name!r}")
        method = self.calibration.get("method", "anchor")
        if method not in PROJECTIONS:
            raise ValueError(f"calibration.method must be one of {', '.join(PROJECTIONS)}, got {method!r}")
        try:
            check_arguments(method, **{name: value for name, value in self.calibration.items() if name != "method"})
        except ValueError as error:
            raise ValueError(f"calibration.{error}") from None
        file = presets.is_file(self.device)
        if file and self.inputs is not None:
            raise ValueError(f"inputs must be left out for a device from a file, which has its own, got {self.inputs}")
        opu = OPU.from_toml(self.device) if file else presets.get(self.device)(self.inputs or 4, 16)
        changed(opu, self.device_changes)


def widths(given: Any) -> tuple[int, ...]:
    """Return the widths of blocks, of which one may stand alone, or raise a ``ValueError``."""
    several = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    try:
        found = tuple(integer(width, "hidden", 1) for width in several)
    except ValueError:
        found = ()
    if not found:
        raise ValueError(f"hidden must be one or more positive whole numbers, got {given!r}")
    return found


def changed(opu: OPU, changes: Mapping[str, Any]) -> OPU:
    """Return the device with other parameters.

    Parameters
    ----------
    opu : OPU
        Left as it is.
    changes : mapping
        Values by dotted name, as for `OPU.replace`. A table for ``medium`` describes an effect, which is put
        around the medium that there is: ``{"medium": {"type": "Drifting", "correlation_frames": 1e5}}``.

    Raises
    ------
    ValueError
        If a name is unknown or a value out of range.
    """
    changes = dict(changes)
    effect = changes.get("medium")
    if isinstance(effect, Mapping):
        if not isinstance(effect.get("type"), str) or effect["type"] not in media.EFFECTS:
            raise ValueError(f"medium.type must be one of {', '.join(media.EFFECTS)}, got {effect.get('type')!r}")
        inner = {name: value for name, value in changes.items() if name.startswith("medium.")}
        opu = opu.replace(**inner) if inner else opu
        changes = {name: value for name, value in changes.items() if name not in inner}
        changes["medium"] = media.from_dict({**effect, "medium": opu.medium.to_dict()})
    check_effect(opu, changes)
    return opu.replace(**changes) if changes else opu


def check_effect(opu: OPU, changes: Mapping[str, Any]) -> None:
    """Raise a ``ValueError`` for a parameter of an effect that the device's medium does not have around it."""
    known = {name: kind for kind, effect in media.EFFECTS.items() for name in effect.parameters}
    for name, value in changes.items():
        part, _, parameter = name.partition(".")
        bare = part == "medium" and not isinstance(opu.medium, media.Effect)
        if bare and parameter in known and parameter not in opu.medium.to_dict():
            raise ValueError(
                f"{name} must be that of an effect around the medium, which this device does not have: put it there by "
                f'device_changes={{"medium": {{"type": "{known[parameter]}", "{parameter}": {value!r}}}}}'
            )
