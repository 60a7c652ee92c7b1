"""Teaching signals through the device."""

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from calibration import LinearProjection
from calibration.camera.noise import Unsteady
from calibration.device import Device, backend_of_device, is_simulated
from calibration.fields.misfit import Misfit
from calibration.projections.responses import Observer, Projected
from dfa.arrays import to_array, to_tensor
from dfa.errors import Diverged
from dfa.feedback.base import CodedFeedback, State
from dfa.feedback.encoding import Code, Encoder, Ternary
from dfa.feedback.tracking import ADVICE, FEW, LOST, PROBE_EVERY, Tracker, quality
from photonics.arrays import Array
from photonics.component import integer, number

__all__ = ["OpticalFeedback"]


class Calibration(TypedDict):
    """Conditions under which the projection was measured again."""

    frames: int
    """Frame number of the device's clock at the start."""
    exposure_s: float
    """Exposure of the device, seconds."""
    count: int
    """Number of this calibration, from 1."""


class OpticalFeedback(CodedFeedback):
    """Feedback through the device: the error is encoded and shown, and its linear projection is read back.

    All blocks share one projection, and each reads its own pixels. Rows whose code is empty are not sent and get no
    feedback. Pixels whose reference is dark are not used. A complex projection gives two outputs per pixel, its real
    and its imaginary part. Signals are scaled as those of `RandomFeedback`: B has entries of variance 1/width for a
    block of that width. The device's clock advances during training, so that a drifting device drifts.

    Parameters
    ----------
    projection : LinearProjection
        Measured through the device (`calibration.measure_projection`, any method), with as many inputs as there are
        classes, and at least as many valid outputs as the hidden blocks have units.
    encoder : callable, optional
        Encodes the error: `Ternary` (the default), `Graded`, or another function whose result the projection can show.
    recalibrate_every : int
        Steps after which the projection is measured again, 0 for never. The units keep their pixels.
    recalibrate : callable, optional
        ``recalibrate(device)`` returns the new projection, measured from frames. By default the projection's own method
        measures it again with the same settings, and rows keep sign and phase (`LinearProjection.recalibrate`).
    refresh : bool
        Follow a device that moves. The frames of the steps show how fast; no frame is added, and on a still device no
        signal changes, bit for bit. Once a movement is seen, the mean of a step's own frames takes the place of the
        calibrated anchor, the frames of a code are neighbours, and signals are centred over the batch. `hidden_rate`
        falls if the medium is too fast for a network. Without `refresh` movements are only stated (`statistics`).
    min_correlation : float
        Correlation with the values of the last calibration under which the projection is measured again (0: never),
        with `refresh`; also if signals are lost (a blocked beam). If that does not help, the run stops with `Diverged`.
    watch : bool
        Measure saturation and expected noise of each step, for `statistics`. It changes no signal, and may be changed.

    Attributes
    ----------
    calibrations : int
        Number of times that the projection was measured again.

    Notes
    -----
    A checkpoint keeps the frame number at which the last calibration began. A resumed run repeats that calibration: a
    simulated device and a recording give the same frames again.
    """

    variant = "optical"

    def __init__(
        self,
        projection: LinearProjection,
        encoder: Encoder | None = None,
        *,
        recalibrate_every: int = 0,
        recalibrate: Callable[[Device], LinearProjection] | None = None,
        refresh: bool = True,
        min_correlation: float = 0.5,
        watch: bool = False,
    ) -> None:
        super().__init__(Ternary() if encoder is None else encoder)
        if not isinstance(projection, LinearProjection):
            raise ValueError(f"projection must be the result of calibration.measure_projection, got {projection!r:.80}")
        self.projection, self.watch = projection, watch
        self.recalibrate_every = integer(recalibrate_every, "recalibrate_every", 0)
        if recalibrate is not None and not callable(recalibrate):
            raise ValueError(f"recalibrate must be a function of the device, or None, got {recalibrate!r:.80}")
        if not isinstance(refresh, bool):
            raise ValueError(f"refresh must be true or false, got {refresh!r:.80}")
        if not 0 <= number(min_correlation) < 1:
            raise ValueError(f"min_correlation must be 0 or more and under 1, got {min_correlation!r}")
        self.recalibrate, self.refresh, self.min_correlation = recalibrate, refresh, min_correlation
        self._rows = torch.from_numpy(np.flatnonzero(projection.valid))
        self._scale = math.sqrt(2.0 * projection.opu.n_in)  # entries of the projection have variance 1/(2 n_in)
        self._first = projection, projection.opu.exposure_s
        self._calibrated: Calibration | None = None
        self._start, self.calibrations = self.frames, 0
        self._rehearsing = self._misfit_told = False
        self._measured: dict[str, float] = {}
        self._tracker: Tracker | None = Tracker(projection, self._rows.numpy(), refresh)

    @property
    def hidden_rate(self) -> float:
        """Factor on the learning rate of the hidden blocks: 1 on a still device, 0 if it moves too fast to teach them.

        `dfa.train` applies it. With d the decorrelation of the field in a step, frames of a step over the correlation
        time, it is ``1 / (1 + (d / d0)^2)``, d0 = 0.02 with anchors and 0.03 with a still reference beam (less with
        more than 10 classes, in proportion), and 0 under 0.05. Errors are then shown in one step of 10 only, to see
        whether the device has slowed down.
        """
        return 1.0 if self._tracker is None else self._tracker.rate

    @property
    def frames(self) -> int:
        """Frames that the device has taken, calibration included."""
        return self.projection.opu.clock.frames

    def _source(self) -> str:
        return repr(self.projection)

    def _signals(self, code: Code, widths: Sequence[int], dtype: torch.dtype) -> list[Tensor]:
        values, scale = code
        width = sum(widths)
        self._check_size(values.shape[1], width)
        if not self._rehearsing:
            self._keep_calibrated()
        before = self.frames
        shown = (values != 0).any(dim=1)
        if self.rests and self._tracker is not None and self._tracker.rests and self.steps % PROBE_EVERY:
            shown = torch.zeros_like(shown)
        self._measured = {}
        if len(shown) and bool(shown.all()):
            signals = self._project(values, width).to(values.device, dtype)
        else:
            signals = values.new_zeros((len(values), width), dtype=dtype)
            if shown.any():
                signals[shown] = self._project(values[shown], width).to(signals)
        self._measured["frames"] = self.frames - before
        if scale is not None:
            signals *= scale.detach().to(signals)
        if self._tracker is not None:
            self._track(self._tracker, signals, shown)
        parts = signals.split(list(widths), dim=1)
        return [part.mul_(self._scale / math.sqrt(w)) for part, w in zip(parts, widths, strict=True)]

    def _track(self, tracker: Tracker, signals: Tensor, shown: Tensor) -> None:
        """Count the frames of a step; if the device moves, centre the signals that are shown, in place.

        The mean signal pushes all rows alike. On a medium that moves it is the largest error.
        """
        count = int(shown.sum())
        if not self._rehearsing and count:
            tracker.count(int(self._measured["frames"]), len(shown))
        if tracker.following and count:
            signals[shown] -= signals[shown].mean(dim=0) * (count / (count + FEW))

    def statistics(self) -> dict[str, float]:
        """Figures of the last step; empty before the first step.

        In addition to ``rows``, ``shown`` and ``nonzero`` of `CodedFeedback`: ``frames`` of the step, ``frames_total``
        on the device's clock, and ``calibrations``. If `watch` was set, also ``saturated``, the share of the values
        that are wrong because of a saturated pixel, and ``snr_db``, their power over the expected variance of their
        noise. Once a movement of the device is seen, also ``correlation_frames``, the correlation time of the medium's
        field, ``correlation`` of the values with those of the last calibration, and ``hidden_rate``; ``snr_db`` then
        counts the share that is stale as noise (without `refresh`, not an anchor's stale light in codes without pairs).
        """
        found = super().statistics()
        if not found:
            return {}
        moved = {} if self._tracker is None else self._tracker.statistics()
        return found | self._measured | moved | {"frames_total": self.frames, "calibrations": self.calibrations}

    def state_dict(self) -> State:
        """Kind of feedback, steps, digest of the device, frames on its clock, and the last calibration."""
        state = super().state_dict() | {"device": self._device, "frames": self.frames}
        state |= {"tracker": None if self._tracker is None else self._tracker.state_dict()}
        return state | {"calibrated": None if self._calibrated is None else {**self._calibrated}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state. The device's clock is set, so that a resumed run has the same noise.

        Raises
        ------
        ValueError
            If the state belongs to other feedback, or to another device.
        """
        if state.get("device", self._device) != self._device:
            raise ValueError("state must be of this device, got that of another: a parameter or a seed differs")
        super().load_state_dict(state)
        calibrated, opu = state.get("calibrated"), self.projection.opu
        if calibrated is None:
            projection, opu.exposure_s = self._first
            self._use(projection)
            self._calibrated, self.calibrations = None, 0
        elif calibrated != self._calibrated:
            opu.exposure_s, opu.clock.frames = calibrated["exposure_s"], calibrated["frames"]
            self.calibrations = calibrated["count"] - 1
            self._calibrate()
        if self._tracker is not None and state.get("tracker") is not None:
            self._tracker.load_state_dict(state["tracker"])
        opu.clock.frames = int(state["frames"])

    @cached_property
    def _device(self) -> str:
        """Digest of the device's parameters, without the exposure, which may change."""
        parameters = {k: v for k, v in self.projection.opu.to_dict().items() if k != "exposure_s"}
        return hashlib.sha256(json.dumps(parameters, sort_keys=True, default=str).encode()).hexdigest()

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Context whose calls leave steps, statistics and a simulated clock unchanged; frames of a bench count."""
        frames, measured, self._rehearsing = self.frames, self._measured, True
        try:
            with super().rehearsal():
                yield
        finally:
            if is_simulated(self.projection.opu):
                self.projection.opu.clock.frames = frames
            self._measured, self._rehearsing = measured, False

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
        """Outputs per pixel."""
        return 2 if np.issubdtype(self.projection.dtype, np.complexfloating) else 1

    def _project(self, code: Tensor, width: int) -> Tensor:
        """Project codes that are not empty: (shown, classes) -> (shown, width)."""
        opu = self.projection.opu
        array = to_array(code, backend_of_device(opu))
        try:
            found, measured = self._read(array, self.watch)
        except ValueError as error:
            if not self.steps:
                raise
            raise Diverged(f"{error}") from error
        count = -(-width // self._parts)

        def read(array: Array) -> Tensor:
            values = to_tensor(array)
            if self._rows.device != values.device:
                self._rows = self._rows.to(values.device)
            return values.index_select(1, self._rows[:count])

        values = read(found)
        values = torch.view_as_real(values).flatten(1)[:, :width] if values.is_complex() else values
        least, largest = torch.aminmax(values)
        peak = float(torch.maximum(-least, largest))
        if not 0 < peak < math.inf:
            raise Diverged(
                f"feedback must be finite and not zero, got a projection with the largest value {peak} for "
                f"{len(code)} errors in {opu.exposure_s:g} s of at most {opu.frame_period_s:g} s: check that light "
                "reaches the camera; if opu.autoexpose() has set this exposure, more light (laser.power_w) is needed"
            )
        if measured is not None:
            kept = self.projection.value_correlation if self._tracker is None else self._tracker.kept
            self._measured |= quality(values, read(measured.noise), read(measured.saturated), kept)
        return values

    def _read(self, array: Array, watch: bool) -> tuple[Array, Projected | None]:
        """Project codes, with their errors if `watch` is set, and let the tracker see the frames."""

        def project(projection: LinearProjection, *observer: Observer) -> tuple[Array, Projected | None]:
            measured = self._measure(projection, array, *observer) if watch else None
            return (projection(array, *observer), None) if measured is None else (measured.values, measured)

        tracker = self._tracker
        if tracker is None:
            return project(self.projection)
        if tracker.calibrated is not self.projection:  # which may be replaced
            tracker.calibrated = self.projection
        return tracker.use(lambda projection: project(projection, tracker), self._rehearsing)

    def _measure(self, projection: LinearProjection, array: Array, *observer: Observer) -> Projected:
        """Project codes with their errors; a misfit is told once, and not in every step that is watched."""
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always", Misfit)
            measured = projection.measure(array, *observer)
        for warning in given:
            if not (warning.category is Misfit and self._misfit_told):
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
            self._misfit_told |= warning.category is Misfit
        return measured

    def _use(self, projection: LinearProjection) -> None:
        """Take a projection from now on."""
        self.projection = projection
        if self._tracker is not None:
            self._tracker.calibrated = projection

    def _keep_calibrated(self) -> None:
        """Measure the projection again if that is due, or if the device has moved too far."""
        if self.recalibrate_every and self.steps and self.steps % self.recalibrate_every == 0:
            self._calibrate()
            return
        tracker = self._tracker
        age = self.frames - (self._start if self._calibrated is None else self._calibrated["frames"])
        if tracker is None or not tracker.alarm(self.min_correlation, age):
            return
        try:
            self._calibrate()
        except ValueError as error:
            raise Diverged(f"{LOST}, and a new calibration is refused ({error}): {ADVICE}") from error

    def _calibrate(self) -> None:
        opu, old = self.projection.opu, self.projection
        start = Calibration(frames=self.frames, exposure_s=opu.exposure_s, count=self.calibrations + 1)
        try:
            new = old.recalibrate() if self.recalibrate is None else self.recalibrate(opu)
        except Unsteady as error:
            if self._tracker is None or not self.refresh:
                raise
            if not self._tracker.rests:
                warnings.warn(f"the last block learns alone, since the device moves too fast: {error}", stacklevel=2)
            self._tracker.rest()
            return
        kind = [(type(p), p.n_inputs, p.n_outputs, p.frames_per_vector) for p in (old, new)]
        if kind[0] != kind[1]:
            raise ValueError(f"recalibrate must return a projection like {old}, got {new}")
        self._use(new)
        self._calibrated, self.calibrations = start, start["count"]
