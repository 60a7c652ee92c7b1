"""The settings of a training run: all of them except the method and the seed."""

from collections.abc import Mapping
from typing import Any

from pydantic import InstanceOf, field_validator, model_validator

from calibration.projections.methods import choose_method
from dfa.data import DATASETS, GRAPHS, TEXTS
from dfa.experiments.networks import NETWORKS, Metric, networks_for
from dfa.feedback.encoding import Ternary
from dfa.rules.rows import SPREADS
from photonics import OPU, presets
from photonics.component import Field, Integer, OptionalInteger, changed, component, integer

__all__ = ["Plan"]

DEFAULTED = ("hidden", "epochs", "steps", "batch_size", "learning_rate", "hidden_rate", "encoder")
"""Settings whose default is that of the network."""
REGULARISATION = {"bp": (0.5, 5e-4), "other": (0.1, 1e-4)}
"""Dropout and weight decay of graph networks: fixed feedback needs less of both than backpropagation."""


@component
class Plan:
    """The settings of a training run. A run is a function of its plan, its method and its seed.

    Settings of None take the default of the network (`dfa.experiments.networks.NETWORKS`) when the plan is made.
    A setting that does not apply to the network stays None and must not be given. `dataclasses.replace` returns the
    next plan of a sweep; ``pydantic.TypeAdapter(Plan).json_schema()`` describes a plan for other programs.

    Raises
    ------
    ValueError
        If a setting is unknown, out of range, or does not fit the data or the network.

    Examples
    --------
    >>> plan = Plan(data="digits", hidden=(64,), device_changes={"camera.bit_depth": 6})
    >>> plan.network, plan.epochs, plan.metric.name
    ('mlp', 5, 'test accuracy')
    """

    data: str = Field(default="digits", json_schema_extra={"enum": [*DATASETS, *GRAPHS, *TEXTS]})
    """Images: digits, mnist, fashion-mnist, cifar10 or cifar100. Graphs: cora, citeseer or pubmed. Text:
    tiny-shakespeare."""

    network: str | None = Field(default=None, json_schema_extra={"enum": [*NETWORKS, None]})
    """mlp or cnn (both tanh) or norm-cnn (ReLU and batch norms) for images, gcn for graphs, transformer for text.
    Default: mlp for images."""

    hidden: tuple[int, ...] | None = Field(default=None)
    """Widths of the hidden blocks, 1 or more each: units of each layer (mlp, default 1024, 1024; gcn, default 16);
    channels of each convolution, then units of the fully connected layer (cnn, default 16, 32, 128; norm-cnn, default
    32, 64, 128, 96); the same width for each block (transformer, default 128 four times). A single number stands for
    one block."""

    epochs: OptionalInteger = Field(default=None, ge=1)
    """Passes over the training images, default 5 (norm-cnn 8); steps on a graph, default 250. Not for text."""

    steps: OptionalInteger = Field(default=None, ge=1)
    """Training steps on text, default 600. Not for images and graphs."""

    batch_size: OptionalInteger = Field(default=None, ge=1)
    """Images in a step, default 128 (norm-cnn 64), or pieces of text, default 32. Not for graphs."""

    learning_rate: float | None = Field(default=None, gt=0)
    """Adam's learning rate. Default 0.001 for images, 0.01 for graphs, 0.003 for text."""

    hidden_rate: float | None = Field(default=None, gt=0)
    """Learning rate of the hidden blocks with fixed feedback, in units of `learning_rate`; backpropagation uses
    `learning_rate` for all blocks. Default 0.1 for a transformer, whose hidden blocks would otherwise change as fast as
    the output block and faster than it can follow; 1 for the other networks."""

    context: Integer = Field(default=64, ge=1)
    """Characters that a transformer sees at once."""

    heads: Integer = Field(default=4, ge=1)
    """Attention heads of a transformer; the width must be divisible by it."""

    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout of a gcn. Default 0.5 for backpropagation and 0.1 for the other methods."""

    weight_decay: float | None = Field(default=None, ge=0, lt=1)
    """Weight decay of a gcn. Default 5e-4 for backpropagation and 1e-4 for the other methods."""

    samples: OptionalInteger = Field(default=None, ge=1)
    """Number of training samples (images, nodes or characters), taken from the start. Default: all."""

    spread: str = Field(default="each", json_schema_extra={"enum": list(SPREADS)})
    """Which entries of a block's output have their own teaching signal: each, channels or features, see
    `dfa.DirectFeedback`."""

    through: str | None = Field(default=None, json_schema_extra={"enum": ["norm", None]})
    """"norm": signals enter behind a norm without parameters of each block's output, see `dfa.DirectFeedback`."""

    diffuse: bool = Field(default=True, strict=True)
    """Whether the teaching signals of a gcn are averaged over neighbouring nodes once."""

    encoder: InstanceOf[Ternary] | None = Field(default=None)
    """Ternarisation of the error; a stochastic one is seeded by the run. Default ``Ternary()`` for images,
    ``Ternary(threshold=0.2)`` for graphs and ``Ternary(stochastic=1.0, pairs=True)`` for text."""

    pixels: Integer = Field(default=64, ge=1)
    """Pixels of the device that the method learned reads, see `dfa.LeastSquares`."""

    draws: Integer = Field(default=1, ge=1)
    """Number of times that the method learned shows each error; it uses the mean."""

    fit_every: Integer = Field(default=20, ge=1)
    """Steps from one fit of the method learned to the next."""

    device: str | Mapping[str, Any] = Field(default="lab_bench")
    """Name of a preset, path of a TOML file, or description of a device as `OPU.to_dict` returns it. A preset is built
    to the size of the network, and its exposure is set. A device from a file or a description is used unchanged, except
    for the seed of its noise."""

    inputs: OptionalInteger = Field(default=None, ge=2)
    """Inputs of a preset's device; default two for each class. The first inputs show the error; the others carry the
    anchor, or stay OFF if the calibration uses the reference beam."""

    device_changes: Mapping[str, Any] = Field(default_factory=dict)
    """Parameters of the device by dotted name, see `photonics.OPU.replace`."""

    exposure: float = Field(default=1.0, gt=0)
    """Exposure relative to `OPU.autoexpose`; for presets, and only if ``exposure_s`` is not in `device_changes`."""

    calibration: Mapping[str, Any] = Field(default_factory=dict)
    """Arguments of `calibration.measure_projection`, for instance ``{"method": "phase-stepping"}``."""

    recalibrate_every: Integer = Field(default=0, ge=0)
    """Steps between two calibrations of the device; 0 calibrates it once, before the first step."""

    refresh: bool = Field(default=True, strict=True)
    """Whether optical feedback follows a device that moves, see `dfa.OpticalFeedback`."""

    @field_validator("hidden", mode="before")
    @classmethod
    def _read_widths(cls, given: Any) -> tuple[int, ...] | None:
        if given is None:
            return None
        several = tuple(given) if isinstance(given, (tuple, list)) else (given,)
        try:
            widths = tuple(integer(width, "hidden", 1) for width in several)
        except ValueError:
            widths = ()
        if not widths:
            raise ValueError(f"hidden must be one or more positive whole numbers, got {given!r}")
        return widths

    @field_validator("device", mode="before")
    @classmethod
    def _copy_device(cls, device: object) -> object:
        if not isinstance(device, (str, Mapping)):
            raise ValueError(f"device must be a preset's name, a TOML file or a description, got {device!r}")
        return device

    @model_validator(mode="after")
    def _take_defaults(self) -> "Plan":
        names = networks_for(self.data)
        if self.network not in (None, *names):
            raise ValueError(f"network must be one of {', '.join(names)} for {self.data}, got {self.network!r}")
        name = self.network or names[0]
        object.__setattr__(self, "network", name)
        for setting in DEFAULTED:
            given, default = getattr(self, setting), getattr(NETWORKS[name], setting)
            if given is None:
                object.__setattr__(self, setting, default)
            elif default is None:
                raise ValueError(f"{setting} must be left out for {name}, got {given!r}")
        return self

    @model_validator(mode="after")
    def _fit_network(self) -> "Plan":
        hidden = self.hidden
        assert hidden is not None
        if self.network in ("cnn", "norm-cnn") and len(hidden) < 2:
            raise ValueError(f"hidden must have channels of one or more convolutions, then units, got {hidden}")
        if self.network == "transformer" and (len(set(hidden)) > 1 or hidden[0] % self.heads):
            raise ValueError(f"hidden must be one width for all blocks, divisible by {self.heads} heads, got {hidden}")
        for name, value in (("dropout", self.dropout), ("weight_decay", self.weight_decay)):
            if value is not None and self.network != "gcn":
                raise ValueError(f"{name} must be left out for {self.network}, got {value!r}")
        if self.through not in (None, "norm"):
            raise ValueError(f"through must be 'norm' or None, got {self.through!r}")
        if self.spread not in SPREADS:
            raise ValueError(f"spread must be one of {', '.join(SPREADS)}, got {self.spread!r}")
        return self

    @model_validator(mode="after")
    def _check_calibration(self) -> "Plan":
        try:
            choose_method(**self.calibration)
        except ValueError as error:
            raise ValueError(f"calibration: {error}") from None
        return self

    @model_validator(mode="after")
    def _check_device(self) -> "Plan":
        opu = self.described_device()
        if opu is not None and self.inputs is not None:
            raise ValueError(
                f"inputs must be left out for a device from a file or a description, which has its own, "
                f"got {self.inputs}"
            )
        if opu is None:
            opu = presets.get(str(self.device))(self.inputs or 4, 16)  # no matrix is drawn before the first frame
        opu.replace(**self.device_changes)
        return self

    def __repr__(self) -> str:
        return changed(self)

    @property
    def metric(self) -> Metric:
        """The score of a run."""
        return NETWORKS[str(self.network)].metric

    def regularisation(self, method: str) -> tuple[float, float]:
        """Dropout and weight decay of a graph network that is trained by a method."""
        dropout, decay = REGULARISATION["bp" if method == "bp" else "other"]
        return (
            dropout if self.dropout is None else self.dropout,
            decay if self.weight_decay is None else self.weight_decay,
        )

    def described_device(self) -> OPU | None:
        """Build the device of a file or a description, without `device_changes`; None for a preset."""
        if isinstance(self.device, Mapping):
            return OPU.from_dict(self.device)
        return OPU.from_toml(self.device) if presets.is_file(self.device) else None
