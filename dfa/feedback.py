"""Where the teaching signal of the hidden blocks comes from."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from calibration import LinearProjection, measure_projection
from calibration.anchor import AnchorProjection
from dfa.arrays import to_array, to_tensor
from dfa.encoding import Code, Encoder, Ternary, encode
from dfa.steps import Diverged
from photonics import draw
from photonics.backend import HOST
from photonics.component import integer
from photonics.random import Stream, check_seed

__all__ = ["Feedback", "OpticalFeedback", "RandomFeedback", "gaussian"]

SEPARATE = 2**46
"""First tick of the matrices of separate blocks, in the stream of feedback; encoders draw at ticks below."""


class Feedback(Protocol):
    """A fixed random linear map from the output's error to every hidden block at once."""

    def __call__(self, error: Tensor, widths: Sequence[int]) -> list[Tensor]:
        """Teaching signals of the blocks: (rows, classes) -> one (rows, width) tensor for each width."""
        ...


class CodedFeedback:
    """Feedback that encodes the error and counts its steps, so that a resumed run goes on with the same draws."""

    variant: ClassVar[str]

    def __init__(self, encoder: Encoder | None) -> None:
        self.encoder = encoder
        self.steps = 0
        """Calls so far."""
        self._code: Code | None = None

    def statistics(self) -> dict[str, float]:
        """What the last step sent, computed when asked for; empty before the first one.

        ``rows`` of the error, how many of them were ``shown`` (the others had an empty code), and the share of
        ``nonzero`` codes over all rows.
        """
        if self._code is None:
            return {}
        nonzero = self._code.values != 0
        return {
            "rows": len(nonzero),
            "shown": int(nonzero.any(dim=1).sum()),
            "nonzero": float(nonzero.sum()) / max(nonzero.numel(), 1),
        }

    def state_dict(self) -> dict[str, Any]:
        """What kind of feedback it is, and what changes while training, in plain types."""
        return {"variant": self.variant, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state.

        Raises
        ------
        ValueError
            If it is of another kind of feedback.
        """
        if state.get("variant", self.variant) != self.variant:
            raise ValueError(f"state is of {state['variant']} feedback, this one is {self.variant}")
        self.steps = int(state.get("steps", 0))

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Calls inside do not count: looking at a run must not change it."""
        kept = self.steps, self._code
        try:
            yield
        finally:
            self.steps, self._code = kept

    def _encode(self, error: Tensor) -> Code:
        self._code = encode(self.encoder, error, self.steps)
        self.steps += 1
        return self._code


class RandomFeedback(CodedFeedback):
    """Feedback through an exact Gaussian matrix B, entries N(0, 1/width) for a block of that width.

    Parameters
    ----------
    seed : int
        The matrices are a function of it.
    encoder : callable, optional
        Maps the error before the projection, such as `Ternary`; none by default.
    shared : bool
        One matrix for the concatenated width, of which blocks take their slices, as they do of a device; or a separate
        one for each block, which does not change with the sizes of the others.
    matrix : array_like, shape (width, classes), optional
        Use this one, of unit variance, instead of drawing it: one recovered from a device, say. Blocks take their
        slices from the first row on.

    Raises
    ------
    ValueError
        If the seed is no seed, or a matrix is given that is none or goes with separate ones.
    """

    variant = "random"

    def __init__(self, seed: int = 0, encoder: Encoder | None = None, shared: bool = True, matrix: Any = None) -> None:
        super().__init__(encoder)
        self.seed, self.shared = check_seed(seed), bool(shared)
        self._given = None if matrix is None else torch.as_tensor(matrix).detach()
        if self._given is not None and (self._given.ndim != 2 or not self.shared):
            raise ValueError(f"matrix must be (width, classes) and shared, got {tuple(self._given.shape)}")
        self._matrices: dict[tuple[int, int, int], Tensor] = {}

    def __call__(self, error: Tensor, widths: Sequence[int]) -> list[Tensor]:  # noqa: D102 (inherited)
        values, scale = self._encode(error)
        code = values.to(error.dtype) if scale is None else values * scale.to(error.dtype)
        if self.shared:
            signals = (code @ self.matrix(sum(widths), error.shape[1]).to(error).T).split(list(widths), dim=1)
        else:
            matrices = [self.matrix(width, error.shape[1], k) for k, width in enumerate(widths)]
            signals = [code @ matrix.to(error).T for matrix in matrices]
        return [signal / math.sqrt(width) for signal, width in zip(signals, widths, strict=True)]

    def matrix(self, width: int, classes: int, block: int | None = None) -> Tensor:
        """B with unit variance, (width, classes), before each block's scale; a block's own if one is given."""
        if self._given is not None:
            if self._given.shape[0] < width or self._given.shape[1] != classes:
                raise ValueError(f"matrix must be at least ({width}, {classes}), got {tuple(self._given.shape)}")
            return self._given[:width]
        tick = 0 if block is None else SEPARATE + block
        key = (width, classes, tick)
        if key not in self._matrices:
            self._matrices = {k: m for k, m in self._matrices.items() if k[2] != tick}  # the last size of each, only
            self._matrices[key] = gaussian(self.seed, (width, classes), tick)
        return self._matrices[key]

    def state_dict(self) -> dict[str, Any]:  # noqa: D102 (inherited)
        return super().state_dict() | {"seed": self.seed, "shared": self.shared}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: D102 (inherited)
        super().load_state_dict(state)
        self.seed = check_seed(state.get("seed", self.seed))
        self.shared = bool(state.get("shared", self.shared))
        self._matrices.clear()


def gaussian(seed: int, shape: tuple[int, ...], tick: int) -> Tensor:
    """Standard normal matrix, float32, a function of seed and tick."""
    entries = draw.normals(seed, Stream.FEEDBACK, np.arange(math.prod(shape)), tick)
    return torch.from_numpy(entries.reshape(shape))


class OpticalFeedback(CodedFeedback):
    """Feedback through the device: the error is encoded, shown, and its linear projection read back.

    There is one projection for all blocks; each reads its own pixels. Rows whose code is empty are not sent and get no
    feedback; pixels whose reference is dark are passed over. A complex projection gives two outputs per
    pixel, its real and its imaginary part in turn. Signals are scaled like `RandomFeedback`'s: entries of variance
    1/width for a block of that width. The device's clock goes on while training runs, so what drifts, drifts.

    Parameters
    ----------
    projection : LinearProjection
        Measured through the device (`calibration.measure_projection`, any method), with as many inputs as there are
        classes and at least as many valid outputs as the hidden blocks have units.
    encoder : callable, optional
        How the error becomes codes: `Ternary` (the default, at one deviation), `Graded`, or another that gives
        numbers which the projection can show.
    recalibrate_every : int
        Steps after which the projection is measured again, 0 for never. The units keep their pixels.
    recalibrate : callable, optional
        ``recalibrate(device)`` returns the new projection, from frames alone. By default `measure_projection` with
        the number of inputs and its own defaults, for projections by a single anchor; others need to be told. The
        map stays as far as its gauge does: that of anchors and of a reference beam does, multilateration's does not.
    watch : bool
        Note saturation and the expected noise of each step, for `statistics`; may be switched on and off at any time,
        and changes no signal.

    Attributes
    ----------
    calibrations : int
        How often the projection was measured again.

    Notes
    -----
    To resume, the frame at which the last calibration began is kept and the calibration repeated there: the simulated
    device gives the same frames again.
    """

    variant = "optical"

    def __init__(
        self,
        projection: LinearProjection,
        encoder: Encoder | None = None,
        *,
        recalibrate_every: int = 0,
        recalibrate: Callable[[Any], LinearProjection] | None = None,
        watch: bool = False,
    ) -> None:
        super().__init__(Ternary() if encoder is None else encoder)
        self.projection, self.watch = projection, watch
        self.recalibrate_every = integer(recalibrate_every, "recalibrate_every", 0)
        if self.recalibrate_every and recalibrate is None and not one_anchor(projection):
            raise ValueError(f"recalibrate must be given for another projection than by one anchor, got {projection}")
        self.recalibrate = recalibrate
        self.calibrations = 0
        self._rows = torch.from_numpy(np.flatnonzero(projection.valid))
        self._scale = math.sqrt(2.0 * projection.opu.n_in)  # entries of the projection have variance 1/(2 n_in)
        self._first = projection, projection.opu.exposure_s
        self._calibrated: dict[str, Any] | None = None
        self._rehearsing = False
        self._seen: dict[str, float] = {}

    def __call__(self, error: Tensor, widths: Sequence[int]) -> list[Tensor]:  # noqa: D102 (inherited)
        self._check_size(error.shape[1], sum(widths))
        due = self.recalibrate_every and self.steps and self.steps % self.recalibrate_every == 0
        if due and not self._rehearsing:
            self._calibrate()
        before = self.projection.opu.clock.frames
        values, scale = self._encode(error)
        shown = (values != 0).any(dim=1)
        every, width = bool(shown.all()), sum(widths)
        self._seen = {}
        if every and len(shown):
            signals = self._project(values, width).to(error)
        else:
            signals = error.new_zeros((len(error), width))
            if shown.any():
                signals[shown] = self._project(values[shown], width).to(error)
        self._seen["frames"] = self.projection.opu.clock.frames - before
        if scale is not None:
            signals *= scale.detach().to(signals)
        parts = signals.split(list(widths), dim=1)
        return [part.mul_(self._scale / math.sqrt(w)) for part, w in zip(parts, widths, strict=True)]

    def statistics(self) -> dict[str, float]:
        """What the last step sent and got back; empty before the first one.

        Beside the rows, shown rows and share of non-zero codes: ``frames`` of the step, ``frames_total`` on the
        device's clock, ``calibrations``; and if `watch` was on, ``saturated``, the share of the values that a saturated
        pixel made wrong, and ``snr_db``, their power over the expected variance of their noise.
        """
        found = super().statistics()
        if not found:
            return {}
        total = {"frames_total": self.projection.opu.clock.frames, "calibrations": self.calibrations}
        return found | self._seen | total

    def state_dict(self) -> dict[str, Any]:
        """Kind, steps, the frames on the device's clock, and when the projection was last measured again."""
        state = super().state_dict() | {"frames": self.projection.opu.clock.frames}
        return state | {"calibrated": self._calibrated and dict(self._calibrated)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the device's clock, so that a resumed run meets the noise that it would have met."""
        super().load_state_dict(state)
        calibrated, opu = state.get("calibrated"), self.projection.opu
        if calibrated is None:
            self.projection, opu.exposure_s = self._first
            self._calibrated, self.calibrations = None, 0
        elif calibrated != self._calibrated:
            opu.exposure_s, opu.clock.frames = calibrated["exposure_s"], calibrated["frames"]
            self.calibrations = calibrated["count"] - 1
            self._calibrate()
        opu.clock.frames = int(state["frames"])

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Frames taken inside do not count: looking at a run must not change it."""
        frames, seen, self._rehearsing = self.projection.opu.clock.frames, self._seen, True
        try:
            with super().rehearsal():
                yield
        finally:
            self.projection.opu.clock.frames, self._seen, self._rehearsing = frames, seen, False

    def _check_size(self, classes: int, width: int) -> None:
        if classes != self.projection.n_inputs:
            raise ValueError(
                f"projection must have as many inputs as the error has entries ({classes}), "
                f"got {self.projection.n_inputs}"
            )
        outputs = len(self._rows) * self._parts
        if width > outputs:
            raise ValueError(
                f"projection must have at least {width} valid outputs for the hidden blocks, "
                f"got {outputs} of {self.projection.n_outputs * self._parts}"
            )

    @property
    def _parts(self) -> int:
        return 2 if np.issubdtype(getattr(self.projection, "dtype", np.float32), np.complexfloating) else 1

    def _project(self, code: Tensor, width: int) -> Tensor:
        """Project codes that are not empty, (shown, classes) -> (shown, width)."""
        array = to_array(code, getattr(self.projection.opu, "backend", HOST))
        found = self.projection.measure(array) if self.watch else None
        rows = self._rows[: -(-width // self._parts)]

        def read(array: Any) -> Tensor:
            whole = to_tensor(array)
            return whole.index_select(1, rows.to(whole.device))

        values = read(self.projection(array) if found is None else found.values)
        values = torch.view_as_real(values).flatten(1)[:, :width] if values.is_complex() else values
        peak = float(values.abs().max())
        if not 0 < peak < math.inf:
            raise Diverged(
                f"feedback must be finite and not zero, got a projection with the largest value {peak} for "
                f"{len(code)} errors: is there light on the camera, and is it exposed (opu.autoexpose())?"
            )
        if found is not None:
            self._seen |= quality(values, read(found.noise), read(found.saturated))
        return values

    def _calibrate(self) -> None:
        opu, old = self.projection.opu, self.projection
        begun = {"frames": opu.clock.frames, "exposure_s": opu.exposure_s, "count": self.calibrations + 1}
        new = measure_projection(opu, n_inputs=old.n_inputs) if self.recalibrate is None else self.recalibrate(opu)
        kind = [(type(p), p.n_inputs, p.n_outputs, p.frames_per_vector) for p in (old, new)]
        if kind[0] != kind[1]:
            raise ValueError(f"recalibrate must give a projection like {old}, got {new}")
        self.projection, self._calibrated, self.calibrations = new, begun, begun["count"]


def one_anchor(projection: LinearProjection) -> bool:
    """Whether a projection is what `measure_projection` makes by default."""
    return isinstance(projection, AnchorProjection) and len(projection.anchors) == 1


def quality(values: Tensor, noise: Tensor, saturated: Tensor) -> dict[str, float]:
    """Share of saturated values, and the signal's power over the noise's in dB (infinite without noise)."""
    power, disturbance = float(values.square().mean()), float(noise.square().mean())
    ratio = max(power - disturbance, 0.0) / disturbance if disturbance else math.inf
    level = 10.0 * math.log10(ratio) if ratio else -math.inf
    return {"saturated": float(saturated.float().mean()), "snr_db": level}
