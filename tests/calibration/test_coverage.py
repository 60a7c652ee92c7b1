"""The uncertainty that each method states covers the truth at the stated rate: at 1, 2 and 3 standard errors.

Errors of a row share the error of its scale, so the rates scatter with the number of rows and seeds, not of values. The
tolerance is four standard errors of their mean over the seeds, plus the allowed error of the model.
"""

import dataclasses
import functools

import numpy as np
import pytest

from calibration import recover_transmission_matrix
from calibration.metrics import fix_gauge
from calibration.recovery.exposure import expose
from calibration.reports.chapters.common import measure_dark
from calibration.reports.chapters.matrix import matrix_chapter
from photonics import presets
from tests.calibration.benches import METHODS, calibrate, field_matrix, half_on, truth_of
from tests.calibration.benches import bench as projection_bench
from tests.calibration.matrix_benches import bench, tilted

RATES = np.array([0.6827, 0.9545, 0.9973])
SEEDS = range(4)


def rates(pull):
    """Shares of real and imaginary parts within 1, 2 and 3 standard errors."""
    parts = [pull.real, pull.imag] if np.iscomplexobj(pull) else [pull]
    size = np.abs(np.concatenate([part.ravel() for part in parts]))
    return [np.mean(size < count) for count in (1, 2, 3)]


def check(found, most):
    """Rates of the seeds, (seeds, 3), within the error of the model and four standard errors of the stated ones."""
    found = np.array(found)
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    off = found.mean(axis=0) - RATES
    assert (np.abs(off) < np.array(most) + 4.0 * error).all(), (found.mean(axis=0), error)


@pytest.mark.parametrize("name", METHODS)
def test_projections(name):
    """Within 0.02, 0.01 and 0.003 of 68.3, 95.4 and 99.7 % on `lab_bench`, and with anchors more is allowed above.

    Multilateration has 0.035 too many within 1 standard error (0.06 where anchors give 3 DN): what it allows for all
    mirrors OFF, whose frames are rounded to whole codes, is a bound. Catches: shot noise left out; the variance of the
    complex number in place of its part's.
    """
    found = []
    for seed in SEEDS:
        opu = projection_bench("lab_bench", name, seed=10 + seed)
        if name == "multilateration":
            opu = opu.replace(imaging=dataclasses.replace(opu.imaging, throughput=8.0 * opu.imaging.throughput))
        projection = calibrate(opu, name)
        x = half_on(40, projection.n_inputs, seed)
        if name == "reference pairs":  # an error common to all vectors looks like a turn of the phase, which is fitted
            x = x.astype(int) - half_on(40, projection.n_inputs, 50 + seed)
        got = projection.measure(x)
        good = ~got.saturated & projection.valid
        truth = truth_of(projection, x, np.where(got.saturated, 0, got.values))
        found.append(rates(((got.values - truth) / got.standard_error)[good]))
    check(found, (0.04 if name == "multilateration" else 0.02, 0.01, 0.003))


CASES = {
    "phase-stepping": {},
    "3 steps": {"steps": 3},
    "5 steps": {"steps": 5},
    "3 steps, 1 % saturated": {"steps": 3, "saturated": 1e-2},
    "1 % saturated": {"saturated": 1e-2},
    "tracked": {"track_drift": True},
    "off-axis": {},
    "popoff": {},
    "numerical-interferometry": {"frames_per_input": 14},
    "phase-retrieval": {"frames_per_input": 10},
}


@functools.cache
def recovered(name, seed):
    """A bench, and its matrix as found at the exposure that suits the method."""
    method, options = name if name in ("off-axis", "popoff") or "-" in name else "phase-stepping", dict(CASES[name])
    share = options.pop("saturated", 1e-3)
    if method == "off-axis":
        opu = tilted("lab_bench", 64, seed=seed)
    elif name == "tracked":
        opu = bench(seed, n=64, m=300, phase_drift_rad=0.4, phase_drift_time_s=5e-3)
    else:
        opu = bench(seed, n=128 if method == "popoff" else 64, m=300)
    expose(opu, method, share, **options)
    return opu, recover_transmission_matrix(opu, method, exposure="keep", **options)


@pytest.mark.parametrize("name", CASES)
def test_matrices(name):
    """Entries of the matrix within 0.03, 0.012 and 0.004 of the rates, their rms error within 6 % of what is stated.

    At 64 inputs and 300 rows; few fields of one reading, with a large error each, scatter the rms by 1.5 %.

    A row has one standard error for all of its entries, though columns differ by 10 % (tracked: the first by 80 %),
    which fattens the tails. With few inputs numerical interferometry states 5 % too much, at 256 within 2 %.
    Catches: variance of one part in place of both; a field of one reading put at a point of its ring (1.26 at 1 %).
    """
    found, ratios = [], []
    for seed in SEEDS:
        opu, estimate = recovered(name, seed)
        truth = field_matrix(opu)[estimate.valid, : estimate.matrix.shape[1]]
        fixed = fix_gauge(estimate.matrix[estimate.valid], truth, estimate.gauge)
        error = estimate.standard_error[estimate.valid]
        error = error if error.ndim == 2 else error[:, None]
        found.append(rates((fixed - truth) / error * np.sqrt(2.0)))
        ratios.append(np.mean(np.abs(fixed - truth) ** 2) / np.mean(error**2))
    check(found, (0.03, 0.012, 0.004))
    assert abs(np.sqrt(np.mean(ratios)) - 1.0) < 0.06, ratios


@pytest.mark.parametrize("name", [name for name in CASES if name != "popoff"])
def test_held_out_frames_agree_with_what_a_matrix_states(name):
    """The report's line "stated uncertainty" is 1 within 0.06 and four standard errors over the seeds.

    Without a reference 0.16 is allowed, as the direction in which a field errs depends on the field. Catches: errors of
    entries taken as free of each other where probes are half ON (0.85); leaked light taken off at a wrong phase (1.7),
    or not at all (tracked: 1.3); PRNU, which shows twice off axis (1.4).
    """
    found = []
    for seed in SEEDS:
        opu, estimate = recovered(name, seed)
        opu.exposure_s = presets.lab_bench(8, 8).exposure_s
        lines = matrix_chapter(opu, estimate, measure_dark(opu, opu.camera.gain)[0], seed).lines
        found.append(next(line.measured for line in lines if line.name == "stated uncertainty"))
    allowed = 0.16 if name in ("numerical-interferometry", "phase-retrieval") else 0.06
    assert abs(np.mean(found) - 1.0) < allowed + 4.0 * np.std(found, ddof=1) / np.sqrt(len(found)), found
