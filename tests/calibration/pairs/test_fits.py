"""Matrices and projections fitted to pairs of patterns and frames as a lab has them."""

from dataclasses import replace

import numpy as np
import pytest

from calibration import Recording, fit_matrix, fit_projection
from photonics import presets
from photonics.medium import Drifting
from tests.calibration.benches import field_matrix
from tests.calibration.matrix_benches import tilted

N, ROWS = 32, 120
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def start_again(monkeypatch):
    """The same random numbers in every test."""
    monkeypatch.setitem(globals(), "RNG", np.random.default_rng(0))


def bench(reference=False):
    opu = presets.lab_bench(N, ROWS, seed=1).replace(**{"laser.drift_rms": 0.0})
    opu.autoexpose(0.5 if reference else 0.8, reference_phase=0.0 if reference else None)
    return opu


def record(opu, patterns, phase=None, exposure=None):
    """Frames in any order, with dark ones among them: a recording."""
    phase = np.full(len(patterns), np.nan) if phase is None else phase
    exposure = np.full(len(patterns), opu.exposure_s) if exposure is None else exposure
    shown = np.r_[np.arange(len(patterns)), np.full(8, -1)]
    shown = shown[RNG.permutation(len(shown))]
    frames = []
    for k in shown:
        if k < 0:
            frames.append(opu.dark(1))
        else:
            beam = None if np.isnan(phase[k]) else phase[k]
            frames.append(opu.measure(patterns[k : k + 1], exposure[k], reference_phase=beam))
    lit = np.where(shown < 0, 0, shown)
    return Recording.from_arrays(
        patterns, np.concatenate(frames), np.where(shown < 0, opu.exposure_s, exposure[lit]), shown=shown,
        reference_phase=np.where(shown < 0, np.nan, phase[lit]), device=opu.to_dict(),
    )  # fmt: skip


def judge(estimate, truth, conjugate=False):
    """Valid rows: their share, median error, and rms of error over the stated one, after the gauge."""
    valid, found = estimate.valid, np.asarray(estimate.matrix)
    errors = []
    for row in (found, found.conj()) if conjugate else (found,):
        turn = np.sum(row.conj() * truth, axis=1, keepdims=True)
        error = np.linalg.norm(row * turn / np.maximum(np.abs(turn), 1e-30) - truth, axis=1)
        errors.append(error / np.linalg.norm(truth, axis=1))
    error = np.min(errors, axis=0)
    pull = np.sqrt(np.mean((error / np.where(valid, estimate.relative_error, 1.0))[valid] ** 2))
    return valid.mean(), np.median(error[valid]), pull


def test_random_masks_without_a_reference():
    """8 random masks an input at two exposures, shuffled: 90 % of rows, to 3 %, the stated error true to 25 %.

    The projection of these frames agrees with the anchor's, within its stated error. Catches: replayed order, exposures
    that are ignored, rows in a wrong minimum that count as valid.
    """
    opu = bench()
    masks = RNG.random((8 * N, N)) < 0.5
    exposure = np.where(RNG.random(len(masks)) < 0.5, 1.0, 0.6) * opu.exposure_s
    recording = record(opu, masks, exposure=exposure)
    truth = opu.effective_matrix()
    share, error, pull = judge(fit_matrix(recording), truth, conjugate=True)
    assert share > 0.9 and error < 0.03 and 0.75 < pull < 1.25
    projection = fit_projection(recording)
    anchor = truth.sum(axis=1, keepdims=True)
    wanted = (truth * anchor.conj() / np.abs(anchor)).real
    x = RNG.integers(-1, 2, (50, N))
    found, ok = projection.measure(x), projection.valid
    pulls = (found.values - x @ wanted.T)[:, ok] / found.standard_error[:, ok]
    assert ok.mean() > 0.85 and 0.6 < pulls.std() < 1.2
    few = record(opu, masks[: 3 * N])
    with pytest.raises(ValueError, match=r"^frames must be 128 or more for 32 inputs, got 96: take more"):
        fit_matrix(few)


def test_light_of_off_mirrors_is_not_in_the_matrix():
    """Patterns with 16 of 32 inputs ON, mirrors of a contrast of 100: the stated error is true to 25 %.

    Catches: the leaked field, the same in all these frames, spread over the entries (true over stated error 3.0).
    """
    opu = bench().replace(**{"dmd.contrast": 100.0, "camera.prnu": 0.0})
    masks = np.argsort(RNG.random((16 * N, N)), axis=1) < N // 2
    share, _, pull = judge(fit_matrix(record(opu, masks)), opu.effective_matrix(), conjugate=True)
    assert share > 0.9 and 0.75 < pull < 1.25


@pytest.mark.parametrize("kind", ["steps", "random"])
def test_masks_with_a_reference_at_logged_phases(kind):
    """Phases of any values, grouped or one for each mask: all rows, with phase and conjugation, the error true to 25 %.

    Catches: phases as steps of a full turn, the sign of a phase, a gauge without the reference.
    """
    opu = bench(reference=True)
    masks = RNG.random((2 * N if kind == "steps" else 8 * N, N)) < 0.5
    phase = np.tile([0.0, 1.7, 3.9, 5.0], len(masks)) if kind == "steps" else RNG.random(len(masks)) * 6.28
    masks = np.repeat(masks, 4, axis=0) if kind == "steps" else masks
    recording = record(opu, masks, phase)
    estimate = fit_matrix(recording)
    share, error, pull = judge(estimate, opu.effective_matrix())
    assert share == 1.0 and error < 0.06 and 0.75 < pull < 1.25 and estimate.gauge.conjugation_fixed
    assert fit_projection(recording).matrix.dtype == np.complex64
    with pytest.raises(ValueError, match="reference_phase must take 3 or more values"):
        fit_matrix(record(opu, masks, np.zeros(len(masks))))


def test_masks_with_a_tilted_reference():
    """One phase that drifts and jitters by a full turn, two exposures, with frames of the reference alone and without.

    All rows, with conjugation and scale, which are those of the projection; the error is true to 25 %, with a beam of
    10 % noise, too. Catches: a drift that is taken for noise (true over stated error 2.3), light outside of the disc
    (1.3), an intensity of the reference that is the other root, or too small to be found (2.4), or has the mean light
    of OFF mirrors subtracted in place of that of the pixel (3.1 at a contrast of 10).
    """
    unsteady = {"imaging.reference.phase_jitter_rad": 2.0, "imaging.reference.phase_drift_rad": 2.0}
    stained, weak = {"imaging.reference.noise": 0.1}, {"imaging.reference.intensity": 0.02}
    for changes, alone in ((unsteady, 8), (stained, 0), (weak, 0), ({"dmd.contrast": 10.0}, 8)):
        opu = tilted("lab_bench", N).replace(**changes)
        opu.autoexpose(0.5, reference_phase=0.0)
        masks = np.r_[RNG.random((5 * N, N)) < 0.5, np.zeros((alone, N), bool)]
        exposure = np.where(RNG.random(len(masks)) < 0.5, 1.0, 0.7) * opu.exposure_s
        recording, truth = record(opu, masks, np.zeros(len(masks)), exposure), field_matrix(opu)
        estimate = fit_matrix(recording)
        share, _, pull = judge(estimate, truth)
        assert share == 1.0 and 0.75 < pull < 1.25 and estimate.gauge.conjugation_fixed
        found = np.asarray(estimate.matrix)
        length = np.linalg.norm(found) / np.linalg.norm(truth)
        assert abs(length - 1.0) < 0.02 + 0.5 * np.median(estimate.relative_error) ** 2
        projection = fit_projection(recording)
        assert projection.matrix.dtype == np.complex64 and (projection.matrix == found).all()


def test_a_tilted_reference_that_saturates_is_told():
    """4 % of the readings: a warning. Catches: a true error of 1.4 times the stated one without a word."""
    opu = tilted("lab_bench", 24, seed=6)
    masks = RNG.random((100, 24)) < 0.5
    masks[:, 8:] = True
    with pytest.warns(UserWarning, match=r"^[3-5]\.\d% of the readings with the reference saturate, 2% are allowed"):
        fit_matrix(record(opu, masks, np.zeros(100)), n_inputs=8)


def test_a_tilted_reference_on_a_medium_that_moves():
    """It decorrelates in 1e5 frames, 260 of which are fitted: a warning, and the error is true to 30 %.

    Catches: what all frames have in common, taken for noise that averages out (true over stated error 2.3).
    """
    opu = tilted("lab_bench", N)
    opu = opu.replace(medium=Drifting(opu.medium, 1e5))
    opu.autoexpose(0.5, reference_phase=0.0)
    masks = np.r_[RNG.random((8 * N, N)) < 0.5, np.zeros((4, N), bool)]
    with pytest.warns(UserWarning, match="frames do not fit the model"):
        share, _, pull = judge(fit_matrix(record(opu, masks, np.zeros(len(masks)))), field_matrix(opu))
    assert share == 1.0 and 0.7 < pull < 1.3


def test_a_tilted_reference_whose_frames_do_not_tell_is_refused():
    """Light of OFF mirrors, the reference's intensity, missing frames: named. Frames of other patterns: no valid row.

    Catches: a matrix with the leaked field in its entries, a scale that is that of two polarisations.
    """
    opu = tilted("lab_bench", N)
    opu.autoexpose(0.5, reference_phase=0.0)
    masks, half = RNG.random((3 * N, N)) < 0.5, np.argsort(RNG.random((3 * N, N)), axis=1) < N // 2
    frames, about = opu.measure(masks, reference_phase=0.0), {"exposure_s": opu.exposure_s, "device": opu.to_dict()}
    two = {**about, "device": opu.replace(imaging=replace(opu.imaging, polarisations=2)).to_dict()}
    few = {**about, "frame_number": np.r_[0, 4 : N + 5], "reference_phase": 0.0}
    with pytest.warns(UserWarning, match="there are no two dark frames"):
        for patterns, readings, known, message in (
            (half, frames, about, "patterns with a tilted reference must tell the light of mirrors that are OFF"),
            (masks, frames, two, "frames of the reference with all inputs OFF are needed, because with two pol"),
            (
                masks[: N + 5],
                frames[: N + 2],
                few,
                "frames must be 40 or more.*got 34.*no frame shows pattern 1, 2, 3$",
            ),
        ):
            with pytest.raises(ValueError, match=message):
                fit_matrix(patterns, readings, **{"reference_phase": 0.0, **known})
        with pytest.warns(UserWarning, match="frames do not fit the model"):
            wrong = fit_matrix(masks[RNG.permutation(3 * N)], frames, reference_phase=0.0, **about)
    assert not wrong.valid.any()


def test_inputs_that_frames_do_not_tell_apart_are_named():
    """Alike, always ON or OFF; unwanted ones are grouped. Catches: a singular fit, columns that are arbitrary."""
    opu = bench()
    masks = RNG.random((8 * N, N)) < 0.5
    for change, message in (
        ({5: masks[:, 2]}, "got inputs 2 and 5 in the same state in all 256 frames"),
        ({3: True}, "patterns must show input 3 both ON and OFF, got ON in all 256 frames"),
        ({3: False}, "got OFF in all"),
    ):
        changed = masks.copy()
        for column, values in change.items():
            changed[:, column] = values
        with pytest.raises(ValueError, match=message):
            fit_matrix(record(opu, changed))
    masks[:, 24:] = masks[:, 24:25]  # a reference of mirrors that are alike
    estimate = fit_matrix(record(opu, masks), n_inputs=24)
    assert judge(estimate, opu.effective_matrix()[:, :24], conjugate=True)[0] > 0.9
    with pytest.warns(UserWarning, match="there are no two dark frames"):
        fit_matrix(masks, opu.measure(masks), device=opu.to_dict(), exposure_s=opu.exposure_s, n_inputs=24)


def test_inputs_that_are_always_on_are_a_background():
    """10 wanted inputs beside 22 that stay ON: the stated error is true to 25 %; 3 beside 29: a warning.

    Beside 125 no row is left. With a constant number of inputs ON the background is not told from the entries: refused.
    Catches: a start for dark mirrors, whose rows were in a wrong minimum (two thirds valid, true over stated error 9).
    """
    opu = bench()
    masks = RNG.random((10 * N, N)) < 0.5
    masks[:, 10:] = True
    share, _, pull = judge(fit_matrix(record(opu, masks), n_inputs=10), opu.effective_matrix()[:, :10], conjugate=True)
    assert share > 0.85 and 0.75 < pull < 1.25
    masks[:, 3:] = True
    with pytest.warns(UserWarning, match=r"^29 inputs are always ON, with \d\d times the power of the changes"):
        fit_matrix(record(opu, masks), n_inputs=3)
    wide = presets.lab_bench(128, ROWS, seed=1).replace(**{"laser.drift_rms": 0.0})
    wide.autoexpose(0.3)
    many = np.ones((len(masks), 128), bool)
    many[:, :3] = RNG.random((len(masks), 3)) < 0.5
    with (
        pytest.warns(UserWarning, match=r"^125 inputs are always ON"),
        pytest.warns(UserWarning, match="no row is valid"),
    ):
        estimate = fit_matrix(record(wide, many), n_inputs=3)
    assert not estimate.valid.any()
    masks[:, :8] = np.argsort(RNG.random((len(masks), 8)), axis=1) < 4
    with pytest.raises(ValueError, match="must tell the light of the 24 inputs that are always ON, got patterns with"):
        fit_matrix(record(opu, masks), n_inputs=8)


def test_pairs_that_fit_a_matrix_but_not_their_description():
    """Inverted patterns, an exposure in milliseconds: a warning. Catches: a scale or a sign that is silently wrong."""
    opu = bench()
    masks, about = RNG.random((8 * N, N)) < 0.5, {"device": opu.to_dict(), "laser_on": np.arange(8 * N + 8) < 8 * N}
    shown, frames = np.r_[masks, np.zeros((8, N), bool)], np.r_[opu.measure(masks), opu.dark(8)]
    with pytest.warns(UserWarning, match=r"^patterns may be inverted: .*\(correlation -0.9") as told:
        fit_matrix(~shown, frames, exposure_s=opu.exposure_s, **about)
    assert told[0].filename == __file__
    with pytest.warns(UserWarning, match=r"^the light of the inputs is 0.001 times that by exposure_s and the data"):
        fit_matrix(shown, frames, exposure_s=1e3 * opu.exposure_s, **about)


def test_phases_and_numbers_that_are_not_those_of_the_frames():
    """Half of the signs, degrees, lost frames whose gaps were numbered away: no valid row, the cause is named.

    All signs: the complex conjugate, which frames cannot tell. Catches: a lost frame that is called a drift.
    """
    opu = bench(reference=True)
    masks, phase = np.repeat(RNG.random((2 * N, N)) < 0.5, 4, axis=0), np.tile([0.0, 0.5, 1.0, 1.5], 2 * N) * np.pi
    frames = np.concatenate([opu.measure(masks[k : k + 1], reference_phase=phase[k]) for k in range(8 * N)])
    about = {"exposure_s": opu.exposure_s, "device": opu.to_dict(), "laser_on": np.arange(8 * N + 8) < 8 * N}
    shown, frames = np.r_[masks, np.zeros((8, N), bool)], np.r_[frames, opu.dark(8)]

    def fit(phase):
        return fit_matrix(shown, frames, reference_phase=np.r_[phase, np.full(8, np.nan)], **about)

    right, other = fit(phase), fit(-phase)
    np.testing.assert_allclose(other.matrix, np.conj(right.matrix), atol=0.02 * np.abs(right.matrix).max())
    with pytest.warns(UserWarning, match="frames do not fit the model"):
        assert not fit(np.where(np.arange(8 * N) < 4 * N, phase, -phase)).valid.any()
    with (
        pytest.warns(UserWarning, match=r"^reference_phase must be in radians, got 0 to 270 .* seem to be degrees"),
        pytest.warns(UserWarning, match="frames do not fit the model"),
    ):
        assert not fit(np.rad2deg(phase)).valid.any()
    opu = bench()
    masks = RNG.random((8 * N, N)) < 0.5
    frames = np.delete(opu.measure(masks), [60, 130], axis=0)
    about = {"exposure_s": opu.exposure_s, "device": opu.to_dict(), "frame_number": np.arange(len(frames))}
    lost = "a frame lost before frame 60 .*; a frame lost before frame 129"
    with pytest.warns(UserWarning, match=f"^frame_number must have a gap where a frame is missing, .*: {lost}"):
        record = Recording.from_arrays(masks, frames, **about)
    with (
        pytest.warns(UserWarning, match="there are no two dark frames"),
        pytest.warns(UserWarning, match=f"frames do not fit the model: .* Frames do not belong to .*: {lost}"),
    ):
        assert not fit_matrix(record).valid.any()
    Recording.from_arrays(masks, opu.measure(masks[:-2]), **about)  # the last patterns were not shown


def test_frames_of_other_patterns_are_refused():
    """Shuffled pairs: no valid row, and a warning. Catches: a fit that always finds something."""
    opu = bench()
    masks = RNG.random((8 * N, N)) < 0.5
    frames = opu.measure(masks)[RNG.permutation(8 * N)]
    dark, off = opu.dark(8), np.zeros((8, N), bool)
    with pytest.warns(UserWarning):
        estimate = fit_matrix(
            np.r_[masks, off], np.r_[frames, dark], exposure_s=opu.exposure_s, device=opu.to_dict(),
            laser_on=np.arange(8 * N + 8) < 8 * N, restarts=1,
        )  # fmt: skip
    assert not estimate.valid.any()
