"""Benches on which transmission matrices are recovered, and how far a result is from the truth."""

import dataclasses
import math

from calibration.metrics import matrix_error
from photonics import Camera, Imaging, presets
from photonics.parts.reference import Reference
from tests.calibration.benches import field_matrix

M, N = 1000, 256


def bench(seed=0, n=N, m=M, camera=None, **reference):
    """The device of the figures."""
    camera = Camera(seed=seed, read_noise_e=3.0) if camera is None else camera
    opu = presets.lab_bench(n, m, seed=seed)
    return opu.replace(camera=camera, imaging=Imaging(reference=Reference(**reference)))


def small(seed=0, m=150):
    """The same with few inputs and pixels, well exposed."""
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
