"""Rules that send the error back layer by layer, as backpropagation does, but through other weights than its own."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.hooks import RemovableHandle

from dfa.errors import check_loss
from dfa.feedback.random import gaussian
from dfa.rules.blocks import Blocks, whole
from dfa.rules.learner import Hook, Learner, Output
from photonics.random import check_seed

__all__ = ["LayerFeedback"]

WEIGHTS = ("transposed", "random", "sign")
LAYERWISE = 2**47
"""First tick of the layers' matrices in the stream of feedback."""
Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


class LayerFeedback(Learner):
    """Backpropagation, feedback alignment or sign-symmetric feedback, with the interface of `DirectFeedback`.

    They go back through the layers one after the other, so they are another rule than direct feedback and not a source
    of signals for it: a linear or convolutional layer with weight W gives its own parameters their usual gradient, and
    the layer before the error through a matrix B in the place of W. Everything else (activations, norms, attention
    between its linear layers) keeps its derivative.

    Parameters
    ----------
    model : nn.Module
        Called as usual; hooks on its linear and convolutional layers change their backward pass, until `remove`. A
        layer whose weight is used without calling it (inside ``nn.MultiheadAttention``) keeps its own.
    weights : {"transposed", "random", "sign"}
        B is W (backpropagation), fixed and random (feedback alignment), or ``sign(W)`` as W is now (sign-symmetric).
        The latter two have entries of variance ``1/(3 fan_in)``, that of torch's own initial weights, with
        ``fan_in`` the number of weights behind an output channel.
    seed : int
        The random matrices are a function of it and of the layer's number and shape.
    blocks : optional
        As for `DirectFeedback`: they only name the parts for which `dfa.alignment` gives angles. By default those found
        there, or else the whole model.

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
            super().__init__(model, [whole(model)])
        if weights not in WEIGHTS:
            raise ValueError(f"weights must be one of {WEIGHTS}, got {weights!r}")
        self.weights, self.seed = weights, check_seed(seed)
        self._matrices: dict[int, Tensor] = {}
        self._inputs: list[Tensor | None] = []
        if weights != "transposed" and not self._layers():
            raise ValueError(
                f"model must have linear or convolutional layers, got none in {type(whole(model)).__name__}: weights "
                "of other kinds are not replaced"
            )
        self._attach()

    def backward(self, loss: Tensor, output: Output | None = None, *, loss_scale: float = 1.0) -> None:
        """Add the gradient to ``.grad`` of every parameter.

        Parameters
        ----------
        loss : Tensor, scalar
            Loss of this batch.
        output, loss_scale
            For the same call as `DirectFeedback.backward`; not needed.

        Raises
        ------
        ValueError
            If the loss is not finite, or the hooks have been taken off.
        """
        check_loss(loss)
        if self.weights != "transposed" and not self._handles:
            raise ValueError("model must have this learner's hooks, which were taken off by remove or another learner")
        self._inputs.clear()
        loss.backward()

    def matrix(self, layer: int) -> Tensor:
        """B of a layer, counted in the order of ``model.modules()``, in the shape of its weight."""
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

    def state_dict(self) -> dict[str, Any]:
        """Rule, blocks and seed, in plain types."""
        return {"rule": "layerwise", "blocks": self.names, "weights": self.weights, "seed": self.seed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Check that a saved state is of this rule, and take its seed."""
        self._check_state({**state, "seed": self.seed})
        self.seed = check_seed(state["seed"])
        self._matrices.clear()

    def _layers(self) -> list[Any]:
        return [module for module in whole(self.model).modules() if isinstance(module, Layer)]

    def _hook(self) -> list[RemovableHandle]:
        handles = []
        if self.weights != "transposed":
            for i, layer in enumerate(self._layers()):
                handles.append(layer.register_forward_pre_hook(Hook(self._before), with_kwargs=True))
                handles.append(layer.register_forward_hook(Hook(self._after, i)))
        return handles

    def _before(
        self, layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Take the layer's input off the graph, so that nothing goes back through W."""
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

    def _sent_back(self, place: int, shape: torch.Size, gradient: Tensor) -> Tensor:
        """Error at a layer's output, through B to its input."""
        layer, matrix = self._layers()[place], self.matrix(place)
        if isinstance(layer, nn.Linear):
            return gradient @ matrix.to(gradient.dtype)
        with self.connected(), torch.enable_grad():  # the layer is linear: any input has its derivative
            probe = torch.zeros(shape, dtype=matrix.dtype, device=gradient.device, requires_grad=True)
            response = functional_call(layer, {"weight": matrix}, (probe,))
            return torch.autograd.grad(response, probe, gradient.to(response.dtype))[0]

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_inputs": []}


class Through(torch.autograd.Function):
    """A layer's output as it is; its gradient also goes to the layer's input, through B."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, output: Tensor, learner: LayerFeedback, place: int) -> Tensor:
        ctx.learner, ctx.place, ctx.shape, ctx.dtype = learner, place, source.shape, source.dtype
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        sent = ctx.learner._sent_back(ctx.place, ctx.shape, gradients[0])
        return sent.to(ctx.dtype), gradients[0], None, None
