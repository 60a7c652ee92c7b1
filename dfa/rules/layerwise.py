"""Rules that propagate the error backwards layer by layer, as backpropagation does, but through other matrices."""

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.func import functional_call
from torch.utils.hooks import RemovableHandle

from dfa.errors import check_loss
from dfa.feedback.base import State
from dfa.feedback.random import gaussian
from dfa.rules.blocks import Blocks, unwrap
from dfa.rules.learner import Hook, Learner, Output
from photonics.random import check_seed

__all__ = ["LayerFeedback"]

WEIGHTS = ("transposed", "random", "sign")
LAYERWISE = 2**47
"""First tick of the layers' matrices in the random stream of feedback."""
Layer: TypeAlias = (
    nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
)


class LayerFeedback(Learner):
    """Backpropagation, feedback alignment or sign-symmetric feedback, with the interface of `DirectFeedback`.

    These rules propagate the error through the layers one after the other. A linear or convolutional layer with weight
    W gives its own parameters their usual gradient, and propagates the error to the layer before it through a matrix B
    instead of W. Everything else (activations, norms, attention between its linear layers) keeps its derivative.

    Parameters
    ----------
    model : nn.Module
        Called as usual. Hooks on its linear and convolutional layers change their backward pass, until `remove`. A
        layer whose weight is used without calling it (inside ``nn.MultiheadAttention``) is not changed.
    weights : {"transposed", "random", "sign"}
        B is W (backpropagation), fixed and random (feedback alignment), or proportional to ``sign(W)`` of the current W
        (sign-symmetric). The latter two have entries of variance ``1/(3 fan_in)``, that of torch's initial weights,
        where ``fan_in`` is the number of weights of an output channel.
    seed : int
        The random matrices are a function of it, and of the number and shape of the layer.
    blocks : optional
        As for `DirectFeedback`. They only name the parts for which `dfa.alignment` gives angles. By default those that
        `DirectFeedback` finds, or the whole model if it finds none.

    Raises
    ------
    ValueError
        If `weights` is unknown, a block is not found, or the model has no linear or convolutional layer.

    References
    ----------
    T. Lillicrap et al., Nat. Commun. 7, 13276 (2016): feedback alignment. Q. Liao, J. Leibo, T. Poggio, AAAI 2016
    (arXiv:1510.05067): sign-symmetric (their uSF).
    """

    def __init__(self, model: nn.Module, weights: str = "random", seed: int = 0, blocks: Blocks | None = None) -> None:
        try:
            super().__init__(model, blocks)
        except ValueError:
            if blocks is not None or not isinstance(model, nn.Module):
                raise
            super().__init__(model, [unwrap(model)])
        if weights not in WEIGHTS:
            raise ValueError(f"weights must be one of {WEIGHTS}, got {weights!r}")
        self.weights, self.seed = weights, check_seed(seed)
        self._matrices: dict[int, Tensor] = {}
        self._inputs: list[Tensor | None] = []
        if weights != "transposed" and not self._layers():
            raise ValueError(
                f"model must have linear or convolutional layers, got none in {type(unwrap(model)).__name__}: only "
                "their weights are replaced"
            )
        self._attach()

    def _rule(self) -> str:
        return f"weights={self.weights!r}, seed={self.seed}"

    def backward(self, loss: Tensor, output: Output | None = None, *, loss_scale: float = 1.0) -> None:
        """Add the gradient to ``.grad`` of every parameter.

        Parameters
        ----------
        loss : Tensor, scalar
            Loss of this batch.
        output, loss_scale
            Not used; accepted so that the call is the same as that of `DirectFeedback.backward`.

        Raises
        ------
        ValueError
            If the loss is not finite, or the hooks have been removed.
        """
        check_loss(loss)
        if self.weights != "transposed" and not self._handles:
            raise ValueError("model must have this learner's hooks, which were removed by remove or another learner")
        self._inputs.clear()
        loss.backward()

    def matrix(self, layer: int) -> Tensor:
        """B of a layer, in the shape of its weight. Layers are counted in the order of ``model.modules()``."""
        weight = self._layers()[layer].weight
        deviation = 1.0 / math.sqrt(3.0 * weight[0].numel())
        if self.weights == "transposed":
            return weight.detach()
        if self.weights == "sign":
            return weight.detach().sign() * deviation
        kept = self._matrices.get(layer)
        if kept is None or kept.dtype != weight.dtype or kept.device != weight.device:
            kept = (gaussian(self.seed, tuple(weight.shape), LAYERWISE + layer) * deviation).to(weight)
            self._matrices[layer] = kept
        return kept

    def state_dict(self) -> State:
        """Rule, blocks and seed, in plain types."""
        return {"rule": "layerwise", "blocks": self.names, "weights": self.weights, "seed": self.seed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Check that a saved state belongs to this rule, and take its seed."""
        self._check_state({**state, "seed": self.seed})
        self.seed = check_seed(state["seed"])
        self._matrices.clear()

    def _layers(self) -> list[Layer]:
        return [module for module in unwrap(self.model).modules() if isinstance(module, Layer)]

    def _hook(self) -> list[RemovableHandle]:
        handles = []
        if self.weights != "transposed":
            for i, layer in enumerate(self._layers()):
                handles.append(layer.register_forward_pre_hook(Hook(self, self._before), with_kwargs=True))
                handles.append(layer.register_forward_hook(Hook(self, self._after, i)))
        return handles

    def _before(
        self, layer: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]] | None:
        """Detach the input of a layer, so that no error is propagated through W."""
        source = inputs[0] if inputs else named.get("input")
        if not self._active or source is None:
            return None
        self._inputs.append(source if source.requires_grad else None)
        cut = source.detach()
        return ((cut, *inputs[1:]), named) if inputs else ((), named | {"input": cut})

    def _after(self, place: int, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if not self._active:
            return None
        source = self._inputs.pop()
        return None if source is None else Through.apply(source, output, self, place)

    def _propagate(self, place: int, shape: torch.Size, gradient: Tensor) -> Tensor:
        """Propagate the error at a layer's output through B to its input."""
        layer, matrix = self._layers()[place], self.matrix(place)
        if isinstance(layer, nn.Linear):
            return gradient @ matrix.to(gradient.dtype)
        with self.connected(), torch.enable_grad():  # a linear layer has the same derivative at any input
            probe = torch.zeros(shape, dtype=matrix.dtype, device=gradient.device, requires_grad=True)
            response = functional_call(layer, {"weight": matrix}, (probe,))
            return torch.autograd.grad(response, probe, gradient.to(response.dtype))[0]

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_inputs": []}


class Context(FunctionCtx):
    """Values that `Through` keeps between its forward and its backward pass."""

    learner: LayerFeedback
    place: int
    shape: torch.Size
    dtype: torch.dtype


class Through(torch.autograd.Function):
    """Identity on a layer's output, whose gradient is also propagated through B to the layer's input."""

    @staticmethod
    def forward(ctx: Context, source: Tensor, output: Tensor, learner: LayerFeedback, place: int) -> Tensor:
        ctx.learner, ctx.place, ctx.shape, ctx.dtype = learner, place, source.shape, source.dtype
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Context, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        sent = ctx.learner._propagate(ctx.place, ctx.shape, gradients[0])
        return sent.to(ctx.dtype), gradients[0], None, None
