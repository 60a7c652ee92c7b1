"""What teaches the hidden blocks of a planned run: its feedback, with the device behind it, and its learning rule."""

import math
from dataclasses import replace

from torch import nn

from calibration import LinearProjection, measure_projection
from dfa.data import Dataset, Graph, Text
from dfa.experiments.devices import change_device
from dfa.experiments.plans import Plan
from dfa.feedback.base import Feedback
from dfa.feedback.optical import OpticalFeedback
from dfa.feedback.random import RandomFeedback
from dfa.rules.direct import DirectFeedback
from dfa.rules.layerwise import LayerFeedback
from dfa.rules.learner import Learner
from photonics import OPU, presets

__all__ = ["METHODS", "STANDARD", "check_methods", "feedback", "learner_for", "training_device"]

METHODS = {
    "bp": "backpropagation",
    "dfa": "DFA",
    "ternary": "ternary DFA",
    "optical": "optical DFA",
    "last-layer": "last layer only",
    "separate": "DFA, separate matrices",
    "alignment": "feedback alignment",
    "sign": "sign-symmetric",
}
STANDARD = ("bp", "dfa", "ternary", "optical", "last-layer")
"""What is compared if a user asks for all methods: the others are variants."""
LAYERWISE = {"alignment": "random", "sign": "sign"}
SPARE_ROWS = 0.92
"""Share of pixels counted on: 5 % have a dark anchor, and that share varies."""


def check_methods(methods: list[str], plan: Plan) -> list[str]:
    """Return the methods if all are known and can train the network, else raise a ``ValueError``."""
    for method in methods:
        if not isinstance(method, str) or method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
        if method in LAYERWISE and plan.network == "gcn":
            raise ValueError(f"method must be another for gcn: {method} goes back through linear layers alone")
    return methods


def training_device(plan: Plan, classes: int, width: int, seed: int) -> OPU:
    """Build the device that a run is trained through, its exposure set.

    A preset is built with the plan's inputs, or two for each class, and with a pixel for each entry of the teaching
    signals (and some spare ones). It is exposed unless its exposure is among the changes. A device from a file or a
    description is used as it is, but for the plan's changes and the seed of the noise.

    Raises
    ------
    ValueError
        If the device has too few inputs or pixels for the network.
    """
    pixels = math.ceil(width / SPARE_ROWS) + 16
    opu = plan.described_device()
    if opu is not None:
        opu = change_device(opu, {"seed": seed} | dict(plan.device_changes))
    else:
        opu = presets.get(str(plan.device))(plan.inputs or 2 * classes, pixels, seed=seed)
        opu = change_device(opu, plan.device_changes)
        if "exposure_s" not in plan.device_changes:
            opu.autoexpose()
            opu.exposure_s = min(plan.exposure * opu.exposure_s, opu.longest_exposure_s)
    if opu.n_in <= classes or opu.n_out < pixels:
        raise ValueError(
            f"device must have more than {classes} inputs and at least {pixels} pixels for this network, "
            f"got {opu.n_in} inputs and {opu.n_out} pixels"
        )
    return opu


def feedback(method: str, plan: Plan, data: Dataset | Graph | Text, seed: int, width: int = 0) -> Feedback | None:
    """The source of teaching signals of a method; `width` is that of all hidden blocks' signals together."""
    assert plan.encoder is not None
    encoder = replace(plan.encoder, seed=seed)
    if method in ("dfa", "separate"):
        return RandomFeedback(seed, shared=method == "dfa")
    if method == "ternary":
        return RandomFeedback(seed, encoder)
    if method != "optical":
        return None

    def measured(opu: OPU) -> LinearProjection:
        return measure_projection(opu, n_inputs=data.classes, **plan.calibration)

    opu = training_device(plan, data.classes, width or sum(plan.hidden or ()), seed)
    every = plan.recalibrate_every
    return OpticalFeedback(measured(opu), encoder, recalibrate_every=every, recalibrate=measured)


def learner_for(
    method: str,
    plan: Plan,
    model: nn.Module,
    data: Dataset | Graph | Text,
    seed: int,
    width: int,
    signals: Feedback | None = None,
) -> Learner | None:
    """Return the rule that trains a model by a method; None is plain backpropagation.

    `signals` is the method's `feedback`, if it has been built already.
    """
    if method == "bp":
        return None
    if method in LAYERWISE:
        return LayerFeedback(model, LAYERWISE[method], seed)
    diffuse = data.adjacency if isinstance(data, Graph) and plan.diffuse else None
    signals = signals or feedback(method, plan, data, seed, width)
    return DirectFeedback(model, feedback=signals, spread=plan.spread, diffuse=diffuse)
