"""Teaching signals through the device."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calibration import LinearProjection
from dfa.arrays import to_array, to_tensor
from dfa.errors import Diverged
from dfa.feedback.base import CodedFeedback
from dfa.feedback.encoding import Code, Encoder, Ternary
from photonics.backend import HOST
from photonics.component import integer

__all__ = ["OpticalFeedback"]


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
        ``recalibrate(device)`` returns the new projection, from frames alone. By default the projection's own method
        measures it again with the same settings. Methods whose gauge changes with each calibration, several anchors and
        multilateration, would give the units other matrices, and are refused without this function.
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
        if not all(hasattr(projection, name) for name in ("opu", "valid", "measure", "n_inputs")):
            raise ValueError(f"projection must be what calibration.measure_projection returns, got {projection!r:.80}")
        self.projection, self.watch = projection, watch
        self.recalibrate_every = integer(recalibrate_every, "recalibrate_every", 0)
        if self.recalibrate_every and recalibrate is None and not projection.method.keeps_gauge:
            raise ValueError(f"recalibrate must be given for a projection whose gauge changes, got {projection}")
        self.recalibrate = recalibrate
        self.calibrations = 0
        self._rows = torch.from_numpy(np.flatnonzero(projection.valid))
        self._scale = math.sqrt(2.0 * projection.opu.n_in)  # entries of the projection have variance 1/(2 n_in)
        self._first = projection, projection.opu.exposure_s
        self._calibrated: dict[str, Any] | None = None
        self._rehearsing = False
        self._seen: dict[str, float] = {}

    def _signals(self, code: Code, widths: Sequence[int], dtype: torch.dtype) -> list[Tensor]:
        values, scale = code
        self._check_size(values.shape[1], sum(widths))
        due = self.recalibrate_every and self.steps and self.steps % self.recalibrate_every == 0
        if due and not self._rehearsing:
            self._calibrate()
        before = self.projection.opu.clock.frames
        shown = (values != 0).any(dim=1)
        every, width = bool(shown.all()), sum(widths)
        self._seen = {}
        if every and len(shown):
            signals = self._project(values, width).to(values.device, dtype)
        else:
            signals = values.new_zeros((len(values), width), dtype=dtype)
            if shown.any():
                signals[shown] = self._project(values[shown], width).to(signals)
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
        """Kind, steps, which device, the frames on its clock, and when the projection was last measured again."""
        state = super().state_dict() | {"device": self._device, "frames": self.projection.opu.clock.frames}
        return state | {"calibrated": self._calibrated and dict(self._calibrated)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the device's clock, so that a resumed run meets the noise that it would have met.

        Raises
        ------
        ValueError
            If it is of other feedback, or of another device.
        """
        if state.get("device", self._device) != self._device:
            raise ValueError(
                "state is of feedback through another device: a parameter or a seed differs from this one's"
            )
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

    @cached_property
    def _device(self) -> str:
        """Digest of the device's parameters, the exposure apart, which is no part of it."""
        parameters = {k: v for k, v in self.projection.opu.to_dict().items() if k != "exposure_s"}
        return hashlib.sha256(json.dumps(parameters, sort_keys=True, default=str).encode()).hexdigest()

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
        again = self.recalibrate
        new = old.method.calibrate(old.opu, old.n_inputs) if again is None else again(opu)
        kind = [(type(p), p.n_inputs, p.n_outputs, p.frames_per_vector) for p in (old, new)]
        if kind[0] != kind[1]:
            raise ValueError(f"recalibrate must give a projection like {old}, got {new}")
        self.projection, self._calibrated, self.calibrations = new, begun, begun["count"]


def quality(values: Tensor, noise: Tensor, saturated: Tensor) -> dict[str, float]:
    """Share of saturated values, and the signal's power over the noise's in dB (infinite without noise)."""
    power, disturbance = float(values.square().mean()), float(noise.square().mean())
    ratio = max(power - disturbance, 0.0) / disturbance if disturbance else math.inf
    level = 10.0 * math.log10(ratio) if ratio else -math.inf
    return {"saturated": float(saturated.float().mean()), "snr_db": level}
