"""Transmission matrix by off-axis holography: one frame per probe."""

import tempfile
from typing import ClassVar, NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from calibration.device import Device
from calibration.fields.readings import DARK_SHARE, Bench, RawFrames
from calibration.fields.sideband import Sideband, annuli, bad_pixels, check_optics, disc, place_sideband
from calibration.recovery.base import Block, Findings, Gauge, RecoveryMethod, RowDiagnostics, Shots
from calibration.recovery.designs.probes import Design, choose_design
from photonics.arrays import Array, BoolArray, ComplexArray, FloatArray, HostArray
from photonics.component import Field, Seed, component

__all__ = ["OffAxisRecovery"]

CHUNK_PIXELS = 2**21
"""Number of pixels demodulated at a time."""
MAX_LOCATING_FRAMES = 64
"""Maximum number of frames in the mean spectrum in which the sideband is located."""


class State(NamedTuple):
    """Data shared by all rows, with the fields on disk."""

    fields: ComplexArray
    """Fields of all probes, (n_probes, n_out), in a temporary file that lives as long as this array."""
    reference: FloatArray
    """Intensity of the reference alone on each pixel, DN, (n_out,)."""
    variance: FloatArray
    """Mean over probes of the variance of a field, real and imaginary part together, DN^2: (n_out,)."""
    touched: FloatArray
    """Share of probes in which a saturated pixel contributed to the field of this pixel, (n_out,)."""
    center: tuple[float, float]
    """Centre of the sideband, cycles per pixel along x and y."""
    radius: float
    """Radius of the sideband, cycles per pixel."""


@component
class OffAxisRecovery(RecoveryMethod[State]):
    """Each probe in one frame, with a tilted reference: ``conj(R) T x`` is a sideband of the frame's spectrum.

    The frame of the reference alone is subtracted, which removes the beam's intensity profile, the leaked light and the
    dark level; the sideband is cut out, shifted to the centre, transformed back, and divided by |R| (E. Cuche, P.
    Marquet and C. Depeursinge, Appl. Opt. 39, 4070 (2000)). The probes are those of
    `calibration.recovery.designs.probes.choose_design`. The method needs a pupil, so that speckle grains are wider than
    fringes; neighbouring rows within a grain are then correlated, and so are their errors. See
    `calibration.projections.off_axis.OffAxisProjection` for its limits.
    """

    name: ClassVar[str] = "off-axis"

    n_in: int = Field(ge=1)
    """Inputs of the device."""
    n_inputs: int = Field(ge=1)
    """Inputs whose columns are recovered, the first ones; the others stay OFF."""
    seed: Seed = 0
    """Not used: the probes are fixed."""
    repeats: int = Field(default=16, ge=1, le=4096)
    """Frames of the reference alone."""

    @property
    def design(self) -> Design:
        """The probes."""
        return choose_design(self.n_inputs)

    @property
    def frames(self) -> int:  # noqa: D102
        return self.repeats + self.design.order

    @property
    def condition_number(self) -> float:  # noqa: D102
        return self.design.condition_number

    @property
    def gauge(self) -> Gauge:  # noqa: D102
        return Gauge("each row is multiplied by a phase, that of the conjugate reference at its pixel")

    def check(self, device: Device) -> None:  # noqa: D102
        check_optics(device)

    def shots(self, start: int, stop: int) -> Shots:  # noqa: D102
        probe = np.arange(start, stop) - self.repeats
        patterns = np.zeros((len(probe), self.n_in), np.bool_)
        shown = probe >= 0
        patterns[shown, : self.n_inputs] = self.design.patterns(probe[shown], self.n_inputs)
        return Shots(patterns, np.zeros(len(probe)))

    def prepare(self, raw: RawFrames, bench: Bench) -> State:  # noqa: D102
        alone = raw.frames(0, self.repeats).mean(axis=0, dtype=np.float64).astype(np.float32)
        seen = np.unique(np.linspace(self.repeats, raw.count - 1, MAX_LOCATING_FRAMES).astype(int))
        frames = np.concatenate([raw.frames(int(frame), int(frame) + 1) for frame in seen])
        bad = bad_pixels(alone - np.float32(bench.noise.dark_dn), alone >= bench.saturation_dn)
        sideband = locate_sideband(frames, alone, bad, bench)
        with tempfile.TemporaryFile(prefix="opu-") as file:
            fields = np.memmap(file, np.complex64, "w+", shape=(self.design.order, bench.n_out))
        variance, touched = np.zeros(bench.n_out, np.float64), np.zeros(bench.n_out, np.float64)
        size = max(CHUNK_PIXELS // bench.n_out, 1)
        for start in range(self.repeats, raw.count, size):
            part = raw.frames(start, min(start + size, raw.count))
            full = part >= bench.saturation_dn
            probes = slice(start - self.repeats, start - self.repeats + len(part))
            fields[probes] = sideband.demodulate(part - alone, full | bad)
            variance += 2.0 * sideband.variance(bench.noise.variance(part)).sum(axis=0)
            touched += sideband.outputs_affected(full & ~bad).sum(axis=0)
        count = self.design.order
        reference = sideband.subtract_fringes(alone - np.float32(bench.noise.dark_dn), bad)
        reference = reference - np.float32(abs(bench.leakage) ** 2 * bench.unit_dn)
        share = (touched / count).astype(np.float32)
        return State(fields, reference, (variance / count).astype(np.float32), share, sideband.center, sideband.radius)

    def solve(self, frames: HostArray, rows: slice, bench: Bench, state: State) -> Block:  # noqa: D102
        reference, variance = state.reference[rows], state.variance[rows]
        valid = reference > max(DARK_SHARE * float(state.reference.mean()), 0.0)
        squared_scale = 1.0 / (np.where(valid, reference, np.float32(np.inf)) * np.float32(bench.unit_dn))
        fields = np.array(state.fields[:, rows])
        matrix = self.design.solve(fields)[: self.n_inputs].T * np.sqrt(squared_scale)[:, None]
        length, light = np.mean(np.abs(matrix) ** 2, axis=1), np.mean(np.abs(fields) ** 2, axis=0) * squared_scale
        probe = variance * squared_scale
        alone = bench.noise.variance(reference + np.float32(bench.noise.dark_dn)) / self.repeats
        relative = np.sqrt(alone) / (2.0 * np.where(valid, reference, np.float32(1.0)))
        gain = float(self.design.gain(self.n_inputs).mean())
        error = np.sqrt(gain * probe + length * (bench.scale_error**2 + relative**2))
        share = self.design.pattern_gain(self.n_inputs) + 1.0 / self.repeats
        # Fields are averages over a grain, while |R| and the frames have the response of the single pixel. Twice PRNU
        # in intensity is 4 times half of PRNU in the field; the division by |R| and the pixel's own share of its grain
        # reduce it to 3 times.
        pattern = share * probe + light * (relative**2 + (3.0 * bench.scale_error) ** 2) + self.unknown_leak(bench)
        diagnostics = RowDiagnostics(
            reference_dn=reference,
            touched=state.touched[rows],
            pattern_error=np.sqrt(pattern).astype(np.float32),
        )
        error = np.where(valid, error, np.inf).astype(np.float32)
        return Block(matrix.astype(np.complex64), error, valid, diagnostics)

    def findings(self, state: State) -> Findings:  # noqa: D102
        return Findings(sideband_center=np.asarray(state.center), sideband_radius=state.radius)


def locate_sideband(frames: HostArray, alone: FloatArray, bad: BoolArray, bench: Bench) -> Sideband:
    """Find the sideband of ``conj(R) y`` in frames, (count, n_out), after the reference alone is subtracted.

    The disc at the centre, of twice the field's band, contains the field's own intensity and is left out. If the centre
    is within a bin of that of the data sheet, the latter is used: frames do not determine it better. The radius is
    where the noise exceeds the light, which extends beyond the band if the beam has aberrations.
    """
    assert bench.field_band is not None  # OffAxisRecovery.check requires a pupil
    shape, band = bench.frame_shape, bench.field_band
    expected = -bench.carrier[0], -bench.carrier[1]
    cross, full = np.where(bad, np.float32(0.0), frames - alone), (frames >= bench.saturation_dn) | bad
    power = mean_power(cross, shape)
    power[disc(shape, (0.0, 0.0), 2.0 * band + 0.5 / min(shape))] = 0.0
    center, room = place_sideband(power, band, expected)
    wide = Sideband.at(shape, center, room, band, 1)
    radii, count, density = annuli(mean_power(wide.demodulate(cross, full), shape))
    noise = float(bench.noise.variance(frames).sum(axis=1).mean())  # of a bin: the sum over all pixels
    fading = np.flatnonzero((density < 2.0 * noise) & (radii > band) & (count > 0))
    radius = float(radii[fading[0]]) - 0.5 / min(shape) if fading.size else room
    return Sideband.at(shape, center, min(max(radius, band), room), band, bench.samples_per_pixel, bench.visibility)


def mean_power(images: HostArray, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Mean power spectrum of images, (count, n_out): (rows, columns)."""
    spectrum: Array = scipy.fft.fft2(images.reshape(-1, *shape))
    return (np.abs(spectrum) ** 2).mean(axis=0, dtype=np.float64)
