"""Stated errors of a matrix whose medium moves while it is measured: against the matrix of the last frame."""

import dataclasses

import numpy as np
import pytest

from calibration import RecordedDevice, Recorder, recover_transmission_matrix
from calibration.camera.decay import STALE, STALE_PATTERN, decay_between
from calibration.metrics import matrix_row_errors
from calibration.recovery.designs.probes import choose_design
from calibration.recovery.methods import build_method, take_frames
from photonics import Drifting, GaussianMedium, MatrixMedium, presets
from photonics.parts.reference import Reference
from tests.calibration.benches import field_matrix
from tests.calibration.matrix_benches import tilted


def bench(method, n, tau):
    opu = tilted("lab_bench", n, seed=1) if method == "off-axis" else presets.lab_bench(n, 200, seed=1)
    return opu.replace(medium=Drifting(GaussianMedium(n, opu.medium.shape[0], seed=1), tau))


def last_matrix(opu, count):
    now = opu.medium.block(slice(None), slice(None), opu.clock.frames - 1)
    return field_matrix(opu.replace(medium=MatrixMedium(now)))[:, :count]


@pytest.mark.filterwarnings("ignore:the medium moves", "ignore:frames do not fit the model")
@pytest.mark.parametrize(
    ("method", "n", "taus"),
    [
        ("phase-stepping", 64, (1e6, 1e5, 1e4)),
        ("off-axis", 64, (1e6, 1e5, 1e4)),
        ("popoff", 64, (1e6, 1e5)),
        ("numerical-interferometry", 48, (1e6, 1e5)),
        ("phase-retrieval", 48, (1e6, 1e5)),
    ],
)
def test_errors_contain_what_the_medium_has_moved(method, n, taus):
    """Stated over true error against the matrix of the last frame: 1/1.5 to 1.5, where half of the rows are valid.

    The ratio scatters by 0.04 (1 standard error). Before: 0.44 and 0.17 for phase stepping at 1e5 and 1e4, without a
    word at 1e5. Now 0.99, and it names the correlation time within 15 % (scatter 5 to 8 %). Off axis it was 0.89, 0.89
    and 0.81 at 1e6, 1e5 and 1e4. Catches: a decay of the intensity for that of the field; an error against the mean
    over the run, 1.3 times less; a misfit of patterns taken for that of entries, without the frames after the probes.
    """
    for tau in taus:
        opu = bench(method, n, tau)
        estimate = recover_transmission_matrix(opu, method)
        rows = estimate.valid
        assert rows.mean() > 0.5
        truth = last_matrix(opu, estimate.matrix.shape[1])[rows]
        true = np.sqrt(np.mean(matrix_row_errors(estimate.matrix[rows], truth, estimate.gauge) ** 2))
        stated = np.sqrt(np.mean(estimate.relative_error[rows] ** 2))
        assert 1.0 / 1.5 < stated / true < 1.5, (tau, stated, true)
        if method in ("phase-stepping", "off-axis"):
            assert 0.9 < stated / true < 1.1
        if method == "phase-stepping":
            assert estimate.drift["correlation_frames"] == pytest.approx(tau, rel=0.15)


@pytest.mark.filterwarnings("ignore:the medium moves")
def test_tracked_phases_on_a_medium_that_moves():
    """Stated over true error 0.88 to 1.15 in 4 runs, and no misfit; a phase that jitters does not hide the movement.

    Before: with a still reference, phases were wrong by 0.3 and 0.5 rad, with misfits up to 24 and errors of 0.4 and
    0.9 in place of 0.13 (2 of 12 seeds); with jitter 0.85 and 0.83. Catches: a pixel of which half of the readings
    saturate, which alone decides the phases; the error of the probes' phases taken for that of the known pattern.
    """
    runs = [(3e4, 0.0, seed) for seed in (7, 12)] + [(1e5, 0.4, seed) for seed in (5, 10)]
    for tau, jitter, seed in runs:
        opu = presets.lab_bench(64, 200, seed=seed)
        beam = Reference(phase_drift_rad=jitter, phase_drift_time_s=5e-3)
        medium = Drifting(GaussianMedium(64, 200, seed=seed), tau)
        opu = opu.replace(medium=medium, imaging=dataclasses.replace(opu.imaging, reference=beam))
        estimate = recover_transmission_matrix(opu, track_drift=True)  # a misfit would be a warning
        rows = estimate.valid
        errors = matrix_row_errors(estimate.matrix[rows], last_matrix(opu, 64)[rows], estimate.gauge)
        stated = np.sqrt(np.mean(estimate.relative_error[rows] ** 2) / np.mean(errors**2))
        assert 0.88 < stated < 1.15, (tau, jitter, seed, stated)


def test_the_movement_is_told_and_a_still_medium_is_silent(tmp_path):
    """A warning names the time; a still bench has none, nor do tracked phases; an old recording says what it lacks.

    Catches: noise, jitter or rounding taken for movement; an old recording that cannot be used, or is used in silence.
    """
    with pytest.warns(UserWarning, match=r"^the medium moves: .* of 9.\de\+04 frames, and the probes took 256;"):
        recover_transmission_matrix(bench("phase-stepping", 64, 1e5))
    plain = recover_transmission_matrix(presets.lab_bench(31, 60, seed=2))
    tracked = recover_transmission_matrix(presets.lab_bench(31, 60, seed=2), track_drift=True)
    three = recover_transmission_matrix(presets.lab_bench(31, 60, seed=2), steps=3)
    assert all(still.drift["correlation_frames"] == np.inf for still in (plain, tracked, three))
    opu = presets.lab_bench(16, 60, seed=1)
    opu.exposure_s *= 0.5
    plan = build_method(opu)
    with Recorder(opu, tmp_path / "old.h5") as recorder:
        recorder.dark(8)
        take_frames(recorder, plan.shots(0, plan.frames))
    opu.clock.frames = 0
    whole = recover_transmission_matrix(opu, exposure="keep")
    with (
        RecordedDevice(tmp_path / "old.h5") as device,
        pytest.warns(UserWarning, match=r"^opu is a recording without the 4 last frames of phase-stepping"),
    ):
        old = recover_transmission_matrix(device, exposure="keep")
    np.testing.assert_array_equal(old.matrix, whole.matrix)
    assert old.frames == whole.frames - 4 and "correlation_frames" not in old.drift


def test_shares_of_the_law():
    """`STALE` and `STALE_PATTERN` are those of both designs, within 15 and 35 %, by the sum of the docstring.

    Catches: a constant of another design.
    """
    for n in (64, 128, 200):
        design = choose_design(n)
        shown = design.patterns(np.arange(design.order), design.order).astype(float)
        inverse, shown = np.linalg.inv(shown)[:n], shown[:, :n]
        weights = {STALE: inverse, STALE_PATTERN: (np.random.default_rng(0).random((40, n)) < 0.5) @ inverse}
        for law, gains in weights.items():
            part, total = np.zeros((len(gains), n)), 0.0
            for gain, probe in zip(gains.T, shown, strict=True):
                part += gain[:, None] * probe
                total += 2.0 * np.sum(part**2) / design.order
            power = np.sum((gains @ shown) ** 2)
            assert total / power == pytest.approx(law, rel=0.35 if law == STALE_PATTERN else 0.15), n
    assert decay_between(np.ones((2, 100), np.complex64), np.zeros(100, np.float32)) == 0.0
