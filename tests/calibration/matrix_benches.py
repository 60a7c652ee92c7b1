"""Devices on which transmission matrices are recovered, and the error of a result."""

import dataclasses
import math

import numpy as np

from calibration.metrics import matrix_error, output_error
from calibration.recovery.exposure import expose
from calibration.recovery.transmission import recover_transmission_matrix
from photonics import Camera, presets
from photonics.parts.reference import Reference
from tests.calibration.benches import field_matrix

M, N = 1000, 256


def bench(seed=0, n=N, m=M, camera=None, **reference):
    """The device of the figures in docs/calibration.md."""
    camera = Camera(seed=seed, read_noise_e=3.0) if camera is None else camera
    opu = presets.lab_bench(n, m, seed=seed)
    return opu.replace(camera=camera, imaging=dataclasses.replace(opu.imaging, reference=Reference(**reference)))


def small(seed=0, m=150):
    """The same device with few inputs and pixels, well exposed."""
    opu = bench(seed, n=31, m=m)
    opu.exposure_s = 2e-4
    return opu


def tilted(preset, n, side=32, band=0.1, seed=0, **changes):
    """A square sensor behind a pupil, the reference tilted by a whole number of fringes along both axes."""
    opu = getattr(presets, preset)(n, 4 * side * side, seed=seed)
    cycles = opu.laser.wavelength_m / opu.imaging.pixel_m
    angle = math.asin(round(0.34 * side) / side * cycles)
    imaging = dataclasses.replace(
        opu.imaging,
        numerical_aperture=band * cycles,
        samples=2,
        sensor=(side, side),
        reference=Reference(angle_x_rad=angle, angle_y_rad=angle, **changes),
    )
    return opu.replace(imaging=imaging)


def error(estimate, opu):
    truth = field_matrix(opu)[:, : estimate.matrix.shape[1]]
    rows = estimate.valid
    return matrix_error(estimate.matrix[rows], truth[rows], estimate.gauge)


def saturated(estimate):
    return float(estimate.diagnostics["saturated"].mean())


def well(depth_e):
    """The bench with shot noise alone, and a 16-bit quantiser."""
    camera = Camera(bit_depth=16, full_well_e=depth_e, read_noise_e=0.0, dark_current_e_per_s=0.0, prnu=0.0, dsnu_e=0.0)
    opu = bench(camera=camera, m=300, n=64)
    laser = dataclasses.replace(opu.laser, drift_rms=0.0, rin_db_per_hz=None, pointing_rad=0.0)
    dmd = dataclasses.replace(opu.dmd, contrast=None)
    imaging = dataclasses.replace(opu.imaging, throughput=opu.imaging.throughput * depth_e / 1e4)
    return opu.replace(laser=laser, dmd=dmd, imaging=imaging)


def check_exact(opu, method, **options):
    """Recover the matrix of a device without noise; scale and sign are not fitted."""
    expose(opu, method, saturated=1e-5, **options)
    opu.exposure_s *= 0.7
    estimate = recover_transmission_matrix(opu, method, exposure="keep", **options)
    assert error(estimate, opu) < 1e-3
    assert estimate.valid.mean() > 0.95
    assert estimate.matrix.dtype == np.complex64
    assert estimate.frames == opu.clock.frames - estimate.provenance["start_frame"]
    if method != "popoff":
        x = np.random.default_rng(0).random((20, estimate.matrix.shape[1])) < 0.5
        truth = field_matrix(opu)[:, : x.shape[1]]
        assert output_error(estimate.matrix, truth, x, estimate.gauge) < 1e-3
    return estimate


def fibre(m, n, seed=0, decades=1.75):
    """A matrix of correlated rows, whose norms span so many decades, like that of a multimode fibre: (m, n)."""
    rng, k = np.random.default_rng(seed), np.arange(m)
    mixing, modes = rng.normal(size=(2, m, n)), rng.normal(size=(2, n, n))
    blur = np.exp(-np.minimum(((k[:, None] - k) / 3.0) ** 2 / 2.0, 50.0))
    matrix = blur @ (mixing[0] + 1j * mixing[1]) @ (modes[0] + 1j * modes[1])
    matrix *= (10 ** (decades / 2 * np.sin(6 * np.pi * k / m)) / np.linalg.norm(matrix, axis=1))[:, None]
    return matrix / np.sqrt(n * np.mean(np.abs(matrix) ** 2))
