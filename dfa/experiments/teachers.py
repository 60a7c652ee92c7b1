"""The training methods of a planned run: feedback, the device behind it, and the learning rule."""

import math
import warnings
from dataclasses import replace

from torch import nn

from calibration import measure_projection
from calibration.camera.noise import Unsteady
from dfa.data import Graph
from dfa.experiments.plans import Plan
from dfa.experiments.tasks import Data, signal_width
from dfa.feedback.base import Feedback
from dfa.feedback.fitted import LeastSquares
from dfa.feedback.learned import LearnedFeedback
from dfa.feedback.optical import OpticalFeedback
from dfa.feedback.random import RandomFeedback
from dfa.feedback.ranks import RankDevice
from dfa.rules.direct import DirectFeedback
from dfa.rules.layerwise import LayerFeedback
from dfa.rules.learner import Learner
from photonics import OPU, presets
from photonics.component import choose
from photonics.medium import Effect

__all__ = [
    "METHODS", "OPTICAL", "STANDARD_METHODS", "build_device", "build_feedback", "build_learner", "check_methods",
    "optical_source", "set_exposure", "unexposed_device",
]  # fmt: skip

METHODS = {
    "bp": "backpropagation",
    "dfa": "DFA",
    "ternary": "ternary DFA",
    "optical": "optical DFA",
    "last-layer": "last layer only",
    "separate": "DFA, separate matrices",
    "alignment": "feedback alignment",
    "sign": "sign-symmetric",
    "learned": "learned feedback, optical",
}
"""Training methods by name, with the label that tables and figures show."""
STANDARD_METHODS = ("bp", "dfa", "ternary", "optical", "last-layer")
"""The methods that "all" stands for; the others are variants of DFA."""
LAYERWISE = {"alignment": "random", "sign": "sign"}
"""Methods that send the error back layer by layer, with the kind of their matrices in `LayerFeedback`."""
OPTICAL = ("optical", "learned")
"""Methods that send the error through the device."""
USABLE_PIXELS = 0.92
"""Share of the pixels that is assumed to be usable. About 5 % have a dark anchor, and this share varies."""


def check_methods(methods: list[str], plan: Plan) -> list[str]:
    """Return the methods if all are known, differ, and can train the network, else raise a ``ValueError``."""
    for method in methods:
        choose(METHODS, method, "method")
        if method == "learned" and plan.network == "gcn" and plan.diffuse:
            raise ValueError("method must not be 'learned' for gcn with diffuse: signals are fitted before diffusion")
        if method in LAYERWISE and plan.network == "gcn":
            raise ValueError(f"method must not be {method!r} for gcn: it needs a chain of linear layers")
    if len(set(methods)) < len(methods):
        raise ValueError(f"method must name each method once, got {', '.join(methods)}")
    return methods


def build_device(plan: Plan, classes: int, width: int, seed: int) -> OPU:
    """Build the device of a run and set its exposure.

    A preset is built with the plan's inputs, or two for each class, and with a pixel for each entry of the teaching
    signals (and some spare ones). Its exposure is set unless it is among the changes. A device from a file or a
    description is used unchanged, except for the plan's changes and the seed of the noise.

    Raises
    ------
    ValueError
        If the device has too few inputs or pixels for the network.
    """
    opu = unexposed_device(plan, classes, width, seed)
    set_exposure(opu, plan)
    return opu


def unexposed_device(plan: Plan, classes: int, width: int, seed: int) -> OPU:
    """Build the device of a run as `build_device`, without its exposure."""
    pixels = math.ceil(width / USABLE_PIXELS) + 16
    opu = plan.described_device()
    if opu is not None:
        opu = opu.replace(**{"seed": seed, **plan.device_changes})
    else:
        opu = presets.get(str(plan.device))(plan.inputs or 2 * classes, pixels, seed=seed)
        opu = opu.replace(**plan.device_changes)
    if opu.n_in <= classes or opu.n_out < pixels:
        raise ValueError(
            f"device must have more than {classes} inputs and at least {pixels} pixels for this network, "
            f"got {opu.n_in} inputs and {opu.n_out} pixels: {remedy(plan, opu, classes, pixels)}"
        )
    return opu


def remedy(plan: Plan, opu: OPU, classes: int, pixels: int) -> str:
    """What to write if a device is too small for a network."""
    inputs, outputs, medium, table = max(opu.n_in, 2 * classes), max(opu.n_out, pixels), opu.medium, "medium"
    if plan.described_device() is None:
        return (
            f"leave out training.inputs and changes that make a preset smaller, which has {2 * classes} inputs and "
            f"{pixels} pixels by itself"
        )
    while isinstance(medium, Effect):
        medium, table = medium.medium, f"{table}.medium"
    if opu.imaging.sensor or medium.shape[0] != opu.n_out or "n_out" not in medium.to_dict():
        larger = f"choose a device with {inputs} inputs and {outputs} pixels"
    else:
        options = f"--set {table}.n_in={inputs} --set {table}.n_out={outputs}"
        larger = f"write n_in = {inputs} and n_out = {outputs} in the table [{table}] of its file, or {options}"
    return f"{larger}; fewer hidden units need fewer pixels"


def set_exposure(device: OPU | RankDevice, plan: Plan) -> None:
    """Set the exposure of a preset's device, unless it is among the plan's changes."""
    if plan.described_device() is None and "exposure_s" not in plan.device_changes:
        device.autoexpose()
        device.exposure_s = min(plan.exposure * device.exposure_s, device.longest_exposure_s)


def build_feedback(method: str, plan: Plan, data: Data, seed: int, opu: OPU | None = None) -> Feedback | None:
    """Build the source of a method's teaching signals; for ``optical`` and ``learned``, the device is calibrated.

    None for methods without fixed feedback from the output: ``bp``, ``last-layer``, ``alignment``, ``sign``. Also None,
    with a warning, for ``optical`` on a device that moves too fast to be calibrated: the last block then learns alone.
    `opu` is the device from `build_device`, if it has been built already.
    """
    assert plan.encoder is not None
    encoder = replace(plan.encoder, seed=seed)
    if method in ("dfa", "separate"):
        return RandomFeedback(seed, shared=method == "dfa")
    if method == "ternary":
        return RandomFeedback(seed, encoder)
    if method not in OPTICAL:
        return None

    width = plan.pixels if method == "learned" else signal_width(plan, data)
    opu = opu or build_device(plan, data.classes, width, seed)
    try:
        projection = measure_projection(opu, n_inputs=data.classes, **plan.calibration)
    except Unsteady as error:
        if method == "learned" or not plan.refresh:
            raise
        warnings.warn(
            f"the last block learns alone, since the device moves too fast to be calibrated: {error}", stacklevel=2
        )
        return None
    source = OpticalFeedback(
        projection,
        encoder,
        recalibrate_every=plan.recalibrate_every,
        refresh=plan.refresh,
    )
    return LeastSquares(source, plan.pixels, plan.draws, every=plan.fit_every) if method == "learned" else source


def optical_source(feedback: Feedback | None) -> OpticalFeedback | None:
    """The feedback that shows errors to the device: itself, or the source of one that learns; None without a device."""
    source = feedback.source if isinstance(feedback, LearnedFeedback) else feedback
    return source if isinstance(source, OpticalFeedback) else None


def build_learner(
    method: str, plan: Plan, model: nn.Module, data: Data, seed: int, feedback: Feedback | None
) -> Learner | None:
    """Return the rule that trains a model by a method, with what `build_feedback` returned; None for ``bp``."""
    if method == "bp":
        return None
    if method in LAYERWISE:
        return LayerFeedback(model, LAYERWISE[method], seed)
    diffuse = data.adjacency if isinstance(data, Graph) and plan.diffuse else None
    return DirectFeedback(model, feedback=feedback, spread=plan.spread, diffuse=diffuse, through=plan.through)
