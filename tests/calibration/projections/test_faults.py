"""Faults of a bench in the frames of projections: told by an error or a warning, with larger stated errors or none."""

import contextlib
import dataclasses
import re
import warnings

import numpy as np
import pytest

import calibration.camera.call
from calibration import expose
from calibration.camera.noise import NoiseModel
from calibration.fields.misfit import Misfit, read_once
from calibration.recovery.designs.probes import choose_design
from photonics import Disturbed, Drifting, MatrixMedium
from tests.calibration.benches import METHODS, bench, calibrate, errors, grey, half_on, true_over_stated
from tests.calibration.faults import FAULTS, slipped, with_fault
from tests.calibration.matrix_benches import tilted

NAMES = [name for name in METHODS if "steps" not in name]
"""Phase stepping has tests of its own."""
READ_TWICE = "ignore:frames do not fit the model. a frame is equal to the one before"
"""Told beside a shift by these planted faults, which end with the same frame twice."""
HARMLESS = {
    *((name, "steps 5 % short") for name in NAMES),
    *((name, "a camera that clips at 240 DN") for name in NAMES),
    *((name, "a camera that is not linear") for name in NAMES if name != "off-axis"),
    ("off-axis", "stray light that changes"),
}
"""Faults that leave the error within 1.3 of the stated one on these benches; clipped readings are 1 in 3000."""


@pytest.mark.parametrize("fault", [None, *FAULTS])
@pytest.mark.parametrize("name", NAMES)
def test_a_planted_fault_is_told(fault, name):
    """After the calibration: a warning with numbers, or an error; nothing if the bench is sound.

    A call of one frame per vector or entry warns of a dropped frame, too. Catches: frames that are not checked (errors
    of 0.5 to 1.5, stated as 0.04 to 0.14); values of patterns that fit left out of the result.
    """
    opu = bench("lab_bench", name, seed=5)
    projection = calibrate(opu, name)
    x = half_on(100 if name == "off-axis" else 40, projection.n_inputs, 5)
    with_fault(opu, fault)
    if fault == "doubled frames":
        with pytest.raises(ValueError, match=r"frames of different patterns must differ, but \d+% are equal"):
            projection(x)
        return
    quiet = fault is None or (name, fault) in HARMLESS
    with contextlib.nullcontext() if quiet else pytest.warns(UserWarning, match="frames do not fit the model"):
        found = projection.measure(x)
    fits = np.isfinite(found.standard_error[:, projection.valid]).any(axis=1)
    if quiet:
        assert fits.all()
    if fault == "a dropped frame" and name == "reference pairs":
        assert not fits.any()  # each vector has 32 terms, one of which is refused
    elif fault == "a dropped frame":
        assert 0.15 < fits.mean() < 0.85
        if name != "anchor, disjoint":  # some patterns differ by a few mirrors from the next
            assert np.median(errors(projection, x[fits], found.values[fits])) < 0.3


@pytest.mark.filterwarnings("ignore:frames do not fit the model")
@pytest.mark.parametrize("name", ["off-axis", "reference pairs", "4 steps", "anchor, disjoint"])
def test_a_frame_that_is_read_twice_is_told(name):
    """The last frame of a call is lost, and the one before is read in its place: nothing else is shifted.

    Before: without a word (off axis, "reference-pairs"), or refused for a misfit that does not name it. Catches: the
    other vectors refused for it; equal frames of equal patterns, without noise, or all saturated, taken for a fault.
    """
    opu = bench("lab_bench", name, seed=5)
    projection, take = calibrate(opu, name), opu.measure
    x = half_on(6, projection.n_inputs, 5)

    def measure(*given, **more):
        frames = take(*given, **more)
        return np.concatenate([frames[:-1], frames[-2:-1]])

    opu.measure = measure
    with pytest.warns(Misfit, match="a frame is equal to the one before.*it was read twice, and a frame was lost"):
        found = projection.measure(x)
    fits = np.isfinite(found.standard_error[:, projection.valid]).any(axis=1)
    assert fits[:4].all() and not fits[5]
    frames, still = take(np.ones((1, opu.n_in), bool))[None].repeat(2, axis=0), np.zeros((2, 3), bool)
    other, top, noise = np.eye(3)[:2] > 0, opu.camera.saturation_dn, projection.noise
    assert not read_once(other, frames, noise, top).any()
    assert read_once(still, frames, noise, top).all()
    assert read_once(other, frames, NoiseModel(1.0 / 12.0, 0.0, 8.0), top).all()
    assert read_once(other, np.full_like(frames, top), noise, top).all()


@pytest.mark.filterwarnings(READ_TWICE)
@pytest.mark.parametrize("name", ["off-axis", "reference pairs"])
def test_a_call_warns_of_a_lost_frame(name):
    """Catches: frames that are looked at in `measure` alone."""
    opu = bench("lab_bench", name, seed=5)
    projection = calibrate(opu, name)
    with_fault(opu, "a dropped frame")
    with pytest.warns(UserWarning, match="have the response of the next pattern .*: a frame was lost"):
        projection(half_on(100, projection.n_inputs, 5))


@pytest.mark.filterwarnings(READ_TWICE)
def test_fields_of_the_calibration_tell_a_lost_frame_of_patterns_that_do_not_predict_each_other():
    """Off axis, unit vectors and probes shown once each, and 10 of them: told; silent on sound benches.

    Also silent with 4 bits, on a medium that drifts, and after the table was touched, where fields predict nothing.
    Before: a matrix of which half of the columns are shifted by one, without a word. Catches: fields of another medium
    that are trusted; a beam whose phase has turned taken for a fault.
    """
    plain = tilted("lab_bench", 64, seed=1)
    exposure = plain.exposure_s * 0.5
    beam = dataclasses.replace(plain.imaging.reference, phase_drift_rad=1.0, phase_drift_time_s=0.05)
    benches = (
        plain,
        tilted("ideal", 64, seed=1),
        plain.replace(camera=dataclasses.replace(plain.camera, bit_depth=4)),
        plain.replace(medium=Drifting(plain.medium, 1e4)),
        plain.replace(medium=Disturbed(plain.medium, 80, 0.0)),
        plain.replace(imaging=dataclasses.replace(plain.imaging, reference=beam)),
    )
    probes = choose_design(64).patterns(np.arange(64), 64)
    for opu in benches:
        opu.exposure_s = exposure
        projection = calibrate(opu, "off-axis")
        for x in (np.eye(64, dtype=bool), probes, probes[:10]):
            with warnings.catch_warnings():
                warnings.simplefilter("error", Misfit)
                projection(x)
            if opu is plain:
                take = opu.measure
                first = len(x) // 3
                opu.measure = lambda *given, first=first, take=take, **more: slipped(take(*given, **more), first, 64)
                with pytest.warns(Misfit, match="have the response of the next pattern .*: a frame was lost"):
                    projection(x)
                opu.measure = take


@pytest.mark.parametrize("reading", ["dark", "stuck"])
@pytest.mark.parametrize("name", METHODS)
def test_pixels_that_die_after_the_calibration_are_refused(name, reading):
    """10 of 500 pixels: their rows are refused. Off axis, other rows lack light; true over stated is up to 1.5.

    Catches: readings of a dead pixel taken for light (10 to 45 times the stated error, without a word); off axis, light
    of ten pixels that was judged as one pixel's (nearly all rows refused, the rest 2 times the stated error).
    """
    opu = bench("lab_bench", name, seed=5)
    projection, take = calibrate(opu, name), opu.measure
    blind = np.flatnonzero(projection.valid)[5::47][:10]
    level = np.median(opu.dark(2)) if reading == "dark" else 150

    def measure(*arguments, **more):
        frames = take(*arguments, **more)
        frames[..., blind] = level
        return frames

    opu.measure = measure
    x = half_on(40, projection.n_inputs, 5)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = projection.measure(x)
    assert any(f"{len(blind)} of 500 pixels do not see the patterns" in str(one.message) for one in told)
    assert np.isinf(found.standard_error[:, blind]).all() and np.isinf(found.noise[:, blind]).all()
    fits = np.isfinite(found.standard_error) & ~found.saturated
    assert fits.all(axis=0).sum() > 400 or name == "anchor, complement"  # which then has a misfit of its own
    assert true_over_stated(projection, x, found, fits) < 1.5


@pytest.mark.filterwarnings("ignore:frames do not fit the model")
@pytest.mark.parametrize("fault", ["dead pixels", "half of the light", "a lost frame"])
@pytest.mark.parametrize("name", METHODS)
def test_a_plain_call_tells_what_measure_tells(name, fault, monkeypatch):
    """The first call, and one in `LOOK_EVERY` frames. Catches: faults that are looked for in `measure` alone."""
    monkeypatch.setattr(calibration.camera.call, "LOOK_EVERY", 200)
    opu = bench("lab_bench", name, seed=5)
    projection, take, dark = calibrate(opu, name), opu.measure, opu.camera.offset
    dead = np.flatnonzero(projection.valid)[5::47][: 1 if name == "off-axis" else 10]

    def spoil(*arguments, **more):
        frames = take(*arguments, **more)
        if fault == "a lost frame":
            return np.concatenate([frames[:20], frames[21:], frames[-1:]])
        if fault == "dead pixels":
            frames[:, dead] = dark
            return frames
        return np.rint(dark + 0.5 * (frames - float(dark))).astype(np.uint8)

    x = half_on(40, projection.n_inputs, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        projection(x)
    opu.measure = spoil
    told = "do not see the patterns" if fault == "dead pixels" else "frames do not fit the model"
    with pytest.warns(UserWarning, match=told):
        for _ in range(-(-200 // projection.frames_of(x))):
            projection(x)


def test_sound_calls_are_quiet():
    """Calls that are all looked at: few and many vectors, dim, repeated and empty ones, a medium that moves.

    Catches: light of another polarisation, of mirrors that leak, or of a few codes taken for a change of the laser's.
    """
    for name in METHODS:
        for opu in sound_benches(name):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of calibrations in few codes
                projection = calibrate(opu, name)
            n, rng = projection.n_inputs, np.random.default_rng(3)
            sparse = rng.choice([-1, 0, 1], (20, n), p=[0.025, 0.95, 0.025])
            repeated = np.repeat(half_on(1, n), 20, axis=0)
            for x in (half_on(20, n), half_on(2, n), np.eye(n)[:20], np.zeros((3, n)), sparse, repeated):
                projection._placed.clear()
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    projection(x)


def sound_benches(name):
    """A bench, and the same with a medium that moves, leaking mirrors, a laser that drifts, few bits, polarisations."""
    opu = bench("lab_bench", name, seed=2)
    still = opu.exposure_s
    changes = [{}, {"medium": Drifting(opu.medium, 1e6)}, {"dmd.contrast": 200.0}, {"laser.drift_rms": 0.02}]
    if name != "multilateration":
        changes += [{"camera.bit_depth": 6}, {"imaging.polarisations": 2}]
    for change in changes:
        other = opu.replace(**change)
        other.exposure_s = still
        yield other


@pytest.mark.filterwarnings(READ_TWICE)
@pytest.mark.parametrize(("name", "first"), [("off-axis", 151), ("off-axis", 80), ("reference pairs", 80)])
def test_a_short_run_of_shifted_frames_is_refused(name, first):
    """9 frames show the next pattern: they are refused, with at most 8 more terms; true over stated is 0.8 to 1.25.

    Catches: a run under a sixth of a call (off axis 8 to 16, without a word); a sixth of the call refused for it.
    """
    opu = bench("lab_bench", name, seed=5)
    projection, take = calibrate(opu, name), opu.measure

    def slipping(*arguments, **more):
        frames, run = take(*arguments, **more), np.arange(first, first + 9)
        frames[run] = frames[np.minimum(run + 1, len(frames) - 1)]
        return frames

    opu.measure = slipping
    x = half_on(160 if name == "off-axis" else 20, projection.n_inputs, 5)
    with pytest.warns(UserWarning, match="have the response of the next pattern"):
        found = projection.measure(x)
    fits = np.isfinite(found.standard_error).all(axis=1, where=projection.valid)
    if name == "off-axis":  # the frame after the last shows itself
        assert not fits[first : min(first + 9, 159)].any()
    assert 1 <= (~fits).sum() <= (17 if name == "off-axis" else 2)
    good = fits[:, None] & projection.valid & ~found.saturated
    assert 0.8 < true_over_stated(projection, x, found, good) < 1.25


@pytest.mark.parametrize("name", ["anchor, disjoint", "anchor, complement", "3 steps", "4 steps", "off-axis"])
def test_changing_light_is_in_the_stated_error(name):
    """Stray light of 0 to 10 DN with anchors, else power that changes by 5 % rms: told, true over stated 0.6 to 1.5.

    Catches: light that is told and not stated (3.3 with anchors), or not told (1.9 with four steps, 4 off axis).
    """
    opu = tilted("lab_bench", 64, band=0.08) if name == "off-axis" else bench("lab_bench", name)
    opu.exposure_s *= 0.6 if name == "off-axis" else 1.0
    projection = calibrate(opu, name)
    take = opu.measure
    rng, dark, each = np.random.default_rng(0), opu.camera.offset, projection.frames_per_vector

    def changing(*arguments, **more):
        frames, power = take(*arguments, **more) - float(dark), 1.0
        if "anchor" in name:
            frames += rng.uniform(0.0, 10.0, (len(frames), 1))
        else:
            power = np.repeat(rng.normal(1.0, 0.05, len(frames) // each), each)[:, None]
        return np.rint(frames * power + dark).clip(0, 255).astype(opu.camera.dtype)

    opu.measure = changing
    x = half_on(60 + projection.n_inputs, projection.n_inputs)  # a level needs more patterns than inputs
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = projection.measure(x)
    assert any(re.search("their level changes by|light changes by [456]", str(one.message)) for one in told)
    assert 0.6 < true_over_stated(projection, x, found) < 1.5


@pytest.mark.filterwarnings("ignore:frames do not fit the model")
@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("multilateration", "reference pairs")])
@pytest.mark.parametrize("since", [0.0, 0.5], ids=["from the start", "halfway"])
def test_light_that_is_halved_after_the_calibration_is_in_the_stated_error(name, since):
    """Told by `measure`, also of two vectors; values are refused, or true over stated is under 1.3.

    Stray light of 5 DN in all frames is not taken for it. Catches: 24 (four steps) and 49 (off axis) without a word,
    1.9 (four steps) and 28 (off axis) halfway; 2.1 with disjoint anchors, whose patterns fit by chance.
    """
    opu = bench("lab_bench", name, seed=5)
    projection, take, dark = calibrate(opu, name), opu.measure, opu.camera.offset

    def dimmed(*arguments, **more):
        frames = take(*arguments, **more).astype(np.float64)
        frames[round(since * len(frames)) :] = dark + 0.5 * (frames[round(since * len(frames)) :] - dark)
        return np.rint(frames).astype(np.uint8)

    opu.measure = dimmed
    for count in (40, 2):
        x = half_on(count, projection.n_inputs, 5)
        with pytest.warns(Misfit, match="up to -(4[5-9]|50)% from that of the calibration|of the rows refused"):
            found = projection.measure(x)
        good = projection.valid & ~found.saturated & np.isfinite(found.standard_error)
        assert not good.any() or true_over_stated(projection, x, found, good) < 1.3
    opu.measure = lambda *arguments, **more: np.minimum(take(*arguments, **more), 250) + np.uint8(5)
    if "anchor" not in name and since:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            projection.measure(half_on(40, projection.n_inputs, 5))
        assert not any("from that of the calibration" in str(one.message) for one in told)


@pytest.mark.filterwarnings("ignore:frames do not fit the model")
@pytest.mark.parametrize(("name", "seed"), [("anchor, disjoint", k) for k in (0, 2, 5)] + [("multilateration", 2)])
def test_values_after_a_lost_frame_are_refused_together(name, seed):
    """Those before it are kept, true over stated 0.7 to 1.1; frames after it belong to two patterns.

    Catches: later ones that fit by chance (6 times the stated error with disjoint anchors, 1.7 with multilateration);
    sound ones that are refused in their place, because they are fewer.
    """
    opu = bench("lab_bench", name, seed=seed)
    projection, take, at = calibrate(opu, name), opu.measure, 20 + 7 * seed

    def losing(*arguments, **more):
        frames = take(*arguments, **more)
        return np.concatenate([frames[:at], frames[at + 1 :], frames[-1:]])

    opu.measure = losing
    x = half_on(40, projection.n_inputs, seed)
    found = projection.measure(x)
    good = projection.valid & ~found.saturated & np.isfinite(found.standard_error)
    np.testing.assert_array_equal(good.any(axis=1), np.arange(40) < at // projection.frames_per_vector)
    assert 0.7 < true_over_stated(projection, x, found, good) < 1.1


@pytest.mark.filterwarnings("ignore:frames do not fit the model")
def test_phase_noise_is_not_taken_for_a_lost_frame():
    """It rejects a third of the patterns, at random; values of the others are kept. Catches: all of them refused."""
    opu = bench("lab_bench", "4 steps", seed=1, phase_jitter_rad=0.3)
    projection = calibrate(opu, "4 steps")
    found = projection.measure(half_on(60, projection.n_inputs, 3))
    kept = np.isfinite(found.standard_error[:, projection.valid]).any(axis=1)
    assert 0.4 < kept.mean() < 0.8


def test_a_camera_that_is_not_linear_is_told_by_the_calibration_of_off_axis():
    """The error is 0.07 as stated, where noise gives 0.015. Catches: probes with and without beam not compared."""
    opu = with_fault(bench("lab_bench", "off-axis", seed=5), "a camera that is not linear")
    with pytest.warns(UserWarning, match="the beam changes the reading of the speckle by -8"):
        projection = calibrate(opu, "off-axis")
    x = half_on(40, projection.n_inputs, 5)
    found = projection.measure(x)
    size = np.sqrt(np.mean(np.abs(found.values) ** 2))
    stated = np.sqrt(2.0 * np.mean(found.standard_error**2)) / size
    assert stated / 1.6 < np.sqrt(np.mean(errors(projection, x, found.values) ** 2)) < 1.3 * stated


@pytest.mark.filterwarnings("ignore:frames do not fit the model")
@pytest.mark.parametrize("name", ["3 steps", "4 steps", "off-axis"])
def test_a_camera_that_bends_later_is_in_the_stated_error(name):
    """8 % less at the top, or a gamma of 1.15: told by `measure`, and true over stated is 0.25 to 1.25.

    A gamma changes the error by less than the curvature says, as its slope happens to be 1 near 100 DN. Three steps
    refuse all of it. A linear camera is not told, also for vectors of few inputs. Catches: 4.1 off axis and 1.6 with
    steps without a word; changing light told for dim patterns, whose slopes are noisy (8 standard errors).
    """
    opu = bench("lab_bench", name, seed=1)
    projection, take = calibrate(opu, name), opu.measure
    x = half_on(40, projection.n_inputs, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        projection.measure(np.random.default_rng(1).random((30, projection.n_inputs)) < 0.05)
        projection.measure(x[:3])
    curves = (
        lambda frames: frames - 0.08 * frames.astype(float) ** 2 / 255.0,
        lambda frames: 255.0 * (frames / 255.0) ** 1.15,
    )
    for curve in curves:
        opu.measure = lambda *arguments, curve=curve, **more: np.rint(curve(take(*arguments, **more))).astype(np.uint8)
        with pytest.warns(UserWarning, match="fringes are bent as by a camera|100.0% of the rows refused"):
            found = projection.measure(x)
        good = projection.valid & ~found.saturated & np.isfinite(found.standard_error)
        if good.any():
            assert 0.25 < true_over_stated(projection, x, found, good) < 1.25


@pytest.mark.parametrize("name", ["3 steps", "4 steps"])
def test_dim_patterns_are_no_fault_of_camera_or_light(name):
    """Patterns of a few inputs at a fifth and a twentieth of the exposure, where the noise of fringes is not small.

    Catches: shot noise, which grows with the fringes, and rounding taken for a camera that bends (by 28 % to 980 %);
    noise of the speckle taken for light that changes (by 8 % to 28 %); errors stated 12 times too large.
    """
    for share in (0.2, 0.05):
        opu = bench("lab_bench", name, seed=1)
        opu.exposure_s *= share
        projection = calibrate(opu, name)
        rng = np.random.default_rng(78)
        for x in (
            np.eye(projection.n_inputs)[:40],
            rng.choice([-1, 0, 1], (40, projection.n_inputs), p=[0.025, 0.95, 0.025]),
        ):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found = projection.measure(x)
            assert 0.4 < true_over_stated(projection, x, found) < 1.3


@pytest.mark.parametrize("name", [name for name in METHODS if name != "multilateration"])
def test_few_codes_are_no_fault(name):
    """A camera of 4 bits, whose readings differ little but by rounding; multilateration refuses it.

    Catches: rounding told as light that changes (by 30 % to 16250 %), as other anchors (by 6 % to 8 %), as another beam
    or as a camera that bends (by 7 %).
    """
    for seed in (0, 1, 2) if name != "off-axis" else (4,):
        opu = bench("lab_bench", name, seed=seed)
        exposure = opu.exposure_s
        opu = opu.replace(camera=dataclasses.replace(opu.camera, bit_depth=4))
        opu.exposure_s = exposure
        rng = np.random.default_rng(seed + 77)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            projection = calibrate(opu, name)
            n = projection.n_inputs
            one = np.eye(n)[rng.integers(0, n, 40)]
            for x in (
                one,
                grey(12, n, seed),
                half_on(20, n, seed + 5),
                rng.choice([-1, 0, 1], (40, n), p=[0.025, 0.95, 0.025]),
            ):
                projection.measure(x)


@pytest.mark.parametrize("name", list(METHODS))
def test_a_pixel_that_blinks_is_left_out(name):
    """Random telegraph noise of 40 DN on one pixel, in the dark, too: its row is refused, and no other one suffers.

    Catches: its row kept with the error of a sound one; its noise taken for that of all pixels (errors stated 6 times
    too large); a camera told as not linear (multilateration).
    """
    opu = bench("lab_bench", name, seed=1)
    rng = np.random.default_rng(3)

    def blinking(take):
        def frames(*arguments, **more):
            taken = np.array(take(*arguments, **more))
            taken[rng.random(len(taken)) < 0.3, 7] += np.uint8(40)
            return taken

        return frames

    opu.measure, opu.dark = blinking(opu.measure), blinking(opu.dark)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        projection = calibrate(opu, name)
        x = half_on(40, projection.n_inputs, 5)
        found = projection.measure(x)
    assert not projection.valid[7]
    assert 0.6 < true_over_stated(projection, x, found) < 1.2


def test_saturated_frames_hide_a_sideband():
    """Four times the exposure, refused; a shorter one mends it. Catches: the angle of the beam told to be wrong."""
    opu = bench("lab_bench", "off-axis", seed=1)
    opu.exposure_s *= 4.0
    with pytest.raises(ValueError, match=r"exposure_s 0.00088 saturates 4\d% of the readings.*calibration\.expose"):
        calibrate(opu, "off-axis")
    expose(opu, "off-axis")
    assert calibrate(opu, "off-axis").valid.mean() > 0.99


@pytest.mark.filterwarnings("ignore:frames do not fit the model")
@pytest.mark.parametrize("name", ["anchor, disjoint", "anchor, complement", "multilateration"])
def test_a_gamma_is_told_by_the_anchors(name):
    """From the start, by the two exposures of the calibration; later, by the light of the anchors.

    True over stated error is 0.35 to 1.3, and a linear camera is not told. Catches: 2.8 (complement) and 2.2
    (multilateration) without a word from the start, 2.9 (multilateration) for a gamma that sets in later; rounding of
    dim frames that is told.
    """
    for planted, level in ((0, 1.8), (1, 1.8), (2, 1.8), (0, 0.25)):
        opu = bench("lab_bench", name, seed=1)
        opu.exposure_s *= level if name != "multilateration" or level > 1 else 1.0
        take, dark = opu.measure, opu.dark

        def bend(frames):
            return np.rint(255.0 * (frames / 255.0) ** 1.15).astype(np.uint8)

        def plant(opu=opu, take=take, dark=dark, bend=bend):
            opu.measure = lambda *arguments, **more: bend(take(*arguments, **more))
            opu.dark = lambda *arguments, **more: bend(dark(*arguments, **more))

        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            if planted == 1:
                plant()
            projection = calibrate(opu, name)
            if planted == 2:
                plant()
            x = half_on(100 if name != "anchor, complement" else 40, projection.n_inputs, 5)
            found = projection.measure(x)
        assert bool(told) == (planted > 0)
        assert planted != 1 or "readings at an eighth of the exposure are -2" in str(told[0].message)
        good = projection.valid & ~found.saturated & np.isfinite(found.standard_error)
        assert 0.35 < true_over_stated(projection, x, found, good) < 1.3, (planted, level)


@pytest.mark.parametrize("name", ["anchor, disjoint", "anchor, complement", "reference pairs", "4 steps"])
def test_a_medium_of_few_channels_is_no_changing_light(name):
    """Catches: a fibre, which transmits more of one pattern than of another, taken for stray light."""
    opu = bench("lab_bench", name)
    rng = np.random.default_rng(5)
    left, right = (rng.standard_normal((2, 8, n)) for n in (opu.n_out, opu.n_in))
    matrix = (left[0] + 1j * left[1]).T @ (right[0] + 1j * right[1]) / np.sqrt(32 * opu.n_in)
    opu = opu.replace(medium=MatrixMedium(matrix.astype(np.complex64)))
    opu.autoexpose()
    opu.exposure_s *= 0.6 if name == "4 steps" else 1.0
    projection = calibrate(opu, name)
    for count in (60, 60 + projection.n_inputs):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            projection.measure(half_on(count, projection.n_inputs))
