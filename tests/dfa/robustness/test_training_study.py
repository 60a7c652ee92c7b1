"""Training as a point of a sweep: names change the right parameter, and metrics equal those of the run."""

import math
import pickle
from dataclasses import asdict, replace

import numpy as np
import pytest

from dfa import sweep
from dfa.experiments.plans import Plan
from dfa.experiments.runs import run_one
from dfa.feedback.encoding import Ternary
from dfa.robustness import TrainingStudy
from dfa.robustness.names import change_plan, units_of_names
from dfa.robustness.training_study import load_once
from photonics import presets

TINY = Plan(data="digits", hidden=(16,), epochs=1, samples=256)
DRIFT = {"medium": {"type": "Drifting", "correlation_frames": 1e6}}


def test_every_prefix_changes_its_part():
    """Catches: a prefix that is dropped or mixed up with the device's parts."""
    plan = change_plan(
        replace(TINY, device_changes={"camera.bit_depth": 10}),
        {
            "training.hidden": [8, 8],
            "encoder.seed": 3,
            "calibration.repeats": 4,
            "camera.read_noise_e": 9.0,
            "imaging.reference.phase_jitter_rad": 0.1,
        },
    )
    assert plan.hidden == (8, 8)
    assert plan.encoder == replace(TINY.encoder, seed=3)
    assert plan.calibration == {"repeats": 4}
    assert plan.device_changes == {
        "camera.bit_depth": 10,
        "camera.read_noise_e": 9.0,
        "imaging.reference.phase_jitter_rad": 0.1,
    }
    assert TINY.hidden == (16,)
    assert TINY.device_changes == {}


def test_a_policy_replaces_that_of_the_plan():
    """Catches: two policies of ternarisation at once; options of the earlier policy that stay."""
    assert change_plan(TINY, {"encoder.threshold": 0.1}).encoder == Ternary(threshold=0.1)
    assert change_plan(TINY, {"encoder.sign": True}).encoder == Ternary(sign=True)
    kept = change_plan(replace(TINY, encoder=Ternary(relative=0.3)), {"encoder.restore": True}).encoder
    assert kept == Ternary(relative=0.3, restore=True)
    pairs = replace(TINY, encoder=Ternary(seed=5))
    assert change_plan(pairs, {"encoder.stochastic": 0.5}).encoder == Ternary(stochastic=0.5, seed=5)


def test_a_medium_name_changes_the_effect_around_the_medium():
    """Catches: a drift whose time constant cannot be swept; a plan that is changed in place."""
    base = replace(TINY, device_changes=DRIFT)
    changes = change_plan(base, {"medium.correlation_frames": 10.0, "medium.storage": "stored"}).device_changes
    assert changes == {"medium": {"type": "Drifting", "correlation_frames": 10.0}, "medium.storage": "stored"}
    assert base.device_changes == {"medium": {"type": "Drifting", "correlation_frames": 1e6}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"camera.red_noise": 1.0}, "red_noise is not a parameter of Camera"),
        ({"camera.read_noise_e": -1.0}, "read_noise_e must be"),
        ({"lazer.power_w": 1.0}, "lazer"),
        ({"training.learning_rat": 1.0}, "training.NAME must have one of .* as NAME, got training.learning_rat"),
        ({"training.encoder": 1.0}, "training.NAME must have one of .* as NAME, got training.encoder"),
        ({"training.learning_rate": -1.0}, "learning_rate must be"),
        ({"training.method": "magic"}, "method must be one of"),
        ({"training.inputs": 1}, "inputs must be"),
        ({"training.inputs": 800_000}, "n_in must be 1 to 786432"),
        ({"encoder.treshold": 0.1}, "encoder.NAME must have one of threshold, .* as NAME, got encoder.treshold"),
        ({"calibration.step": 4}, "calibration: method 'anchor' has the options bits, .*, got step"),
        ({"calibration.method": "magic"}, "calibration: method must be one of"),
        ({"calibration.repeats": -1}, "calibration: AnchorMethod: repeats must be greater than or equal to 2, got -1"),
        ({"calibration.dark_share": "x"}, "calibration: AnchorMethod: dark_share must be a valid number, got 'x'"),
        ({"training.hidden": [8, 1.5]}, r"hidden must be one or more positive whole numbers, got \[8, 1.5\]"),
        ({"training.learning_rate": "x"}, "learning_rate must be a valid number, got 'x'"),
        ({"training.learning_rate": [1.0]}, "learning_rate must be a valid number, got"),
        ({"training.epochs": 1.5}, "epochs must be a valid integer, got 1.5"),
        ({"training.diffuse": "x"}, "diffuse must be True or False, got 'x'"),
        ({"training.device": 5}, "device must be a preset's name, a TOML file or a description, got 5"),
        ({"training.method": ["x"]}, r"method must be one of .*, got \['x'\]"),
        ({"encoder.threshold": "x"}, "threshold must be 0 or more and finite, got 'x'"),
        ({"encoder.sign": 5}, "sign must be true or false, got 5"),
        ({"camera.bit_depth": "8"}, "bit_depth must be a valid number, got '8'"),
        ({"camera.bit_depth": True}, "bit_depth must be a valid number, got True"),
        ({"medium": {"type": ["x"]}}, r"medium.type must be one of .*, got \['x'\]"),
        ({"medium.correlation_frames": 1e5}, 'write medium={"type": "Drifting", "correlation_frames": 100000.0}'),
    ],
)
def test_a_bad_setting_is_refused_before_anything_runs(settings, message, monkeypatch):
    """Catches: a wrong name that is detected only at the last of many points."""
    monkeypatch.setattr(TrainingStudy, "run", lambda *_: pytest.fail("ran"))
    with pytest.raises(ValueError, match=message):
        sweep(TrainingStudy(TINY), [{}, settings], workers=0, progress=False)


def test_bad_arguments():
    """Catches: an unknown method that is found when the sweep begins."""
    with pytest.raises(ValueError, match="method must be one of bp"):
        TrainingStudy(TINY, "magic")
    with pytest.raises(ValueError, match="plan must be a Plan, got 3"):
        TrainingStudy(3)


def test_one_width_is_one_hidden_block():
    """Catches: a single width that is refused."""
    assert [change_plan(TINY, {"training.hidden": width}).hidden for width in (8, np.int64(16), [4, 4])] == [
        (8,),
        (16,),
        (4, 4),
    ]


def test_a_name_of_medium_and_effect_changes_the_medium():
    assert change_plan(TINY, {"medium.seed": 7}).device_changes == {"medium.seed": 7}


@pytest.mark.parametrize("seed", [2**62, 2**63 - 1])
def test_every_seed_trains(seed):
    """Catches: an allowed seed that overflows in the order of the data."""
    assert TrainingStudy(TINY, "bp").run({}, seed)["accuracy"] > 0


def test_a_point_equals_the_run_of_its_plan():
    """Catches: settings or seeds that do not reach the training; a reference that uses the device."""
    points = [{"camera.read_noise_e": 20.0}, {"training.method": "bp"}]
    found = sweep(TrainingStudy(TINY), points, seeds=[1, 2], workers=0, progress=False)
    assert (found.error == "").all()
    noisy = run_one("optical", 2, replace(TINY, device_changes={"camera.read_noise_e": 20.0}))
    plain = run_one("bp", 2, TINY)
    at = found.sel(seed=2)
    assert at.accuracy.values.tolist() == [100.0 * noisy.score, 100.0 * plain.score]
    assert at.validation.values.tolist() == [100.0 * noisy.validation, 100.0 * plain.validation]
    assert [at.frames.values[0], at.snr_db.values[0]] == [noisy.frames, noisy.snr_db]
    assert np.isnan(at.frames.values[1])
    assert len(set(found.frames.values[0])) == 2
    assert found.accuracy.attrs["units"] == "%"
    assert found["camera.read_noise_e"].attrs["units"] == "e-"


def test_frames_of_calibration_are_counted():
    """Calibrations at steps 1 and 2 of 3 take as many frames as the first; frames grow with the repeats (default 16).

    Catches: calibrations that are not counted.
    """
    study = TrainingStudy(replace(TINY, batch_size=100))
    once = study.run({}, 0)
    thrice = study.run({"training.recalibrate_every": 1}, 0)
    longer = study.run({"calibration.repeats": 32}, 0)
    each = (thrice["calibration_frames"] - once["calibration_frames"]) / 2
    assert each > 0
    assert longer["calibration_frames"] == once["calibration_frames"] + each
    assert once["calibration_frames"] < once["frames"]


def test_inputs_beyond_those_of_the_error_reduce_its_signal():
    """All inputs that are ON share the full well of the pixels: 10 log10(200/20) = 10 dB less SNR, within 3 dB.

    Catches: inputs that do not reach the device, or that change methods without a device.
    """
    study = TrainingStudy(TINY)
    few, many = study.run({"training.inputs": 20}, 0), study.run({"training.inputs": 200}, 0)
    assert few == study.run({}, 0)
    assert few["snr_db"] - many["snr_db"] == pytest.approx(10.0, abs=3.0)
    other = {"training.method": "bp"}
    assert study.run(other | {"training.inputs": 200}, 0)["accuracy"] == study.run(other, 0)["accuracy"]


def test_a_device_from_a_file_has_its_own_inputs(tmp_path):
    """Catches: a number of inputs that is ignored."""
    path = tmp_path / "device.toml"
    path.write_text('[medium]\ntype = "GaussianMedium"\nn_in = 24\nn_out = 64\n')
    with pytest.raises(
        ValueError, match="inputs must be left out for a device from a file or a description, which has its own"
    ):
        replace(TINY, device=str(path), inputs=30)


def test_photons_are_those_of_the_camera():
    """Half the range of 8 bits is the 99th percentile of speckle, 4.6 times its mean. Catches: a wrong gain."""
    found = TrainingStudy(TINY).run({}, 0)
    camera = presets.lab_bench(4, 4).camera
    expected = 0.5 * camera.full_well_e / math.log(100.0) / camera.quantum_efficiency
    assert found["photons"] == pytest.approx(expected, rel=0.25)  # a few tens of grains at each of 8 patterns
    well = TrainingStudy(TINY).run({"camera.full_well_e": 1000.0}, 0)
    assert well["photons"] == pytest.approx(found["photons"] / 10, rel=0.1)
    assert well["snr_db"] < found["snr_db"] - 3


def test_everything_that_determines_a_run_is_described(tmp_path):
    """Catches: two different studies with the same key; a device that is described by the name of its file."""
    base = TrainingStudy(TINY).describe()
    for changes in ({"hidden": (17,)}, {"epochs": 2}, {"encoder": Ternary(threshold=0.1)}, {"device_changes": DRIFT}):
        assert TrainingStudy(replace(TINY, **changes)).describe() != base
    assert TrainingStudy(TINY, "dfa").describe() != base
    assert set(base["plan"]) == set(asdict(TINY))
    path = tmp_path / "device.toml"
    found = []
    for seed in (1, 2):
        path.write_text(f'[medium]\ntype = "GaussianMedium"\nn_in = 20\nn_out = 64\nseed = {seed}\n')
        found.append(TrainingStudy(replace(TINY, device=str(path))).describe())
    assert found[0] != found[1]
    assert "device.toml" not in str(found)


def test_the_file_of_a_device_is_read_once(tmp_path, monkeypatch):
    """The study contains the device's description; a changed file has no effect, a changed matrix is refused.

    Catches: points of an edited file under the key of the old file; paths that are valid in one folder only.
    """
    matrix = np.exp(2j * np.pi * np.random.default_rng(0).random((64, 40)))
    np.save(tmp_path / "matrix.npy", matrix)
    file = tmp_path / "device.toml"
    file.write_text(
        'exposure_s = 5e-5\n[medium]\ntype = "MatrixMedium"\npath = "matrix.npy"\n[laser]\nlinewidth_hz = 1e5\n'
    )
    monkeypatch.chdir(tmp_path)
    study = TrainingStudy(replace(TINY, device="device.toml"))
    described, settings = study.describe(), {"camera.read_noise_e": 3.0}
    plan = change_plan(study.plan, settings)
    expected = run_one("optical", 0, plan, load_once("digits"))
    monkeypatch.chdir("/")
    file.unlink()
    study = pickle.loads(pickle.dumps(study))
    study.check(settings)
    found = study.run(settings, 0)
    assert (found["snr_db"], found["angle"]) == (expected.snr_db, expected.angle)
    assert study.describe() == described
    with pytest.raises(ValueError, match=r"training.device must be a preset or a description, got 'device.toml'"):
        study.check({"training.device": "device.toml"})
    np.save(tmp_path / "matrix.npy", 2 * matrix)
    with pytest.raises(ValueError, match="must have SHA-256"):
        study.run(settings, 0)


def test_units_follow_the_names():
    """Catches: a unit of the wrong suffix."""
    units = units_of_names()
    assert units["camera.dark_current_e_per_s"] == "e-/s"
    assert units["camera.full_well_e"] == "e-"
    assert units["laser.rin_db_per_hz"] == "dB/Hz"
    assert units["imaging.reference.phase_drift_time_s"] == "s"
    assert units["medium.correlation_frames"] == "frames"
    assert units["exposure_s"] == "s"
    assert "dmd.contrast" not in units
