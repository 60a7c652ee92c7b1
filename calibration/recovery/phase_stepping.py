"""Transmission matrix by phase stepping: binary probes, an external reference, and the drift of its phase."""

import warnings
from dataclasses import replace
from typing import ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from calibration.arrays import columns
from calibration.camera.decay import STALE, STALE_PATTERN, decay_between, warn_of_movement
from calibration.device import Device
from calibration.fields.drift import Drift, sample, track
from calibration.fields.misfit import MAX_MISFIT, check_steps, common_misfit, refusal_limit, variance_factor
from calibration.fields.readings import DARK_SHARE, Bench, RawFrames
from calibration.fields.stepped import (
    Fields,
    closure,
    coherent_misfit,
    is_complete,
    light_changes,
    linear_fields,
    linear_weights,
    mean_weights,
    misfit,
    refine_fields,
    stepped_reference,
    warn_of_light,
)
from calibration.recovery.base import REFERENCE_GAUGE, Block, Findings, Gauge, RecoveryMethod, RowDiagnostics, Shots
from calibration.recovery.designs.probes import Design, choose_design
from photonics.arrays import Array, FloatArray
from photonics.backend import backend_of, to_host
from photonics.component import Field, Seed, component

__all__ = ["PhaseStepping"]

REFERENCE_FRAMES = 16
"""Frames of the reference alone (all mirrors OFF); their phases are stepped as well."""
MIN_VISIBILITY = 0.99
"""Smallest contrast of a tilted reference's fringes on a pixel; below it the scale of the matrix would be too small."""
MAX_STRAY_DN = 1.0
"""Mean light that fringes may leave unexplained, DN: that of rounding and of the dark level."""
MIN_TRACKED_LIGHT = 0.01
"""Smallest change of the light that counts if the phase is tracked; leaked light seems to change by 0.2 %."""


class State(NamedTuple):
    """Data shared by all rows."""

    phases: NDArray[np.float64]
    """Phases of the reference in the frames of each probe, (order, steps), radians."""
    closure: float
    """`calibration.fields.stepped.closure`."""
    drift: Drift | None
    """Drift of the reference; None without tracking."""
    misfit: float = 1.0
    """Misfit that all rows have in common (`calibration.fields.misfit.common_misfit`)."""
    stray_dn: float = 0.0
    """Mean light that the fringes do not explain, DN; 0 if the optics have such light, or the closure is 1."""
    light_rms: float = 0.0
    """Relative change of the light from probe to probe."""
    moved: float | None = None
    """Correlation times of the medium that the probes took; None if their frames do not show it."""


@component
class PhaseStepping(RecoveryMethod[State]):
    """Each probe x in P frames, the reference R at phases ``phi_k = 2 pi k / P``: ``I_k = |T x + R exp(i phi_k)|^2``.

    ``conj(R) T x = sum_k I_k exp(i phi_k) / P`` (J. H. Bruning et al., Appl. Opt. 13, 2693 (1974), the synchronous
    detector for any P >= 3), divided by |R|, which is measured in frames of the reference alone, and by the root of the
    unit. The probes are those of `calibration.recovery.designs.probes.choose_design`, whose inverse is a fast
    transform. An entry has the variance ``4 v / (n P |R|^2)`` with v the mean variance of a frame's pixel.

    Each row is multiplied by the phase of the reference at its pixel. The error of its scale is that of |R| there, half
    of PRNU, and half of the laser's drift. The field leaked by OFF mirrors is subtracted. It is measured in the frames
    of the reference alone; with `track_drift` that is not possible, and the leakage of the recovered inputs is taken
    from the data sheet.

    At the end the first probe is shown again (`closing_frames`). If its field has changed by more than noise, the
    medium has moved, and the stated errors contain it (`calibration.camera.decay`). With `track_drift` the known
    pattern shows it.

    With `track_drift` each probe is followed by one frame of all inputs ON, and the phase of the reference in every
    frame is found from the frames (`calibration.fields.drift`).
    """

    name: ClassVar[str] = "phase-stepping"
    uses_reference: ClassVar[bool] = True

    seed: Seed = 0
    """Not used: the probes are fixed."""
    steps: int = Field(default=4, ge=3, le=REFERENCE_FRAMES)
    """Frames of a probe, P; at most 16, so that the phases of the reference alone make at least one turn."""
    track_drift: bool = False
    """Whether the phase of the reference is tracked through the measurement."""

    @property
    def design(self) -> Design:
        """The probes."""
        return choose_design(self.n_inputs)

    @property
    def per_probe(self) -> int:
        """Frames of a probe, the tracking frame included."""
        return self.steps + self.track_drift

    @property
    def frames(self) -> int:  # noqa: D102
        return REFERENCE_FRAMES + self.per_probe * self.design.order

    @property
    def closing_frames(self) -> int:
        """Frames of the first probe, shown again; the known pattern of `track_drift` shows as much."""
        return 0 if self.track_drift else self.steps

    @property
    def condition_number(self) -> float:  # noqa: D102
        return self.design.condition_number

    @property
    def gauge(self) -> Gauge:  # noqa: D102
        return REFERENCE_GAUGE

    def shots(self, start: int, stop: int) -> Shots:  # noqa: D102
        frame = np.arange(start, stop) - REFERENCE_FRAMES
        probe, step = np.divmod(frame, self.per_probe)
        alone, tracking = frame < 0, step == self.steps
        patterns = np.zeros((len(frame), self.n_in), np.bool_)
        shown = ~alone & ~tracking
        patterns[shown, : self.n_inputs] = self.design.patterns(probe[shown] % self.design.order, self.n_inputs)
        patterns[tracking & ~alone, : self.n_inputs] = True
        turn = np.where(alone, frame, np.where(tracking, probe, step))
        return Shots(patterns, 2.0 * np.pi * (turn % self.steps) / self.steps)

    def for_exposure(self) -> Self:
        """Return the method without tracking frames, since their saturated readings are left out."""
        return replace(self, track_drift=False)

    def check(self, device: Device) -> None:  # noqa: D102
        left = device.imaging.visibility(device.laser.wavelength_m)
        if left < MIN_VISIBILITY:
            raise ValueError(
                f"imaging.reference.angle_x_rad and angle_y_rad must be 0 for phase stepping, got "
                f"{device.imaging.reference.angle_x_rad!r} and {device.imaging.reference.angle_y_rad!r}: fringes keep "
                f"only {left:.2f} of their contrast on a pixel"
            )

    def prepare(self, raw: RawFrames, bench: Bench) -> State:  # noqa: D102
        frames = sample(raw, bench.n_out)
        strength, xp = self.strength(frames, bench), backend_of(frames).xp
        average = float(xp.mean(strength))
        lit = strength > DARK_SHARE * average
        if average < np.sqrt(bench.noise.floor_dn2):
            raise ValueError(
                f"imaging.reference.intensity must exceed the noise, got {average:.3g} DN of the reference "
                "alone, less than the noise of a dark frame: increase it"
            )
        frames, reference = columns(frames, lit), xp.sqrt(strength[lit])
        check_steps(self.probes(frames))
        phases, drift = np.tile(2.0 * np.pi * np.arange(self.steps) / self.steps, (self.design.order, 1)), None
        if self.track_drift:
            probes = xp.reshape(frames[REFERENCE_FRAMES:, :], (self.design.order, self.per_probe, -1))
            drift = track(probes, reference, bench)
            phases = drift.phases
        state = State(phases, closure(self.probes(frames), phases, reference, bench), drift)
        fields = self.fields(self.probes(frames), reference, bench, state)
        if bench.coherent and not is_complete(state.closure):
            state = state._replace(stray_dn=abs(state.closure - 1.0) * fields.mean_light)
        if state.stray_dn > MAX_STRAY_DN:
            warnings.warn(
                f"frames have {state.closure:.3g} times the light that their fringes explain, where optics of one "
                "polarisation have 1: stray light, a camera that is not linear, or lost frames",
                stacklevel=5,
            )
        found = self.misfit(self.probes(frames), reference, fields, bench, state)
        change = light_changes(self.probes(frames), phases, reference, bench)
        state = state._replace(
            light_rms=change if drift is None or change > MIN_TRACKED_LIGHT else 0.0,
            misfit=1.0 if found is None else common_misfit(found),
        )
        state = state._replace(moved=self.moved(frames, reference, bench, state))
        if state.misfit == 1.0 and state.stray_dn <= MAX_STRAY_DN:  # otherwise another warning names the fault
            warn_of_light(state.light_rms, fields)
            noise = 2.0 * float(xp.mean(fields.variance)) / fields.mean_light
            warn_of_movement(state.moved or 0.0, self.per_probe * self.design.order, noise)
        return state

    def moved(self, frames: Array, reference: Array, bench: Bench, state: State) -> float | None:
        """Correlation times of the medium that the probes took; None if too few frames or pixels show it.

        By the first probe and the closing frames, or by the known pattern of the first and the last probes.
        """
        backend, order = backend_of(frames), self.design.order
        xp = backend.xp
        shown = xp.reshape(frames[REFERENCE_FRAMES:, :], (-1, self.per_probe, frames.shape[1]))
        if state.drift is None:
            looks, phases, between = shown[::order, :, :], state.phases[[0, 0]], order
        else:
            probe = np.arange(order)[[*range(self.steps), *range(-self.steps, 0)]] if order >= 2 * self.steps else []
            looks = xp.take(shown[:, self.steps, :], backend.asarray(np.asarray(probe, np.int64)), axis=0)
            looks = xp.reshape(looks, (-1, self.steps, frames.shape[1]))
            turn = 2.0 * np.pi * (np.asarray(probe) % self.steps) / self.steps
            phases = (state.drift.tracked[probe] + turn).reshape(-1, self.steps)
            between = order - self.steps
        good = xp.all(looks < bench.saturation_dn, axis=(0, 1))
        if looks.shape[0] < 2 or not bool(xp.any(good)):
            return None
        fields = linear_fields(columns(looks, good), phases, reference[good], bench)
        return decay_between(fields.values, fields.variance * state.misfit) * order / between

    def strength(self, frames: Array, bench: Bench) -> Array:
        """Intensity of the reference at each pixel, DN, from frames of the reference and the leaked light c.

        Their mean is ``|R|^2 + |c|^2`` and their fringes ``conj(R) c``. A drifting reference has no stable fringes: the
        data sheet's mean of ``|c|^2`` is subtracted.
        """
        backend = backend_of(frames)
        xp, phases = backend.xp, reference_phases(self.steps)
        seen = xp.astype(frames[:REFERENCE_FRAMES, :], xp.float64)
        if self.track_drift:
            alone = xp.mean(seen, axis=0) - bench.noise.dark_dn
            return xp.astype(alone - abs(bench.leakage) ** 2 * bench.unit_dn, xp.float32)
        alone = backend.asarray(mean_weights(phases), "float64") @ seen - bench.noise.dark_dn
        fringes = xp.abs(backend.asarray(linear_weights(phases), "complex128") @ xp.astype(seen, xp.complex128))
        return xp.astype(0.5 * (alone + xp.sqrt(xp.maximum(alone**2 - 4.0 * fringes**2, 0.0))), xp.float32)

    def probes(self, frames: Array) -> Array:
        """Frames of the probes, without the tracking frames: (order, steps, n_rows)."""
        shown = frames[REFERENCE_FRAMES : REFERENCE_FRAMES + self.per_probe * self.design.order, :]
        shape = (self.design.order, self.per_probe, frames.shape[1])
        return backend_of(frames).xp.reshape(shown, shape)[:, : self.steps, :]

    def solve(self, frames: Array, rows: slice, bench: Bench, state: State) -> Block:  # noqa: D102
        backend, alone, probes = backend_of(frames), frames[:REFERENCE_FRAMES, :], self.probes(frames)
        xp, seen_strength = backend.xp, self.strength(frames, bench)
        lit = seen_strength > max(DARK_SHARE * float(xp.mean(seen_strength)), 0.0)
        lit &= xp.all(alone < bench.saturation_dn, axis=0)
        beam = xp.sqrt(xp.where(lit, seen_strength, 1.0))
        fields = self.fields(probes, beam, bench, state)
        strength, valid, reference = to_host(seen_strength), to_host(lit), to_host(beam)  # one number for each row
        unit = np.float32(1.0 / np.sqrt(bench.unit_dn))
        light = to_host(fields.light) * unit**2
        probe = to_host(fields.variance) * unit**2 + light * np.float32(state.light_rms**2)
        noise = to_host(xp.mean(bench.noise.variance(alone), axis=0)) / REFERENCE_FRAMES
        if state.drift is None:
            turns = backend.asarray(linear_weights(reference_phases(self.steps)))
            leaked = (turns @ xp.astype(alone, xp.complex64)) / beam
            matrix = self.design.solve(fields.values - leaked)[: self.n_inputs, :].T * float(unit)
            common = noise / reference**2 * unit**2 + self.unknown_leak(bench)  # squared error common to all patterns
        else:
            probe = probe + light * np.float32(state.drift.error**2)
            matrix = self.subtract_leakage(self.design.solve(fields.values)[: self.n_inputs, :].T * float(unit), bench)
            common = np.float32(0.0)  # the leakage of other mirrors is the same in probes and in frames of a pattern
        relative = 0.25 * noise / reference**4
        length = to_host(xp.mean(xp.abs(matrix) ** 2, axis=1))
        gain = float(self.design.gain(self.n_inputs).mean())
        error = np.sqrt(gain * probe + length * (relative + bench.scale_error**2))
        pattern = np.sqrt(self.design.pattern_gain(self.n_inputs) * probe + common + light * relative)
        found = self.misfit(probes, beam, fields, bench, state)
        if found is not None:
            valid &= ~(found > refusal_limit(self.freedom)) & (state.misfit <= MAX_MISFIT)
            factor = np.sqrt(variance_factor(found, self.freedom, state.misfit))
            error, pattern = error * factor, pattern * factor
        stale = length * np.float32(-np.expm1(-(state.moved or 0.0)))
        error = np.sqrt(error**2 + STALE * stale)
        pattern = np.sqrt(pattern**2 + STALE_PATTERN * stale * self.n_inputs / 2.0)
        return Block(
            matrix,
            np.where(valid, error, np.inf).astype(np.float32),
            valid,
            RowDiagnostics(reference_dn=strength, pattern_error=pattern.astype(np.float32), misfit=found),
        )

    @property
    def freedom(self) -> int:
        """Degrees of freedom of a row's misfit: of P readings, three unknowns, or two with three steps."""
        return self.design.order * max(self.steps - 3, 1)

    def misfit(self, probes: Array, reference: Array, fields: Fields, bench: Bench, state: State) -> FloatArray | None:
        """Misfit of each row; None with three steps if optics have light that is not coherent: frames fit any row.

        A misfit that the errors of tracked phases explain counts as 1. With three steps the misfit depends on |R|^2,
        whose error by the frames of the reference raises it.
        """
        if self.steps > 3:
            found = to_host(misfit(probes, state.phases, bench.noise, bench.saturation_dn))
            if state.drift is None:
                return found
            light = to_host(fields.light)
            known = 1.0 + light * np.float32(state.drift.error**2) / to_host(fields.variance)
            return np.maximum(found / known, np.minimum(found, np.float32(1.0)))
        if not (is_complete(state.closure) or state.stray_dn > MAX_STRAY_DN):
            return None
        beam = stepped_reference(state.phases, reference)
        found = to_host(coherent_misfit(probes, beam, fields.values, bench.noise, bench.saturation_dn))
        return (found / np.float32(1.0 + self.steps / REFERENCE_FRAMES)).astype(np.float32)

    def fields(self, probes: Array, reference: Array, bench: Bench, state: State) -> Fields:
        """Fields of the probes: the linear estimate, refined by the mean intensity where all light is coherent."""
        fields = linear_fields(probes, state.phases, reference, bench)
        if not is_complete(state.closure):
            return fields
        field_of_step = stepped_reference(state.phases, reference)
        return refine_fields(probes, field_of_step, fields.values, bench.noise, bench.saturation_dn)

    def subtract_leakage(self, matrix: Array, bench: Bench) -> Array:
        """Subtract the leakage of recovered mirrors when OFF, by the data sheet: ``eps / (1 - eps) T 1`` in a probe."""
        ones = self.design.solve(np.ones((self.design.order, 1)))[: self.n_inputs, 0].astype(np.float32)
        leak = np.complex64(bench.leakage / (1.0 - bench.leakage))
        backend = backend_of(matrix)
        field = complex(leak) * backend.xp.sum(matrix, axis=1) / complex(1.0 + leak * ones.sum())
        return matrix - field[:, None] * backend.asarray(ones)

    def findings(self, state: State) -> Findings:  # noqa: D102
        drift, time = state.drift, None
        if state.moved is not None:
            time = self.per_probe * self.design.order / state.moved if state.moved else np.inf
        if drift is None:
            return Findings(closure=state.closure, correlation_frames=time)
        return Findings(
            closure=state.closure,
            correlation_frames=time,
            phase_rad=drift.tracked,
            step_rms_rad=drift.step,
            jitter_rms_rad=drift.jitter,
            field_error=drift.error,
        )


def reference_phases(steps: int) -> NDArray[np.float64]:
    """Phases of the 16 frames of the reference alone, ending before phase 0; 3 or 5 steps make no whole turns."""
    return 2.0 * np.pi * np.arange(-REFERENCE_FRAMES, 0) / steps
