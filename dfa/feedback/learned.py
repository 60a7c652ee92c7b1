"""Feedback that learns: a fixed projection of the error, then a learned matrix for each block."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

from torch import Tensor

from dfa.feedback.base import CodedFeedback, Feedback, State
from photonics.component import integer

__all__ = ["LearnedFeedback"]


class LearnedFeedback(Feedback):
    """Base class of feedback that learns: ``delta_k = Q_k u`` with ``u = P e``, P fixed and Q_k learned.

    The source (the device, or a random matrix) shows the error and returns `pixels` values u. Electronics multiplies
    them by a matrix Q_k for each block, which starts at zero. So this costs ``pixels * width`` multiplications for each
    row, where fixed feedback costs none outside of the device.

    With at least as many pixels as classes, the optics is superfluous: ``Q_k P`` is a matrix of (width, classes), which
    electronics can multiply by e without noise, and with no more work. With many more classes than pixels, sums of
    random groups of entries of e (a count sketch) teach as well as P, without the light (docs/codes.md).

    `DirectFeedback` calls `learn` before each call, with what `needs` names: the true gradients of the blocks' outputs,
    only where `due` is true, or the outputs themselves.

    Parameters
    ----------
    source : CodedFeedback
        `OpticalFeedback`, `RandomFeedback` or `MediumFeedback`. It needs only `pixels` outputs.
    pixels : int
        Length of u.
    draws : int
        Number of times that each error is shown; u is the mean. It reduces the noise of the device and of a stochastic
        code, and takes as many times the frames.

    Attributes
    ----------
    products : int
        Multiplications of numbers so far, outside of the source.
    bytes : int
        Memory of the learned matrices and of all other tensors of the state.

    Raises
    ------
    ValueError
        If a parameter is out of range. In a call: if the blocks have other widths than in the first call.
    """

    needs: ClassVar[Literal["gradients", "outputs"]]
    variant: ClassVar[str]

    def __init__(self, source: CodedFeedback, pixels: int = 64, draws: int = 1) -> None:
        if not isinstance(source, CodedFeedback):
            raise ValueError(
                f"source must be OpticalFeedback, RandomFeedback or MediumFeedback, got {type(source).__name__}"
            )
        self.source = source
        source.rests = False
        self.pixels, self.draws = integer(pixels, "pixels", 1), integer(draws, "draws", 1)
        self.steps, self.products = 0, 0
        self._matrices: list[Tensor] = []
        self._shown: tuple[Tensor, Tensor] | None = None
        self._rehearsing = False

    @property
    def due(self) -> bool:
        """Whether the coming step needs the true gradients."""
        return False

    @property
    def frames(self) -> int:
        """Frames that the device has taken, calibration included; 0 without a device."""
        return self.source.frames

    @property
    def bytes(self) -> int:
        """Memory of the state's tensors."""
        return sum(t.numel() * t.element_size() for group in self._tensors().values() for t in group)

    def learn(self, error: Tensor, targets: Sequence[Tensor | None]) -> None:
        """Change the matrices.

        Parameters
        ----------
        error : Tensor, shape (rows, classes)
            The error of which the next call returns the signals.
        targets : sequence of Tensor or None
            For each block what `needs` names, (rows, width); None for a block with other rows than the error.
        """
        if not self._rehearsing:
            self._prepare([t if t is None else t.shape[1] for t in targets], error)
            self._learn(error, targets)

    @abstractmethod
    def _learn(self, error: Tensor, targets: Sequence[Tensor | None]) -> None:
        """Change the matrices of the blocks that have a target."""

    def __call__(self, error: Tensor, widths: Sequence[int]) -> list[Tensor]:
        """Teaching signals of the blocks: (rows, classes) -> one (rows, width) tensor for each width."""
        self._prepare(widths, error)
        u = self.show(error)
        self._shown = None
        self.products += 0 if self._rehearsing else len(error) * self.pixels * sum(widths)
        self.steps += not self._rehearsing
        return [u @ q.T for q in self._matrices]

    def show(self, error: Tensor) -> Tensor:
        """Projection u of an error, (rows, classes) -> (rows, pixels); the same error is shown once."""
        if self._shown is None or self._shown[0] is not error:
            self.source.watch = self.watch
            total = self.source(error, [self.pixels])[0]
            for _ in range(self.draws - 1):
                total += self.source(error, [self.pixels])[0]
            self._shown = error, total.div_(self.draws)
        return self._shown[1]

    def _prepare(self, widths: Sequence[int | None], like: Tensor) -> None:
        """Make the matrices in the first call, and check the widths in the others."""
        known = [len(q) for q in self._matrices]
        if not known and all(width is not None for width in widths):
            self._matrices = [like.new_zeros((width, self.pixels)) for width in widths if width is not None]
        elif known and (
            len(known) != len(widths) or any(w not in (None, k) for w, k in zip(widths, known, strict=True))
        ):
            raise ValueError(
                f"blocks must have the widths of the first call, {known}, for feedback that learns, got {list(widths)}"
            )

    def statistics(self) -> dict[str, float]:
        """Figures of the source, and ``products`` and ``bytes`` of this feedback; empty before the first step."""
        found = self.source.statistics()
        return found | {"products": self.products, "bytes": self.bytes} if found else {}

    def _tensors(self) -> dict[str, list[Tensor]]:
        """Tensors of the state, by name."""
        return {"matrices": self._matrices}

    def state_dict(self) -> State:
        """Kind of feedback, settings, counters, matrices and the state of the source."""
        settings = {"variant": self.variant, "pixels": self.pixels, "draws": self.draws}
        counters = {"steps": self.steps, "products": self.products}
        tensors = {name: [t.clone() for t in group] for name, group in self._tensors().items()}
        return settings | counters | {"tensors": tensors, "source": self.source.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state.

        Raises
        ------
        ValueError
            If the state belongs to feedback of another kind, or with other settings or another source.
        """
        for name, mine in {"variant": self.variant, "pixels": self.pixels, "draws": self.draws}.items():
            if state.get(name) != mine:
                raise ValueError(f"state must be of feedback with {name} {mine!r}, got one with {state.get(name)!r}")
        self.source.load_state_dict(state["source"])
        self.steps, self.products = int(state["steps"]), int(state["products"])
        self._load_tensors({name: [t.clone() for t in group] for name, group in state["tensors"].items()})
        self._shown = None

    def _load_tensors(self, tensors: Mapping[str, list[Tensor]]) -> None:
        self._matrices = tensors["matrices"]

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Context whose calls leave the state unchanged and learn nothing."""
        before, self._rehearsing = self._shown, True
        try:
            with self.source.rehearsal():
                yield
        finally:
            self._rehearsing, self._shown = False, before
