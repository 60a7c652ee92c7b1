"""Phase retrieval from patterns and complements, against the camera model and against exact fields."""

from dataclasses import replace

import numpy as np
import pytest

from calibration.recovery.likelihood import Pixels
from calibration.recovery.phase_retrieval import PhaseRetrieval, spectral_start
from photonics.parts.camera import Camera
from tests.calibration.blind import exact, gaussian, intensities, photographed, solve

N, ROWS = 64, 100


def method(n=N, **options):
    return PhaseRetrieval(**({"n_in": n, "n_inputs": n} | options))


@pytest.mark.parametrize(("n", "leak"), [(64, 0.0), (37, 0.03), (37, 0.1j)])
def test_exact_on_intensities_without_noise(n, leak):
    """Every row to 1e-3 up to a phase and a conjugation, for any leakage.

    Catches: c left out, a complement with the wrong sign, a start with twice the Im z that the fit does not correct.
    """
    plan, matrix = method(n, frames_per_input=10), gaussian(ROWS, n)
    result = solve(plan, matrix, *exact(plan, matrix, leak))
    assert result.block.valid.all()
    assert result.errors.max() < 1e-3


def test_real_part_of_the_start_is_linear_and_exact():
    """Without leakage and noise step 1 finds ``Re(conj(c) u)/|c|`` to rounding. Catches: a wrong formula for |c|."""
    plan, matrix = method(), gaussian(ROWS, N)
    signal = intensities(matrix, plan.design.patterns(0, plan.frames)).astype(np.float32)
    start = spectral_start(plan.design, Pixels(signal, 0.0, 1.0, np.inf), 0, np.arange(ROWS))
    middle = matrix.sum(axis=1) / 2
    bright = np.abs(middle) ** 2 > 0.05
    real = np.real(middle.conj()[:, None] * matrix) / (2 * np.abs(middle)[:, None])
    np.testing.assert_allclose(start[:-1].real.T[bright], real[bright], atol=1e-4)
    np.testing.assert_allclose(start[-1].real[bright], np.abs(middle)[bright], rtol=1e-3)


def test_imaginary_part_of_the_start_correlates_with_the_truth():
    """By more than 0.8, where a random one has 1/sqrt(n) = 0.1. Catches: weights left out."""
    plan, matrix = method(128, frames_per_input=14), gaussian(ROWS, 128)
    signal = intensities(matrix, plan.design.patterns(0, plan.frames)).astype(np.float32)
    start = spectral_start(plan.design, Pixels(signal, 0.0, 1.0, np.inf), 0, np.arange(ROWS))[:-1].imag.T
    truth = np.imag(np.exp(-1j * np.angle(matrix.sum(axis=1)))[:, None] * matrix)
    overlap = np.abs(np.sum(start * truth, axis=1)) / np.linalg.norm(start, axis=1) / np.linalg.norm(truth, axis=1)
    assert np.median(overlap) > 0.8


@pytest.mark.parametrize(("per_input", "reached"), [(8, 0.024), (14, 0.017)])
def test_error_at_8_bits(per_input, reached):
    """Well 10 ke-, read noise 3 e-, 0.1 % saturated, PRNU 1 %, leakage: public binary results are 0.14 to 0.8.

    Catches: saturated readings taken at face value, half of a pair not used, rows left in wrong minima.
    """
    plan, matrix = method(frames_per_input=per_input), gaussian(200, N)
    frames, about = photographed(plan, matrix)
    assert len(frames) == per_input * N
    result = solve(plan, matrix, frames, about)
    assert result.block.valid.mean() > 0.99
    assert np.median(result.errors) < reached
    assert result.errors[result.block.valid].max() < 0.12


def test_few_frames_leave_wrong_rows_that_are_not_valid():
    """At 5 frames per input some rows are wrong, and none of these is valid. Catches: a lax limit."""
    plan, matrix = method(frames_per_input=5, restarts=2), gaussian(200, N)
    result = solve(plan, matrix, *photographed(plan, matrix))
    wrong = result.errors > 0.3
    assert wrong.any()
    assert not (wrong & result.block.valid).any()
    assert np.isinf(result.block.standard_error[wrong]).all()


def test_stated_error_covers_the_truth():
    """Rms of error over stated error is 1 within 4 %. Catches: Hadamard probes taken for random ones (6 % too much)."""
    plan, matrix = method(frames_per_input=8), gaussian(200, N)
    result = solve(plan, matrix, *photographed(plan, matrix, replace(Camera(read_noise_e=3.0), prnu=0.0)))
    good = result.block.valid
    assert 0.96 < np.sqrt(np.mean((result.errors[good] / result.predicted[good]) ** 2)) < 1.04


def test_error_falls_with_the_root_of_photons():
    """Slope -1/2 over two decades of the well at 16 bits. Catches: a tolerance that does not follow the noise."""
    errors = []
    for well in (1e3, 1e4, 1e5):
        camera = Camera(bit_depth=16, full_well_e=well, read_noise_e=0.0, prnu=0.0, dsnu_e=0.0)
        plan, matrix = method(frames_per_input=10), gaussian(ROWS, N)
        errors.append(np.median(solve(plan, matrix, *photographed(plan, matrix, camera)).errors))
    np.testing.assert_allclose(np.diff(np.log(errors)) / np.log(10.0), -0.5, atol=0.06)


def test_a_row_does_not_depend_on_its_block():
    """Solved alone, in another place, a row is the same to a tenth of its error.

    Catches: starts that depend on the place in the block, so that a resumed run gives another result.
    """
    plan, matrix = method(frames_per_input=10), gaussian(ROWS, N)
    frames, about = photographed(plan, matrix)
    whole = plan.solve(frames, slice(0, ROWS), about, None)
    part = plan.solve(frames[:, 60:71], slice(60, 71), about, None)
    difference = np.linalg.norm(part.matrix - whole.matrix[60:71], axis=1) / np.linalg.norm(part.matrix, axis=1)
    assert difference.max() < 3e-3
    pixels = Pixels(frames.astype(np.float32), 1.0, 1.0, 250.0)
    start = spectral_start(plan.design, pixels, 0, np.arange(ROWS))
    alone = spectral_start(plan.design, pixels._replace(signal=pixels.signal[:, 60:71]), 0, np.arange(60, 71))
    np.testing.assert_allclose(alone, start[:, 60:71], atol=1e-3 * np.abs(start).max())


def test_design_is_perfectly_conditioned():
    """Full rounds of Hadamard rows with their complements: condition number 1, half of the mirrors ON on average.

    Catches: random probes, which are singular in 14 to 54 % of the draws.
    """
    for n in (16, 64, 100):
        plan = method(n, frames_per_input=6)
        assert plan.condition_number < 1.25
        assert plan.shots(0, plan.frames).patterns.mean() == 0.5


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"frames_per_input": 4}, "frames_per_input must be greater than or equal to 5, got 4"),
        ({"restarts": -1}, "restarts must be greater than or equal to 0, got -1"),
        ({"n_inputs": 7}, "n_inputs must be greater than or equal to 8, got 7"),
    ],
)
def test_bad_options_are_refused(options, says):
    """One line with the name and what is allowed. Catches: fewer equations than unknowns."""
    with pytest.raises(ValueError, match=says) as error:
        method(**options)
    assert "\n" not in str(error.value)
