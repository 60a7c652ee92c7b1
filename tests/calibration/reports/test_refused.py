"""A wrong calibration is refused from end to end: the report has the verdict failed, with the reason."""

import h5py
import numpy as np
import pytest

from calibration import RecordedDevice, Recorder, characterize, recover_transmission_matrix
from photonics import GaussianMedium, MatrixMedium, presets
from photonics.medium import Drifting
from tests.calibration.reports.test_report import Shuffled, reasons
from tests.command import BENCH, opu


def bench(seed=1):
    device = presets.lab_bench(32, 150, seed=seed)
    device.autoexpose()
    return device


def refused(report, words, tmp_path):
    """The verdict is failed, and the report and its page state the reason."""
    assert report.verdict == "failed"
    assert any(words in reason for reason in reasons(report)), reasons(report)
    page = report.to_html(tmp_path / "report.html").read_text()
    assert words in page


@pytest.mark.filterwarnings("ignore:frames do not fit the model")
def test_shuffled_patterns(tmp_path):
    """Patterns arrive one frame late, in the recovery and in the test of it.

    Catches: a matrix that is right for the shuffled patterns and is tested with patterns that are shuffled alike.
    """
    refused(characterize(Shuffled(bench()), matrix="phase-stepping"), "patterns", tmp_path)


@pytest.mark.filterwarnings("ignore:frames do not fit the model")
def test_shuffled_patterns_in_a_recording(tmp_path):
    """A recording of shuffled patterns gives the same verdicts and reasons. Catches: a recording that is trusted."""
    with Recorder(Shuffled(bench()), tmp_path / "r.h5") as recorder:
        live = characterize(recorder, matrix="phase-retrieval")
    replayed = characterize(RecordedDevice(tmp_path / "r.h5"), matrix="phase-retrieval")
    assert [line.verdict for line in replayed.lines] == [line.verdict for line in live.lines]
    assert reasons(replayed) == reasons(live)
    refused(replayed, "no matrix explains the frames: they belong to other patterns", tmp_path)


def test_a_medium_that_drifted_away_since(tmp_path):
    """An old matrix with a new medium. Catches: a matrix that is judged by its own statistics only."""
    before = bench()
    estimate = recover_transmission_matrix(before, "phase-stepping", exposure="auto", out=tmp_path / "matrix.h5")
    today = bench().replace(medium=GaussianMedium(32, 150, seed=77))
    refused(characterize(today, matrix=estimate), "drifted since the calibration", tmp_path)


@pytest.mark.filterwarnings("ignore:frames do not fit the model")
def test_a_medium_that_drifts_during_the_recovery(tmp_path):
    """Its correlation time is 200 frames. Catches: a matrix of two media that passes."""
    opu = bench()
    opu = opu.replace(medium=Drifting(opu.medium, correlation_frames=200, seed=3), exposure_s=opu.exposure_s)
    refused(characterize(opu, matrix="phase-stepping"), "drifted away", tmp_path)


def test_a_saturated_camera(capfd, tmp_path):
    """With a too long exposure the command line writes a report and exits with code 3. Catches: exit code 0."""
    toml = BENCH.replace("4e-4", "9e-4")
    (tmp_path / "bench.toml").write_text(toml + "[laser]\npower_w = 0.5\n")
    arguments = ["--device", tmp_path / "bench.toml", "--exposure", "keep", "--method", "phase-stepping"]
    assert opu("calibrate", *arguments, "--quiet", "--out", tmp_path / "r") == 3
    text = " ".join(capfd.readouterr().out.split())
    assert "failed: the camera is saturated" in text
    assert "of the readings, 2% is allowed" in text
    assert (tmp_path / "r" / "report.html").exists()
    assert {path.name for path in (tmp_path / "r").glob("matrix.h5*")} == {"matrix.h5.refused"}


@pytest.mark.filterwarnings("ignore:frames do not fit the model")
def test_hot_pixels_are_not_a_fault_of_the_projection():
    """2 of 400 pixels at 240 DN more are told; all else passes.

    Catches: their values in a mean (R² 0.93: failed) or the dark level; an exposure that spares them (0.28 ms for 0.45
    ms); a limit of 0.5 %.
    """
    opu = presets.lab_bench(64, 400)
    opu.autoexpose()

    def heat(frames):
        frames = frames.astype(int)
        frames[:, [3, 200]] += 240
        return frames.clip(0, 255).astype(np.uint8)

    take, dark = opu.measure, opu.dark
    opu.measure = lambda *arguments, **more: heat(take(*arguments, **more))
    opu.dark = lambda *arguments, **more: heat(dark(*arguments, **more))
    sound = characterize(presets.lab_bench(64, 400), exposure="auto").provenance["exposure_s"]
    report = characterize(opu, method="phase-stepping", exposure="auto")
    lines = {line.name: line for line in report.lines}
    told = {name: line.verdict for name, line in lines.items() if line.verdict not in ("pass", "not measurable")}
    assert told == {"bad pixels": "degraded"} and "2 hot and 0 stuck of 400" in lines["bad pixels"].formula
    assert lines["linearity R²"].verdict == lines["additivity"].verdict == "pass"
    assert report.provenance["exposure_s"] == pytest.approx(sound, rel=0.05)


def test_a_recording_without_a_matrix_says_so(tmp_path):
    """Catches: advice to keep the exposure of frames that were never taken."""
    with Recorder(bench(), tmp_path / "r.h5") as recorder:
        characterize(recorder)
    with pytest.raises(
        ValueError, match=r"with the \d+ frames of phase-stepping, got \d+ frames .* record this method"
    ):
        characterize(RecordedDevice(tmp_path / "r.h5"), matrix="phase-stepping")


def test_an_anchor_in_the_dark(tmp_path):
    """The light of the anchors' mirrors does not reach the camera. Catches: noise taken for an anchor."""
    opu = bench()
    matrix = opu.effective_matrix().copy()
    matrix[:, 24:] = 0.0
    opu = opu.replace(medium=MatrixMedium(matrix), exposure_s=opu.exposure_s)
    refused(characterize(opu, n_inputs=24, method="multilateration"), "the anchor is too dark: its 8 inputs", tmp_path)


@pytest.mark.filterwarnings("ignore:frames do not fit the model")
def test_a_lost_frame_of_a_recording_is_a_finding(tmp_path):
    """A projection that a lost frame spoils leaves frames of the file; the report states why and ends.

    Catches: an error that blames the file for other patterns, in place of the reason.
    """
    path = tmp_path / "lost.h5"
    with Recorder(bench(), path) as recorder:
        characterize(recorder, method="phase-stepping")
    with h5py.File(path, "r+") as file:
        shown = np.flatnonzero(np.isfinite(file["reference_phase"][:]))
        k = int(shown[len(shown) // 4])
        file["frames"][k:-1] = file["frames"][k + 1 :]
    with pytest.warns(UserWarning, match=f"lost.h5: frames do not belong .* a frame lost before frame {k} "):
        report = characterize(RecordedDevice(path), method="phase-stepping")
    refused(report, "failed and left frames of the recording", tmp_path)
    assert any(line.group == "projection" and line.verdict == "failed" for line in report.lines)
