"""Numerical interferometry: anchors, multilateration, likelihood, against the camera model and against exact fields."""

from dataclasses import replace

import numpy as np
import pytest

from calibration.recovery.interferometry import NumericalInterferometry, join, locate
from photonics.parts.camera import Camera
from tests.calibration.blind import Frames, exact, gaussian, intensities, photographed, solve

N, ROWS = 64, 100


def method(n=N, **options):
    return NumericalInterferometry(**({"n_in": n, "n_inputs": n} | options))


def test_anchors_alone_are_exact_without_noise():
    """Step 1 finds every entry of every row to 1e-3, and the rank ratio is that of the true anchors.

    Catches: a factor of 2 in a field, a metric used as its own root, a half with the opposite phase, c counted twice.
    """
    matrix, design = gaussian(ROWS, N), method().design
    signal = intensities(matrix, design.patterns(0, design.frames), 0.1j).astype(np.float32)
    first, second = (locate(*part) for part in list(design.parts(signal))[:2])
    unknowns = join(first, second)
    entries = (1 - 0.1j) / 2 * matrix
    middle = (1 + 0.1j) / 2 * matrix.sum(axis=1)
    fields = design.forward(np.concatenate([unknowns.real, unknowns.imag], axis=1)).reshape(design.frames, 2, -1)
    good = first.rank_ratio > 0.15  # where the metric needs no bound
    good &= second.rank_ratio > 0.15
    assert good.mean() > 0.6
    relative = np.abs((fields**2).sum(axis=1) - signal).max(axis=0) / signal.mean(axis=0)
    assert relative[good].max() < 1e-3
    for half in (first, second):
        truth = middle + half.probes.fixed @ entries.T
        plane = np.stack([truth.real, truth.imag], axis=-1).swapaxes(0, 1)
        values = np.linalg.svd(plane, compute_uv=False)
        np.testing.assert_allclose(half.rank_ratio[good], (values[:, 1] / values[:, 0])[good], rtol=1e-3)


@pytest.mark.parametrize(
    ("n", "anchors", "per_input", "leak"), [(64, 5, 14, 0.03), (37, 3, 12, 0.0), (48, 8, 20, 0.3j)]
)
def test_exact_on_intensities_without_noise(n, anchors, per_input, leak):
    """Every row to 1e-3 up to a phase and a conjugation, for any leakage, in the unit of ON less OFF.

    Catches: c left out of the model (an error of the leak), a start in a wrong minimum, 2 for sqrt(2).
    """
    plan, matrix = method(n, anchors=anchors, frames_per_input=per_input), gaussian(ROWS, n)
    result = solve(plan, matrix, *exact(plan, matrix, leak))
    assert result.block.valid.all()
    assert result.errors.max() < 1e-3


@pytest.mark.parametrize(("per_input", "target", "reached"), [(14, 0.045, 0.020), (63, 0.02, 0.010)])
def test_error_at_8_bits(per_input, target, reached):
    """Well 10 ke-, read noise 3 e-, 0.1 % saturated, PRNU 1 %, leakage 1000:1: half of the target errors.

    Catches: frames of step 2 not used, saturated readings taken at face value, a fit that stops early.
    """
    plan, matrix = method(frames_per_input=per_input), gaussian(200, N)
    frames, about = photographed(plan, matrix)
    assert len(frames) == per_input * N
    assert 5e-4 < np.mean(frames >= about.saturation_dn) < 3e-3
    result = solve(plan, matrix, frames, about)
    assert result.block.valid.all()
    assert np.median(result.errors) < reached < target
    assert result.errors.max() < 0.1
    assert np.median(result.block.diagnostics.misfit) == pytest.approx(1.0, abs=0.03)


def test_no_seed_fails():
    """25 matrices with 25 sets of probes: over 98 % of the rows are valid in each, and no valid row is wrong.

    Catches: singular probes, no second start for collinear anchors (a row in 100).
    """
    for seed in range(25):
        plan, matrix = method(32, seed=seed), gaussian(60, 32, seed)
        result = solve(plan, matrix, *photographed(plan, matrix))
        assert plan.condition_number < 10
        assert result.block.valid.mean() > 0.98
        assert result.errors[result.block.valid].max() < 0.15


def test_stated_error_covers_the_truth():
    """Rms of error over stated error is 1 within 12 %, at few and at many frames; without PRNU.

    Catches: the cost of fitting 2 n numbers left out (20 % at 14 n), a variance of u taken for that of t.
    """
    for per_input in (12, 40):
        plan, matrix = method(frames_per_input=per_input), gaussian(200, N)
        result = solve(plan, matrix, *photographed(plan, matrix, replace(Camera(read_noise_e=3.0), prnu=0.0)))
        pull = np.sqrt(np.mean((result.errors / result.predicted) ** 2))
        assert 0.88 < pull < 1.12


def test_error_falls_with_the_root_of_photons_until_the_quantiser():
    """Slope -1/2 over two decades of the well at 16 bits; at 8 bits a hundredfold well gains less than half.

    Catches: a floor under the noise, or a tolerance that does not follow the noise.
    """

    def error(well_e, bits):
        camera = Camera(bit_depth=bits, full_well_e=well_e, read_noise_e=0.0, prnu=0.0, dsnu_e=0.0)
        plan, matrix = method(), gaussian(ROWS, N)
        return np.median(solve(plan, matrix, *photographed(plan, matrix, camera)).errors)

    wells = np.array([1e3, 1e4, 1e5])
    slopes = np.diff(np.log([error(well, 16) for well in wells])) / np.diff(np.log(wells))
    np.testing.assert_allclose(slopes, -0.5, atol=0.06)
    assert error(1e6, 8) > 3.0 * error(1e6, 16)


def test_undeterminable_rows_are_not_valid():
    """A dead pixel, a row that is always saturated, frames in another order: infinite error; other rows do not change.

    Catches: a decision by the misfit alone (a dead pixel fits), a limit relative to the median alone.
    """
    plan, matrix = method(), gaussian(ROWS, N)
    matrix[3] = 0.0
    matrix[7] *= 30.0
    frames, about = photographed(plan, matrix)
    block = plan.solve(frames, slice(0, ROWS), about, None)
    np.testing.assert_array_equal(np.flatnonzero(~block.valid), [3, 7])
    assert np.isinf(block.standard_error[[3, 7]]).all()
    shuffled = np.random.default_rng(0).permutation(frames)
    block = plan.solve(shuffled, slice(0, ROWS), about, None)
    assert not block.valid.any()
    assert np.median(block.diagnostics.misfit) > 25


def test_frames_without_light_or_without_contrast_are_refused():
    """The error says what to change. Catches: a run that solves noise."""
    plan, matrix = method(), gaussian(ROWS, N)
    plan.prepare(Frames(photographed(plan, matrix)[0]), photographed(plan, matrix)[1])
    dark, about = photographed(plan, matrix, share=1e-5)
    with pytest.raises(ValueError, match=r"^frames must be brighter, got .* DN above dark .*: lengthen the exposure"):
        plan.prepare(Frames(dark), about)
    bright, about = photographed(plan, matrix, share=2.0)
    with pytest.raises(ValueError, match=r"^frames must have 20% saturated pixels or less, got \d+%"):
        plan.prepare(Frames(bright), about)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"anchors": 2}, "anchors must be greater than or equal to 3, got 2"),
        ({"frames_per_input": 8}, "frames_per_input must be 10 or more with 5 anchors, got 8"),
        ({"n_inputs": 4}, "n_inputs must be greater than or equal to 8, got 4"),
    ],
)
def test_bad_options_are_refused(options, says):
    """One line with the name and what is allowed. Catches: two anchors, which are collinear in 18 % of the rows."""
    with pytest.raises(ValueError, match=says) as error:
        method(**options)
    assert "\n" not in str(error.value)


def test_inputs_beyond_those_recovered_stay_off():
    """Their leakage is part of the background. Catches: patterns of the wrong width."""
    plan, matrix = method(N, n_inputs=40), gaussian(ROWS, N)
    assert plan.shots(5, 17).patterns.shape == (12, N)
    assert not plan.shots(0, plan.frames).patterns[:, 40:].any()
    frames = 100.0 * np.abs(plan.shots(0, plan.frames).patterns @ matrix.T + 0.1 * matrix.sum(axis=1)) ** 2
    _, about = exact(plan, matrix)
    result = solve(plan, matrix, frames, about)
    assert result.errors.max() < 1e-3


def test_gauge_is_the_one_stated():
    """Half of the rows are conjugated; the gauge states that. Catches: a gauge that claims too much."""
    plan, matrix = method(), gaussian(400, N)
    block = plan.solve(exact(plan, matrix)[0], slice(0, 400), exact(plan, matrix)[1], None)
    assert not plan.gauge.phase_fixed
    assert not plan.gauge.conjugation_fixed
    assert plan.gauge.scale_fixed
    plain, conjugated = (np.abs(np.sum(v * matrix, axis=1)) for v in (block.matrix.conj(), block.matrix))
    assert 0.4 < np.mean(conjugated > plain) < 0.6
