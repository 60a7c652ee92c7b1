"""Results are the same bits on any number of threads."""

import numpy as np
import pytest
from numba.core import config
from threadpoolctl import threadpool_limits

from calibration import measure_projection, recover_transmission_matrix
from calibration.recovery.interferometry import anchored_design
from calibration.recovery.phase_retrieval import complement_design
from calibration.recovery.popoff import stepped_design
from calibration.wavefront.focusing import focus
from calibration.wavefront.images import recover_from_frames, recover_from_projections, send
from photonics import GaussianMedium, Imaging, Reference, presets

DESIGNS = (anchored_design, complement_design, stepped_design)


def grains(n_in):
    """A device with grains of several pixels and a tilted reference whose fringes do not fit on the sensor."""
    reference = Reference(intensity=2.0, angle_x_rad=0.0252, angle_y_rad=0.0252)
    imaging = Imaging(numerical_aperture=0.0077, sensor=(20, 25), reference=reference)
    return presets.lab_bench(n_in, 500).replace(medium=GaussianMedium(n_in, 4 * 500, seed=3), imaging=imaging)


def with_threads(threads, use, opu, monkeypatch):
    """Results of `use` with this number of threads of BLAS and of this package, nothing kept from an earlier run."""
    for design in DESIGNS:
        design.cache_clear()
    monkeypatch.setattr(config, "NUMBA_NUM_THREADS", threads)
    opu.autoexpose(0.3)
    with threadpool_limits(threads, user_api="blas"):
        return use(opu)


RECOVERIES = {
    "phase-stepping": (lambda: presets.lab_bench(64, 1000), {"track_drift": True}),
    "popoff": (lambda: presets.lab_bench(256, 300), {}),
    "off-axis": (lambda: grains(64), {}),
    "numerical-interferometry": (lambda: presets.lab_bench(128, 300), {}),
    "phase-retrieval": (lambda: presets.lab_bench(128, 300), {}),
}


@pytest.mark.parametrize("method", RECOVERIES)
def test_recoveries(method, monkeypatch):
    """Matrix, stated errors and findings about drift. Catches: a product or an eigenvector that BLAS adds in parts."""
    make, options = RECOVERIES[method]

    def use(opu):
        found = recover_transmission_matrix(opu, method, exposure="auto", **options)
        return [found.matrix, found.standard_error, *found.diagnostics.values(), *found.drift.values()]

    for one, two in zip(*(with_threads(count, use, make(), monkeypatch) for count in (1, 2)), strict=True):
        np.testing.assert_array_equal(one, two)


PROJECTIONS = {
    "anchor": (lambda: presets.lab_bench(128, 1000), {}),
    "phase-stepping": (lambda: presets.lab_bench(64, 1000), {}),
    "off-axis": (lambda: grains(64), {}),
    "multilateration": (lambda: presets.lab_bench(128, 1000), {"n_inputs": 64}),
    "reference-pairs": (lambda: presets.lab_bench(64, 1000), {}),
}


@pytest.mark.parametrize("method", PROJECTIONS)
def test_projections(method, monkeypatch):
    """Values and stated errors of ternary and real vectors. Catches: as above."""
    make, options = PROJECTIONS[method]

    def use(opu):
        projection = measure_projection(opu, method, **options)
        x = np.random.default_rng(0).integers(-1, 2, (40, projection.n_inputs))
        return [*projection.measure(x), projection(0.37 * x), projection.effective_matrix()]

    for one, two in zip(*(with_threads(count, use, make(), monkeypatch) for count in (1, 2)), strict=True):
        np.testing.assert_array_equal(one, two)


def test_images_and_foci(monkeypatch):
    """Images from frames and from projections, and foci. Catches: as above."""

    def use(opu):
        matrix, x = opu.effective_matrix(), np.random.default_rng(0).random((50, 128)) < 0.4
        foci, frames = focus(opu, matrix, 4), send(opu, x)
        images = recover_from_frames(opu, matrix, frames, iterations=20), recover_from_projections(matrix, x @ matrix.T)
        return [foci.enhancement, foci.predicted, foci.frame, *images]

    for one, two in zip(
        *(with_threads(count, use, presets.lab_bench(128, 600), monkeypatch) for count in (1, 2)), strict=True
    ):
        np.testing.assert_array_equal(one, two)
