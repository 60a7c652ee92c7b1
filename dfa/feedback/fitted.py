"""Two kinds of feedback that learns: least squares on true gradients, and correlations without any gradient."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dfa.feedback.base import CodedFeedback, State
from dfa.feedback.encoding import Code
from dfa.feedback.learned import LearnedFeedback
from photonics.component import integer, number

__all__ = ["KolenPollack", "LeastSquares"]


class LeastSquares(LearnedFeedback):
    """Feedback fitted by least squares on the true gradient, which is computed in one step out of `every`.

    ``Q_k = A_k (S + ridge I)^-1`` with the moving averages ``A_k = E[g_k u^T]`` and ``S = E[u u^T]`` over the steps of
    the fits; g_k is the gradient of the loss with respect to the output of block k, for each row. It is used for the
    fit only. This is the linear map of u with the smallest mean square error.

    With `exact` the fit uses the exact error, which electronics knows: ``u' = P e`` in place of u in A_k, and
    ``S = E[u' u'^T] + E[(u - u') (u - u')^T]``. The averages are the same for an unbiased code and unbiased noise, but
    neither disturbs A_k. P is measured through the source: each unit vector is shown `repeats` times before the first
    fit. For a device that drifts, set `exact` to False.

    A step with a fit does not work in a model compiled by ``torch.compile``, which raises an error.

    Parameters
    ----------
    source, pixels, draws
        As for `LearnedFeedback`.
    every : int
        Steps from one fit to the next.
    rate : float
        Weight of a new fit in the averages, 0 to 1; the first fits have equal weights.
    ridge : float
        Ridge in units of the mean variance of u in the directions that errors take.
    exact : bool
        Fit on the exact error.
    repeats : int
        Number of times that P is measured; only with `exact`.

    Attributes
    ----------
    fits : int
        Number of fits, so of true gradients.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from dfa import DirectFeedback, LeastSquares, RandomFeedback
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    >>> feedback = LeastSquares(RandomFeedback(seed=0), pixels=6)
    >>> dfa = DirectFeedback(model, feedback=feedback)
    >>> output = model(torch.ones(2, 4))
    >>> dfa.backward(nn.functional.cross_entropy(output, torch.tensor([0, 2])), output)
    >>> feedback.fits
    1
    """

    needs = "gradients"
    variant = "least squares"

    def __init__(
        self,
        source: CodedFeedback,
        pixels: int = 64,
        draws: int = 1,
        *,
        every: int = 20,
        rate: float = 0.1,
        ridge: float = 0.01,
        exact: bool = True,
        repeats: int = 16,
    ) -> None:
        super().__init__(source, pixels, draws)
        self.every, self.repeats = integer(every, "every", 1), integer(repeats, "repeats", 1)
        self.rate, self.ridge, self.exact = number(rate), number(ridge), bool(exact)
        if not 0 < self.rate <= 1:
            raise ValueError(f"rate must be over 0 and at most 1, got {rate!r}")
        if not 0 < self.ridge < float("inf"):
            raise ValueError(f"ridge must be over 0 and finite, got {ridge!r}")
        self.fits = 0
        self._sums: list[Tensor] = []
        self._squares: list[Tensor] = []
        self._columns: list[Tensor] = []

    @property
    def due(self) -> bool:
        """Whether the coming step needs the true gradients."""
        return self.steps % self.every == 0 and not self._rehearsing

    def _learn(self, error: Tensor, targets: Sequence[Tensor | None]) -> None:
        exact, u = self._exact(error), self.show(error)
        weight = max(self.rate, 1.0 / (self.fits + 1))
        square = exact.T @ exact / len(exact)
        if self.exact:
            square += (u - exact).T @ (u - exact) / len(u)
        if not self._sums:
            self._sums = [torch.zeros_like(q) for q in self._matrices]
            self._squares = [torch.zeros_like(square) for _ in self._matrices]
        rank = min(self.pixels, error.shape[1])
        for k, g in enumerate(targets):
            if g is None:
                continue
            self._sums[k].lerp_(g.T @ exact / len(exact), weight)
            self._squares[k].lerp_(square, weight)
            s = self._squares[k]
            ridge = self.ridge * s.trace().clamp(min=1e-30) / rank
            system = s + ridge * torch.eye(self.pixels, dtype=s.dtype, device=s.device)
            self._matrices[k] = torch.linalg.solve(system, self._sums[k], left=False)
            self.products += self.pixels * (len(exact) * g.shape[1] + self.pixels * (g.shape[1] + self.pixels))
        self.products += 2 * len(exact) * self.pixels**2
        self.fits += any(g is not None for g in targets)

    def _exact(self, error: Tensor) -> Tensor:
        """``P e`` without code and noise, or the projection that was shown: (rows, pixels)."""
        if not self.exact:
            return self.show(error)
        if not self._columns:
            units = torch.eye(error.shape[1], dtype=error.dtype, device=error.device)
            code = Code(units.to(torch.int8), None)
            seen = [self.source.signals(code, [self.pixels], error.dtype)[0] for _ in range(self.repeats)]
            self._columns = [torch.stack(seen).mean(dim=0)]
        self.products += error.numel() * self.pixels
        return error @ self._columns[0]

    def _tensors(self) -> dict[str, list[Tensor]]:
        own = {"sums": self._sums, "squares": self._squares, "columns": self._columns}
        return super()._tensors() | own

    def _load_tensors(self, tensors: Mapping[str, list[Tensor]]) -> None:
        super()._load_tensors(tensors)
        self._sums, self._squares, self._columns = tensors["sums"], tensors["squares"], tensors["columns"]

    def state_dict(self) -> State:  # noqa: D102 (inherited)
        return super().state_dict() | {"fits": self.fits}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: D102 (inherited)
        super().load_state_dict(state)
        self.fits = int(state["fits"])


class KolenPollack(LearnedFeedback):
    """Feedback that follows the correlation of outputs and errors, without any gradient.

    In each step ``Q_k <- (1 - decay) Q_k - E[(h_k - mean h_k) u^T]``, as the weights of a linear readout of h_k would
    change by their own gradient, seen through P. The signals of a batch have the mean zero.

    Parameters
    ----------
    source, pixels, draws
        As for `LearnedFeedback`.
    decay : float
        Decay of the matrices in a step, over 0 and at most 1.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    References
    ----------
    J. Kolen, J. Pollack, "Backpropagation without weight transport", ICNN 1994; M. Akrout et al., NeurIPS 2019
    (arXiv:1904.05391); for direct feedback M. Refinetti, S. d'Ascoli, R. Ohana, S. Goldt, ICML 2021 (arXiv:2011.12428)
    explain why the readout aligns.
    """

    needs = "outputs"
    variant = "kolen-pollack"

    def __init__(self, source: CodedFeedback, pixels: int = 64, draws: int = 1, *, decay: float = 1e-3) -> None:
        super().__init__(source, pixels, draws)
        self.decay = number(decay)
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay must be over 0 and at most 1, got {decay!r}")

    def _learn(self, error: Tensor, targets: Sequence[Tensor | None]) -> None:
        u = self.show(error)
        for q, h in zip(self._matrices, targets, strict=True):
            if h is not None:
                q.mul_(1.0 - self.decay).addmm_((h - h.mean(dim=0)).T, u, alpha=-1.0 / len(u))
                self.products += u.numel() * h.shape[1]

    def __call__(self, error: Tensor, widths: Sequence[int]) -> list[Tensor]:
        """Teaching signals of the blocks: (rows, classes) -> one (rows, width) tensor for each width."""
        return [signal - signal.mean(dim=0) for signal in super().__call__(error, widths)]
