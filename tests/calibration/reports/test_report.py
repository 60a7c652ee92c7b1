"""The whole report: what a good device gets, what is refused and why, replay, comparison, and paper."""

import dataclasses
import html
import json
import shutil

import h5py
import numpy as np
import pytest

from calibration import (
    RecordedDevice,
    Recorder,
    TransmissionEstimate,
    characterize,
    compare,
)
from calibration.recovery.base import Gauge
from calibration.reports.chapters import projection as chapter
from calibration.reports.html import plots
from calibration.reports.report import Report
from calibration.storage.files import WrongFile
from photonics import OPU, GaussianMedium, Imaging, MatrixMedium, presets
from photonics.medium import Drifting
from photonics.patterns.encoding import half_on
from photonics.random import PatternSet

VECTORS = PatternSet.PROJECTION_VECTORS


class Shuffled:
    """A bench whose patterns arrive in another order than they were sent in, as by a buffer that wraps around."""

    def __init__(self, opu):
        self.opu = opu

    def __getattr__(self, name):
        return getattr(self.opu, name)

    @property
    def exposure_s(self):
        return self.opu.exposure_s

    @exposure_s.setter
    def exposure_s(self, value):
        self.opu.exposure_s = value

    def measure(self, patterns, exposure_s=None, *, reference_phase=None):
        return self.opu.measure(np.roll(patterns, 1, axis=0), exposure_s, reference_phase=reference_phase)


def estimate_of(opu, error=0.03, matrix=None):
    """The true matrix with white errors, a random phase on each row, and half of the rows conjugated."""
    rng = np.random.default_rng(0)
    truth = opu.effective_matrix() if matrix is None else matrix
    size = error / np.sqrt(truth.shape[1])
    noise = (rng.normal(size=truth.shape) + 1j * rng.normal(size=truth.shape)) * size / np.sqrt(2)
    found = (truth + noise) * np.exp(2j * np.pi * rng.random((len(truth), 1)))
    found[::2] = found[::2].conj()
    return TransmissionEstimate(
        matrix=found.astype(np.complex64),
        standard_error=np.full(len(truth), size, np.float32),
        valid=np.ones(len(truth), bool),
        method="test",
        gauge=Gauge("each row is multiplied by an unknown phase"),
        frames=0,
        condition_number=1.0,
        provenance={},
    )


def bench(n_in=64, n_out=400, seed=1):
    opu = presets.lab_bench(n_in, n_out, seed=seed)
    opu.autoexpose()
    return opu


def line(report, group, name):
    return next(line for line in report.lines if (line.group, line.name) == (group, name))


def reasons(report):
    return [line.reason for line in report.lines if line.reason]


@pytest.fixture(scope="module")
def report():
    opu = bench(128, 600)
    return characterize(opu, truth=opu.effective_matrix(), matrix=estimate_of(opu))


def test_a_good_device_passes(report):
    """Every chapter is there and passes. Catches: a limit that a sound bench does not meet."""
    assert report.verdict == "pass", [
        found for found in report.lines if found.verdict not in ("pass", "not measurable")
    ]
    assert {found.group for found in report.lines} == {
        "camera", "speckle", "projection", "matrix", "focusing", "stability",
    }  # fmt: skip


@pytest.mark.parametrize("error", [0.02, 0.05, 0.1])
def test_held_out_probes_measure_the_error_of_the_field(error):
    """The row error from intensities is that of the matrix within 10 %, whatever the phases and conjugations of rows.

    Catches: the factor 2 between errors of intensity and of field, noise of the test's frames not taken off, leakage of
    mirrors that are OFF left out.
    """
    opu = bench(128, 600)
    report = characterize(opu, matrix=estimate_of(opu, error))
    assert abs(line(report, "matrix", "error per row").measured / error - 1.0) < 0.1
    # A frame also has what the median row has little of: PRNU of 1 % and the laser's drift of 0.5 %.
    frame = float(np.sqrt(error**2 + opu.camera.prnu**2 + opu.laser.drift_rms**2))
    assert abs(line(report, "matrix", "error of the output").measured / frame - 1.0) < 0.05
    assert abs(line(report, "matrix", "stated uncertainty").measured - 1.0) < 0.25


def test_the_budget_of_a_focus_adds_up(report):
    """1 + (N-1) F_amp F_noise F_cal is the measured enhancement; F_cal is 1 within its error where the matrix is right.

    Catches: the ratio of the exposures left out, a budget whose factors are of other foci.
    """
    found = {name: line(report, "focusing", name).measured for name in ("enhancement", "F_amp", "F_noise", "F_cal")}
    budget = 1.0 + 127 * found["F_amp"] / (2.0 * np.pi) * found["F_noise"] * found["F_cal"]
    assert abs(budget / found["enhancement"] - 1.0) < 1e-6
    assert abs(found["F_cal"] - 1.0) < max(4.0 * line(report, "focusing", "F_cal").uncertainty, 0.02)


def test_shuffled_patterns_are_refused():
    """A bench that shows patterns out of order fails with this reason. Catches: no comparison with other patterns."""
    opu = bench()
    report = characterize(Shuffled(opu), matrix=estimate_of(opu))
    assert report.verdict == "failed"
    assert any("shuffled" in reason and "64 of 64" in reason for reason in reasons(report))


def test_a_medium_that_drifted_away_since_the_calibration_is_refused():
    """The matrix of another medium neither predicts frames nor focuses. Catches: an error normalised by itself."""
    opu = bench()
    report = characterize(opu, matrix=estimate_of(opu, matrix=bench(seed=2).effective_matrix()))
    assert report.verdict == "failed"
    assert any("does not predict the frames" in reason and "drifted" in reason for reason in reasons(report))
    assert any("no focus" in reason for reason in reasons(report))


def test_a_medium_that_drifts_away_in_the_run_is_refused():
    """A field correlation time of 300 frames: the speckle is gone before the end, and the fitted time is right.

    Catches: exp(-t / tau) for the intensity, which gives half the time; frames of the start compared with themselves.
    """
    opu = presets.lab_bench(64, 1500, seed=1)
    opu.autoexpose()
    opu = opu.replace(medium=Drifting(opu.medium, correlation_frames=300, seed=3), exposure_s=opu.exposure_s)
    report = characterize(opu)
    assert report.verdict == "failed"
    assert any("drifted away" in reason for reason in reasons(report))
    lost = line(report, "stability", "decorrelation in the run").measured
    run = max(report.curves["stability"]["lag_s"]) / opu.frame_period_s
    assert abs(run / lost / 300.0 - 1.0) < 0.35


@pytest.mark.parametrize("power_w", [3.0, 100.0])
def test_a_saturated_camera_is_refused(power_w):
    """30 and 1000 times too much light. Catches: an exception instead of a report, or a pass."""
    opu = bench()
    bright = opu.replace(laser=dataclasses.replace(opu.laser, power_w=power_w))
    report = characterize(bright, matrix=estimate_of(opu))
    assert report.verdict == "failed"
    assert any("saturated" in reason for reason in reasons(report))
    assert line(report, "speckle", "saturated share").verdict == "failed"


def test_an_anchor_in_the_dark_is_refused():
    """The anchors' mirrors lead nowhere: no light, no projection. Catches: noise taken for an anchor."""
    opu = bench()
    matrix = opu.effective_matrix().copy()
    matrix[:, 48:] = 0.0
    opu = opu.replace(medium=MatrixMedium(matrix), exposure_s=opu.exposure_s)
    report = characterize(opu, n_inputs=48)
    assert report.verdict == "failed"
    assert any("the anchor is too dark: its 16 inputs" in reason for reason in reasons(report))


def test_no_row_known_is_refused():
    """Catches: statistics over nothing."""
    opu = bench()
    estimate = estimate_of(opu)
    estimate.valid[:] = False
    report = characterize(opu, matrix=estimate)
    assert any("no row is known" in reason for reason in reasons(report))


@pytest.mark.parametrize("pupil", ["circular", "square"])
def test_grain_of_the_speckle(pupil):
    """Its area within 4 standard errors of the pupil's, on 64 x 64 pixels. Catches: the pixel's contrast left out."""
    imaging = Imaging(numerical_aperture=0.04, pupil=pupil)
    opu = OPU(medium=GaussianMedium(64, 64 * 64 * 4), imaging=imaging)
    opu.autoexpose()
    found = line(characterize(opu), "speckle", "grain area")
    assert found.uncertainty < 0.1 * found.expected
    assert abs(found.measured - found.expected) < 4.0 * found.uncertainty


def run(device, method):
    """A characterisation that recovers its own matrix."""
    return characterize(device, method=method, matrix="phase-stepping")


def test_a_recorded_device_gives_the_same_report(tmp_path):
    """Live, recorded and replayed reports are equal bit for bit, except for the date and the order of the frames.

    Catches: any information from the device that is not in its frames or data sheets.
    """
    live = run(bench(32, 200), "phase-stepping")
    with Recorder(bench(32, 200), tmp_path / "r.h5") as recorder:
        recorded = run(recorder, "phase-stepping")
    replayed = run(RecordedDevice(tmp_path / "r.h5"), "phase-stepping")
    for other in (recorded, replayed):
        a, b = (json.loads(json.dumps(one.to_dict())) for one in (live, other))
        for document in (a, b):
            document["provenance"].pop("date")
            document["provenance"]["matrix"].pop("date")
        order = b["provenance"].pop("frame_order", None)
        assert order == ("every frame shows its pattern" if other is replayed else None)
        assert a == b


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """The recording of a characterisation."""
    path = tmp_path_factory.mktemp("recording") / "r.h5"
    with Recorder(bench(32, 200), path) as recorder:
        characterize(recorder)
    return path


def test_other_frames_than_the_recorded_ones_are_an_error(recording):
    """It is not a verdict on the device. Catches: a replay that does not compare patterns."""
    with pytest.raises(WrongFile, match="differs from the request"):
        characterize(RecordedDevice(recording), vectors=32)


def test_recordings_of_version_1_0_0_are_judged(tmp_path, monkeypatch):
    """Half-ON patterns for reference pairs, and an exposure that differs by the rounding of single precision.

    Before: "the recording differs from the request" for both, although every frame was there. Catches: a fallback that
    hides that other vectors were shown.
    """
    path = tmp_path / "r.h5"
    with monkeypatch.context() as old, Recorder(bench(16, 64), path) as recorder:
        old.setattr(chapter, "projection_vectors", lambda p, n, seed: half_on(n, p.n_inputs, seed, VECTORS))
        then = characterize(recorder, method="reference-pairs", vectors=8)
    with h5py.File(path, "r+") as file:
        file["exposure_s"][...] *= 1.0 + 3e-7
    now = characterize(RecordedDevice(path), method="reference-pairs", vectors=8)
    assert now.provenance["projection_vectors"] == "8 vectors, half ON"
    assert [line.measured for line in now.lines] == pytest.approx([line.measured for line in then.lines], nan_ok=True)
    with pytest.raises(WrongFile, match=r"at frame \d+: inputs that differ is"):
        characterize(RecordedDevice(path), method="reference-pairs", vectors=8, seed=1)


def test_a_recording_without_uniform_light_has_no_camera_chapter(recording, tmp_path):
    """Catches: a photon transfer simulated from the data sheet and reported as measured."""
    path = tmp_path / "r.h5"
    shutil.copy(recording, path)
    with h5py.File(path, "r+") as file:
        del file["uniform"]
    report = characterize(RecordedDevice(path))
    assert "camera" not in {found.group for found in report.lines}
    assert report.provenance["camera_frames"] == 0
    assert {plot.group for plot in plots(report)} == {"speckle", "projection", "stability"}


def test_comparison_reports_degraded_lines(tmp_path, report):
    """Through files: a worse verdict is degraded, a changed value changed, the rest the same.

    Catches: verdicts compared as words, a device's change that is not named.
    """
    opu = bench(128, 600)
    darker = opu.replace(laser=dataclasses.replace(opu.laser, power_w=0.004), exposure_s=opu.exposure_s)
    worse = characterize(darker, truth=opu.effective_matrix(), matrix=estimate_of(opu))
    files = [found.to_json(tmp_path / name) for found, name in ((report, "a.json"), (worse, "b.json"))]
    found = compare(*files)
    assert "projection" in {change.group for change in found.degraded}
    assert ("laser.power_w", "0.1", "0.004") in found.device
    assert not compare(files[0], files[0]).rows()
    assert not compare(files[1], files[0]).degraded
    again = Report.from_json(files[0])
    assert again.to_dict() == report.to_dict()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"lines": [1], "device": {}, "provenance": {}, "curves": {}}'])
def test_files_that_are_not_reports_are_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match="path must be a") as stop:
        compare(tmp_path / "x.json", tmp_path / "x.json")
    assert "\n" not in str(stop.value)


def test_reports_of_earlier_versions_are_read(tmp_path, report):
    """Without counts, exposures and newer curves: the page is drawn, and lines on the medium are judged as today.

    Catches: a KeyError, an old failure of the medium that shows as an improvement.
    """
    document = json.loads(json.dumps(report.to_dict()))
    for name in ("counts", "medium"):
        del document[name]
    del document["provenance"]["exposures_s"], document["curves"]["row_map"]
    for name in ("snr", "deviation"):
        del document["curves"]["photon_transfer"][name]
    moment = next(entry for entry in document["lines"] if entry["name"] == "fourth moment")
    moment |= {"measured": 10.0 * moment["expected"], "verdict": "failed"}
    (tmp_path / "old.json").write_text(json.dumps(document))
    old = Report.from_json(tmp_path / "old.json")
    assert old.medium == "not Gaussian: fourth moment"
    assert old.html().count("<figure") == report.html().count("<figure") - 3
    assert [row[-1] for row in compare(old, report).rows()] == ["changed"]


def test_the_page_gives_counts_rule_exposures_and_refused_rows(report):
    """Also the vectors shown, and the reference arm if it was used.

    Catches: an interval that is wider than the stated limit without a word, a chapter without its exposure.
    """
    page = html.unescape(report.html())
    assert f"Overall: {report.summary}. The medium: Gaussian." in page
    assert "or within 3 standard errors (3 s.e.) if that is more" in page
    wider = [line for line in report.lines if line.allowed > line.limit]
    assert page.count("(3 s.e.)</td>") == len(wider) > 0
    assert page.count("Exposure: ") == len(report.provenance["exposures_s"]) - ("matrix" not in page) >= 5
    assert "Rows of the matrix in the sensor's layout" in page
    assert "Shown: 64 vectors, half ON." in page
    by_reference = dataclasses.replace(report, provenance={**report.provenance, "projection": "off-axis"})
    assert "reference arm" in by_reference.html() and "reference arm" not in page
    assert report.curves["row_map"] == {"state": [0] * 600, "shape": [24, 25]}


def test_gauge_is_stated(report):
    """Of the projection and of the matrix, in JSON and on the page. Catches: a report that leaves it out."""
    about, page = report.to_dict()["provenance"], html.unescape(report.html())
    assert about["matrix"]["gauge"]["sentence"] == "each row is multiplied by an unknown phase"
    for gauge in (about["matrix"]["gauge"]["sentence"], about["projection_gauge"]):
        assert gauge in page
    assert "phase undetermined, conjugation fixed, scale fixed" in page


def test_bad_arguments():
    opu = bench(32, 100)
    for arguments, message in (
        ({"method": "magic"}, "method must be one of"),
        ({"matrix": "magic"}, "matrix must be an estimate or one of"),
        ({"matrix": np.ones((100, 32))}, "matrix must be an estimate of 100 rows"),
        ({"seed": -1}, "seed must be"),
    ):
        with pytest.raises(ValueError, match=message):
            characterize(opu, **arguments)
    with pytest.raises(ValueError, match="opu must be an OPU or a recorded device"):
        characterize("bench")
