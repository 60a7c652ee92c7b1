"""Benches for every projection method, and their noiseless results."""

import dataclasses
import math

import numpy as np

from calibration import measure_projection
from calibration.metrics import anchor_truth, pair_truth
from calibration.projections.reference_pairs import PairProjection
from photonics import DMD, OPU, GaussianMedium, presets
from photonics.backend import HOST
from photonics.parts.camera import Camera
from photonics.parts.reference import Reference

METHODS = {
    "anchor, complement": ("anchor", {}),
    "anchor, disjoint": ("anchor", {"n_inputs": 64}),
    "3 steps": ("phase-stepping", {"steps": 3}),
    "4 steps": ("phase-stepping", {}),
    "off-axis": ("off-axis", {}),
    "multilateration": ("multilateration", {"n_inputs": 64, "anchors": 6}),
    "reference pairs": ("reference-pairs", {"n_inputs": 64}),
}
"""Arguments of `measure_projection`, by a name for the test's id."""

N_IN, SENSOR = 160, (20, 25)
BAND, CARRIER = 0.08, 0.26


def off_axis(imaging, wavelength_m, **reference):
    """The optics behind a pupil of the band `BAND`, with a beam tilted by `CARRIER` along both axes."""
    cycles = wavelength_m / imaging.pixel_m
    angle = math.asin(CARRIER * cycles)
    beam = Reference(angle_x_rad=angle, angle_y_rad=angle, intensity=2.0)
    return dataclasses.replace(
        imaging,
        numerical_aperture=BAND * cycles,
        sensor=SENSOR,
        reference=dataclasses.replace(beam, **reference),
    )


def bench(preset, name, seed=0, n_in=N_IN, **reference):
    """A device that suits the method of that name, exposed so that few pixels saturate."""
    opu = getattr(presets, preset)(n_in, math.prod(SENSOR), seed=seed)
    method, _ = METHODS[name]
    if method == "off-axis":
        imaging = off_axis(opu.imaging, opu.laser.wavelength_m, **reference)
        medium = GaussianMedium(n_in, math.prod(SENSOR) * imaging.samples**2, seed=seed)
        opu = opu.replace(imaging=imaging, medium=medium)
    elif reference:
        imaging = dataclasses.replace(opu.imaging, reference=dataclasses.replace(opu.imaging.reference, **reference))
        opu = opu.replace(imaging=imaging)
    opu.exposure_s *= 0.5
    return opu


def calibrate(opu, name, **more):
    method, arguments = METHODS[name]
    return measure_projection(opu, method, **(arguments | more))


def well(opu, depth_e):
    """The device with another full well and equal relative exposure; only shot noise and a 16-bit quantiser."""
    camera = Camera(bit_depth=16, full_well_e=depth_e, read_noise_e=0.0, dark_current_e_per_s=0.0, prnu=0.0, dsnu_e=0.0)
    laser = dataclasses.replace(opu.laser, drift_rms=0.0, rin_db_per_hz=None, pointing_rad=0.0)
    imaging = dataclasses.replace(opu.imaging, throughput=6.4e-7 / opu.n_in * depth_e / 1e4)
    return opu.replace(camera=camera, laser=laser, imaging=imaging, exposure_s=opu.exposure_s)


def field_matrix(opu):
    """The true field on each pixel, per input: (n_out, n_in) complex, in the unit of ``E|t_ij|^2 = 1/n_in``."""
    if opu.imaging.numerical_aperture is None:
        return opu.effective_matrix().astype(np.complex128)
    off, on = opu.dmd.levels(opu.n_in)
    weight = np.sqrt(opu.laser.power_share(opu.cells)) * (on - off)
    matrix = opu.medium.block(slice(None), slice(None)) * (weight / np.sqrt(np.mean(np.abs(weight) ** 2)))
    grid, k = opu.imaging.layout(matrix.shape[0]), opu.imaging.samples_per_pixel
    spectrum = np.fft.fft2(matrix.T.reshape(-1, *grid)) * opu.imaging.filter(grid, opu.laser.wavelength_m, HOST)
    # The middle of a pixel lies between its samples.
    middle = np.fft.fftfreq(grid[0])[:, None] + np.fft.fftfreq(grid[1])[None, :]
    spectrum *= np.exp(1j * np.pi * (k - 1) * middle)
    return np.fft.ifft2(spectrum)[:, ::k, ::k].reshape(opu.n_in, -1).T


def truth_of(projection, x, values):
    """Noiseless values, in the gauge that is nearest to `values`."""
    matrix = field_matrix(projection.opu)
    if isinstance(projection, PairProjection):
        return pair_truth(projection, matrix, x, values)
    if projection.dtype is np.float32:
        return anchor_truth(projection, matrix, x)
    fields = np.asarray(x, np.float64) @ matrix[:, : projection.n_inputs].T
    turned = [turn(wanted, values) for wanted in (fields, np.conj(fields))]
    if "conjugate" not in projection.gauge:
        return turned[0]
    distance = [np.sum(np.abs(wanted - values) ** 2, axis=0) for wanted in turned]
    return np.where(distance[0] <= distance[1], *turned)


def turn(fields, values):
    """Fields with each row's phase turned to that of the values."""
    phase = np.sum(np.conj(fields) * values, axis=0)
    return fields * phase / np.maximum(np.abs(phase), 1e-30)


def errors(projection, x, values=None):
    """Error of each valid row over its rms, over the vectors."""
    values = projection(x) if values is None else values
    truth = truth_of(projection, x, values)[:, projection.valid]
    deviation = values[:, projection.valid] - truth
    return np.sqrt(np.sum(np.abs(deviation) ** 2, axis=0) / np.sum(np.abs(truth) ** 2, axis=0))


def true_over_stated(projection, x, found, good=None):
    """Rms error per axis over the rms standard error, of the values `good`: by default those not saturated."""
    good = projection.valid & ~found.saturated if good is None else good
    deviation = (found.values - truth_of(projection, x, np.where(good, found.values, 0)))[good]
    axes = 2.0 if np.iscomplexobj(deviation) else 1.0
    return np.sqrt(np.mean(np.abs(deviation) ** 2) / axes / np.mean(found.standard_error[good] ** 2))


def half_on(batch, n, seed=0):
    return np.random.default_rng(seed).random((batch, n)) < 0.5


def ternary(batch, n, seed=0):
    return np.random.default_rng(seed).choice([-1, 0, 1], (batch, n))


def grey(batch, n, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (batch, n))


def expose_to_share(opu, share, patterns, **open_shutter):
    """Set the longest exposure at which no more than a share of the readings saturates."""
    low, high = 1e-6, opu.frame_period_s
    for _ in range(12):
        opu.exposure_s = math.sqrt(low * high)
        full = (opu.measure(patterns, **open_shutter) >= opu.camera.saturation_dn).mean()
        low, high = (low, opu.exposure_s) if full > share else (opu.exposure_s, high)
    opu.exposure_s = low
    return opu


def table_bench(imaging, n_in=256, pixels=1000, share=1e-3, samples=1):
    """The bench of the table of methods: 8 bits, full well 10 ke-, read noise 3 e-, 0.1 % of the readings saturated."""
    opu = OPU(
        medium=GaussianMedium(n_in, pixels * samples**2, seed=0),
        camera=Camera(read_noise_e=3.0, seed=1),
        dmd=DMD(seed=1),
        imaging=imaging,
    )
    return opu, share
