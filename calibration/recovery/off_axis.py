"""Transmission matrix by off-axis holography: one frame per probe."""

import tempfile
from dataclasses import replace
from typing import ClassVar, NamedTuple, Self

import numpy as np

from calibration.arrays import difference, located, mean, total
from calibration.camera.decay import STALE, STALE_PATTERN
from calibration.device import Device
from calibration.fields.check_frames import Checked, check_bend, check_fields, check_patterns, stray_level
from calibration.fields.misfit import MAX_MISFIT, refusal_limit, variance_factor
from calibration.fields.readings import DARK_SHARE, Bench, RawFrames
from calibration.fields.sideband import Sideband, disc
from calibration.fields.sideband_place import (
    MIN_RING_SHARE,
    annuli,
    bad_pixels,
    check_optics,
    disc_radius,
    mean_power,
    place_sideband,
)
from calibration.recovery.base import REFERENCE_GAUGE, Block, Findings, Gauge, RecoveryMethod, RowDiagnostics, Shots
from calibration.recovery.designs.probes import Design, choose_design
from photonics.arrays import Array, FloatArray
from photonics.backend import Backend, backend_of, to_host
from photonics.component import Field, Seed, component
from photonics.parts.camera import QUANTISATION

__all__ = ["OffAxisRecovery"]

CHUNK_PIXELS = 2**21
"""Number of pixels demodulated at a time."""
MAX_LOCATING_FRAMES = 64
"""Maximum number of frames in the mean spectrum in which the sideband is located."""


class State(NamedTuple):
    """Data shared by all rows; arrays without another remark are on the host."""

    fields: Array
    """Fields of all probes, (n_probes, n_out), where the device computes; on the host in a temporary file that lives as
    long as this array."""
    reference: FloatArray
    """Intensity of the reference alone on each pixel, DN, (n_out,)."""
    variance: FloatArray
    """Mean over probes of the variance of a field, real and imaginary part together, DN^2: (n_out,)."""
    touched: FloatArray
    """Share of probes in which a saturated pixel contributed to the field of this pixel, (n_out,)."""
    sideband: Sideband
    """The disc of the spectrum that holds the fields."""
    stray_dn: float
    """Scatter of the level of the reference's frames, DN (`calibration.fields.check_frames.stray_level`)."""
    checked: Checked | None
    """Result of the check frames, if there are any."""


@component
class OffAxisRecovery(RecoveryMethod[State]):
    """Each probe in one frame, with a tilted reference: ``conj(R) T x`` is a sideband of the frame's spectrum.

    The frame of the reference alone is subtracted, which removes the beam's intensity profile, the leaked light and the
    dark level; the sideband is cut out, shifted to the centre, transformed back, and divided by |R| (E. Cuche, P.
    Marquet and C. Depeursinge, Appl. Opt. 39, 4070 (2000)). The probes are those of
    `calibration.recovery.designs.probes.choose_design`. The method needs a pupil, so that speckle grains are wider than
    fringes; neighbouring rows within a grain are then correlated, and so are their errors. See
    `calibration.projections.off_axis.OffAxisProjection` for its limits.

    Check frames (`checks`) show lost and doubled frames, light that changes, and a camera that is not linear: rows are
    then refused or have a larger error, and a warning is given. They also show a medium that moves: the stated errors
    are those against the matrix of the last frame (0.9 to 1.15 of the true ones at correlation times of 1e4 and more).
    """

    name: ClassVar[str] = "off-axis"
    uses_reference: ClassVar[bool] = True

    seed: Seed = 0
    """Not used: the probes are fixed."""
    repeats: int = Field(default=16, ge=1, le=4096)
    """Frames of the reference alone."""
    checks: int = Field(default=8, ge=0, le=4096)
    """Random patterns that are predicted from the result and not fitted (`calibration.fields.check_frames`), after
    the probes: a frame of each with the reference, and one without. With 0 or 1 nothing is checked."""

    @property
    def design(self) -> Design:
        """The probes."""
        return choose_design(self.n_inputs)

    @property
    def frames(self) -> int:  # noqa: D102
        return self.repeats + self.design.order + 2 * self.checks

    @property
    def condition_number(self) -> float:  # noqa: D102
        return self.design.condition_number

    @property
    def gauge(self) -> Gauge:  # noqa: D102
        return REFERENCE_GAUGE

    def check(self, device: Device) -> None:  # noqa: D102
        check_optics(device)

    def shots(self, start: int, stop: int) -> Shots:  # noqa: D102
        probe, order = np.arange(start, stop) - self.repeats, self.design.order
        patterns = np.zeros((len(probe), self.n_in), np.bool_)
        shown, check = (probe >= 0) & (probe < order), probe >= order
        patterns[shown, : self.n_inputs] = self.design.patterns(probe[shown], self.n_inputs)
        if check.any():
            which = (probe[check] - order) % self.checks
            patterns[check, : self.n_inputs] = check_patterns(self.checks, self.n_inputs)[which]
        return Shots(patterns, np.where(probe < order + self.checks, 0.0, np.nan))

    def for_exposure(self) -> Self:
        """Return the method without check frames, some of which are dim."""
        return replace(self, checks=0)

    def prepare(self, raw: RawFrames, bench: Bench) -> State:  # noqa: D102
        beams = raw.frames(0, self.repeats)
        backend = backend_of(beams)
        xp, alone = backend.xp, backend.xp.astype(mean(beams, 0, "float64"), backend.xp.float32)
        end = self.repeats + self.design.order
        seen = np.unique(np.linspace(self.repeats, end - 1, MAX_LOCATING_FRAMES).astype(int))
        frames = xp.concat([raw.frames(int(frame), int(frame) + 1) for frame in seen])
        beam = alone - float(np.float32(bench.noise.dark_dn))
        bad = bad_pixels(beam, alone >= bench.saturation_dn)
        sideband = locate_sideband(frames, alone, bad, bench)
        fields = empty_fields(backend, (self.design.order, bench.n_out))
        variance, touched = (backend.zeros((bench.n_out,), "float64") for _ in range(2))
        size = max(CHUNK_PIXELS // bench.n_out, 1)
        for start in range(self.repeats, end, size):
            part = raw.frames(start, min(start + size, end))
            full = part >= bench.saturation_dn
            probes = slice(start - self.repeats, start - self.repeats + part.shape[0])
            fields[probes, :] = sideband.demodulate(difference(part, alone), full | bad)
            variance += 2.0 * xp.sum(sideband.variance(bench.noise.variance(part)), axis=0)
            touched += total(sideband.outputs_affected(full & ~bad), 0, "float64")
        reference = sideband.subtract_fringes(beam[None, :], bad[None, :])[0, :]
        reference = reference - float(np.float32(abs(bench.leakage) ** 2 * bench.unit_dn))
        share, variance = (xp.astype(one / self.design.order, xp.float32) for one in (touched, variance))
        checked = self.check_frames(raw, alone, fields, variance, sideband, bad, bench)
        reference, variance, share = (to_host(one) for one in (reference, variance, share))
        return State(fields, reference, variance, share, sideband, stray_level(beams, bench), checked)

    def check_frames(
        self, raw: RawFrames, alone: Array, fields: Array, variance: Array, sideband: Sideband, bad: Array,
        bench: Bench,
    ) -> Checked | None:  # fmt: skip
        """Compare the check frames with what the probes predict; None if there are fewer than two patterns."""
        if self.checks < 2:
            return None
        start = self.repeats + self.design.order
        both, dim = raw.frames(start, start + self.checks), raw.frames(start + self.checks, raw.count)
        backend = backend_of(both)
        found = sideband.demodulate(difference(both, alone), (both >= bench.saturation_dn) | bad)
        noise = 2.0 * sideband.variance(bench.noise.variance(both))
        patterns = np.zeros((self.design.order, self.checks), np.float32)
        patterns[: self.n_inputs] = check_patterns(self.checks, self.n_inputs).T
        weights = self.design.solve_transposed(patterns).T.astype(np.complex64)
        predicted = backend.asarray(weights) @ fields
        noise += self.design.pattern_gain(self.n_inputs) * variance
        fits = check_fields(found, predicted, noise, sideband, bad, bench)
        return Checked(*fits, check_bend(both, dim, alone, sideband, bad, bench))

    def solve(self, frames: Array, rows: slice, bench: Bench, state: State) -> Block:  # noqa: D102
        reference, variance = state.reference[rows], state.variance[rows]
        valid = reference > max(DARK_SHARE * float(state.reference.mean()), 0.0)
        valid &= ~state.sideband.edge[rows]
        squared_scale = 1.0 / (np.where(valid, reference, np.float32(np.inf)) * np.float32(bench.unit_dn))
        backend = backend_of(state.fields)
        xp, fields = backend.xp, backend.xp.asarray(state.fields[:, rows], copy=True)
        matrix = self.design.solve(fields)[: self.n_inputs, :].T * backend.asarray(np.sqrt(squared_scale))[:, None]
        length = to_host(xp.mean(xp.abs(matrix) ** 2, axis=1))
        light = to_host(xp.mean(xp.abs(fields) ** 2, axis=0)) * squared_scale
        probe = variance * squared_scale
        spread = bench.noise.variance(reference + np.float32(bench.noise.dark_dn))
        alone = spread / self.repeats
        relative = np.sqrt(alone + (2.0 * state.stray_dn) ** 2) / (2.0 * np.where(valid, reference, np.float32(1.0)))
        model = to_host(state.sideband.model_error)[rows]
        gain = float(self.design.gain(self.n_inputs).mean())
        error = np.sqrt(gain * probe + length * (bench.scale_error**2 + relative**2 + model**2))
        # All probes have the error of the beam's mean frame in common. Noise under half a code gives every frame the
        # same rounding error, which averaging does not reduce.
        share = self.design.pattern_gain(self.n_inputs) + np.maximum(1.0 / self.repeats, QUANTISATION / spread)
        # Fields are averages over a grain, while |R| and the frames have the response of the single pixel. Twice PRNU
        # in intensity is 4 times half of PRNU in the field; the division by |R| and the pixel's own share of its grain
        # reduce it to 3 times.
        pattern = (
            share * probe + light * (relative**2 + model**2 + (3.0 * bench.scale_error) ** 2) + self.unknown_leak(bench)
        )
        misfit = None
        if state.checked is not None:
            misfit, freedom = state.checked.misfit[rows], 2.0 * self.checks
            valid &= ~(misfit > refusal_limit(freedom)) & (state.checked.common <= MAX_MISFIT)
            factor = variance_factor(misfit, freedom, state.checked.common)
            stale, stale_pattern = self.stale_shares(state.checked.stale)
            error = np.sqrt(np.maximum(error**2 * factor, error**2 + length * stale) + length * state.checked.bend**2)
            pattern = np.maximum(pattern * factor, pattern + light * stale_pattern) + light * state.checked.bend**2
        diagnostics = RowDiagnostics(
            misfit=misfit,
            reference_dn=reference,
            touched=state.touched[rows],
            pattern_error=np.sqrt(pattern).astype(np.float32),
        )
        error = np.where(valid, error, np.inf).astype(np.float32)
        return Block(matrix, error, valid, diagnostics)

    def stale_shares(self, stale: float) -> tuple[float, float]:
        """Squared relative errors of a row and a pattern against the last frame, by `Checked.stale` of a drift.

        The check frames with the beam come after the probes, and as many without the beam after these.
        """
        order, after = self.design.order, 2.0 * 2.0 * self.checks
        rate = stale / (STALE_PATTERN * order + self.checks + 1.0)
        return float(np.float32(rate * (STALE * order + after))), float(
            np.float32(rate * (STALE_PATTERN * order + after))
        )

    def findings(self, state: State) -> Findings:  # noqa: D102
        return Findings(sideband_center=np.asarray(state.sideband.center), sideband_radius=state.sideband.radius)

    def grain(self, state: State) -> float:  # noqa: D102
        return len(state.reference) / state.sideband.independent


def locate_sideband(frames: Array, alone: Array, bad: Array, bench: Bench, margin: float = 1.0) -> Sideband:
    """Find the sideband of ``conj(R) y`` in frames, (count, n_out), after the reference alone is subtracted.

    The disc at the centre, of twice the field's band, contains the field's own intensity and is left out. If the centre
    is within a bin of that of the data sheet, the latter is used: frames do not determine it better. The radius is
    where the noise exceeds the light, which extends beyond the band if the beam has aberrations. Without noise, traces
    of saturated pixels exceed it everywhere, so a ring must also have `MIN_RING_SHARE` of the light. A radius beyond
    the band is multiplied by `margin`, for fits to many frames, in which dimmer rings count.
    """
    assert bench.field_band is not None  # OffAxisRecovery.check requires a pupil
    shape, band = bench.frame_shape, bench.field_band
    expected = -bench.carrier[0], -bench.carrier[1]
    backend = backend_of(frames)
    cross, full = backend.xp.where(bad, 0.0, difference(frames, alone)), (frames >= bench.saturation_dn) | bad
    power = mean_power(cross, shape, bench.cropped)
    power[disc(shape, (0.0, 0.0), 2.0 * band + 0.5 / min(shape))] = 0.0
    center, room = place_sideband(power, band, expected)
    wide = located(Sideband.at(shape, center, room, band, 1, cropped=bench.cropped), backend)
    radii, count, density = annuli(mean_power(wide.demodulate(cross, full), shape, bench.cropped))
    xp = backend.xp
    noise = float(xp.mean(xp.sum(bench.noise.variance(frames), axis=1)))  # of a bin: the sum over all pixels
    light = count * (density - noise)
    dim = (density < 2.0 * noise) | (light < MIN_RING_SHARE * float(light[radii <= band].sum()))
    radius = disc_radius(radii, dim & (count > 0), band, room, margin)
    found = Sideband.at(shape, center, radius, band, bench.samples_per_pixel, bench.visibility, bench.cropped)
    return located(found, backend)


def empty_fields(backend: Backend, shape: tuple[int, int]) -> Array:
    """Array for the fields of all probes: in the memory of the device, or in a temporary file of the host."""
    if not backend.on_host:
        return backend.empty(shape, "complex64")
    with tempfile.TemporaryFile(prefix="opu-") as file:
        return np.memmap(file, np.complex64, "w+", shape=shape)
