"""``opu calibrate``: report and matrix on disk, a killed run that is resumed, recordings, comparisons."""

import json

import numpy as np
import pytest

from calibration import Report, TransmissionEstimate
from calibration.storage.journal import Journal
from tests.command import BENCH, opu, refused

METHOD = ["--method", "phase-stepping", "--option", "steps=3", "--quiet"]
SMALL = ["--n-in", "32", "--n-out", "150", *METHOD]


def document(folder, name="report.json"):
    """A report without dates, which differ from run to run."""
    found = json.loads((folder / name).read_text())
    found["provenance"].pop("date")
    found["provenance"].get("matrix", {}).pop("date", None)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that was not interrupted."""
    folder = tmp_path_factory.mktemp("calibrate") / "whole"
    assert opu("calibrate", *SMALL, "--out", folder) == 0
    return folder


@pytest.fixture
def no_pages(monkeypatch):
    """Write report.json only: pages take longer than the measurement."""
    monkeypatch.setattr(Report, "to_html", lambda *_: None)


def test_report_and_matrix_are_written(whole):
    """Catches: a page without figures, ignored options, frames that are left on disk, a truth used silently."""
    assert {path.name for path in whole.iterdir()} == {"matrix.h5", "report.html", "report.json"}
    estimate = TransmissionEstimate.load(whole / "matrix.h5")
    report = document(whole)
    assert report["verdict"] == "pass"
    assert {line["group"] for line in report["lines"]} >= {"camera", "matrix", "focusing", "stability"}
    assert estimate.provenance["options"]["steps"] == 3
    assert estimate.frames == report["provenance"]["matrix"]["frames"] >= 8 + 3 * 33
    assert estimate.provenance["device"] | {"exposure_s": 0} == report["device"] | {"exposure_s": 0}
    assert {"date", "version", "exposure_s", "start_frame"} <= set(estimate.provenance)
    assert report["provenance"]["truth"] == "not used"
    page = (whole / "report.html").read_text()
    assert len(page) > 50_000
    assert "no true matrix was used" in page
    assert "correlation with the truth" not in page


def test_a_resumed_calibration_gives_the_same_bits(capfd, tmp_path, monkeypatch, whole, no_pages):
    """Stopped in the middle of the recovery, then resumed: the matrix and the report of an unbroken run; recorded, too.

    A third call finds the complete matrix and writes a second report. The recording gives the same report as the
    device. Catches: an exposure that is set again in each part, a matrix that is measured twice, a report that is
    overwritten.
    """
    folder, file = tmp_path / "r", tmp_path / "r.h5"
    common, record = ["calibrate", *SMALL, "--out", folder], ["--record", file]
    append = Journal.append

    def killed(journal, arrays):
        recovery = "patterns" not in arrays and "frames" in arrays
        done = recovery and len(journal.arrays["frames"])
        append(journal, {"frames": arrays["frames"][:5]} if done else arrays)
        if done:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", killed)
        assert opu(*common, *record) == 130
    assert f"stopped: {folder} keeps the results so far" in capfd.readouterr().err
    assert (tmp_path / "r.h5.part").exists()
    assert [path.name for path in folder.iterdir()] == ["matrix.h5.part"]
    assert "out must be a new or an empty folder" in refused(capfd, *common)
    four = [str(argument).replace("steps=3", "steps=4") for argument in common]
    assert "whose options.steps is 3, not 4" in refused(capfd, *four, "--resume")
    for name, more in (("report.json", record), ("report-2.json", [])):
        assert opu(*common, *more, "--resume") == 0
        assert document(folder, name) == document(whole)
    matrices = [TransmissionEstimate.load(path / "matrix.h5").matrix for path in (folder, whole)]
    np.testing.assert_array_equal(*matrices)
    assert opu("calibrate", *METHOD, "--recorded", file, "--out", tmp_path / "s") == 0
    assert document(tmp_path / "s")["lines"] == document(whole)["lines"]


def test_reports_are_compared(capfd, tmp_path, whole):
    """Exit code 0 for the same report, 1 for a line that degraded, 3 for one that failed.

    Catches: an exit code that is always 0.
    """
    report, worse = whole / "report.json", json.loads((whole / "report.json").read_text())
    assert opu("calibrate", "--compare", report, report) == 0
    line = next(line for line in worse["lines"] if line["verdict"] == "pass" and line["expected"] is not None)
    slightly = line["expected"] + 2.0 * max(line["limit"], 3.0 * line["uncertainty"])
    for measured, expected in ((slightly, 1), (1e3 * (1.0 + slightly), 3)):
        line["measured"] = measured
        (tmp_path / "worse.json").write_text(json.dumps(worse))
        capfd.readouterr()
        assert opu("calibrate", "--compare", report, tmp_path / "worse.json") == expected
        assert "1 degraded" in capfd.readouterr().out
    assert opu("calibrate", "--compare", report, tmp_path / "worse.json", "--json") == 3
    found = json.loads(capfd.readouterr().out)
    assert found["degraded"] == 1 and [change["quantity"] for change in found["changes"]] == [line["name"]]


def test_the_truth_is_used_only_on_request(tmp_path, monkeypatch):
    """Catches: a truth that is used without --truth, or that the page does not mention."""
    assert opu("calibrate", *SMALL[:4], "--truth", "--out", tmp_path / "r") == 0
    assert document(tmp_path / "r")["provenance"]["truth"].startswith("used")
    assert "the simulated device&#39;s matrix was used" in (tmp_path / "r" / "report.html").read_text()


def test_exposures(capfd, tmp_path, no_pages):
    """That of a TOML file is kept for plain patterns, for all frames, or for none. Catches: a silent autoexposure."""
    (tmp_path / "bench.toml").write_text(BENCH)
    found = {}
    for name in ("methods", "keep", "auto"):
        folder = tmp_path / name
        arguments = ["--device", tmp_path / "bench.toml", "--method", "phase-retrieval", "--exposure", name]
        assert opu("calibrate", *arguments, "--quiet", "--json", "--out", folder) == 0
        assert json.loads(capfd.readouterr().out)["verdict"] == document(folder)["verdict"]
        used = TransmissionEstimate.load(folder / "matrix.h5").provenance["exposure_s"]
        found[name] = document(folder)["provenance"]["exposure_s"], used
        assert document(folder)["device"]["camera"]["bit_depth"] == 10
    assert found["methods"][0] == 4e-4 != found["methods"][1]
    assert found["keep"] == (4e-4, 4e-4)
    assert found["auto"][0] != 4e-4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--option", "steps=3"], "option must be used with a method that recovers"),
        ([*SMALL, "--option", "steps"], "option must be NAME=VALUE"),
        ([*SMALL, "--option", "out=3"], "option must be NAME=VALUE"),
        ([*SMALL, "--option", "device=3"], "device is not an option of phase-stepping"),
        ([*SMALL, "--option", "steps=many"], "option steps must be a number"),
        ([*SMALL, "--option", "steps=2"], "steps must be greater than or equal to 3"),
        ([*SMALL, "--option", "anchors=8"], "anchors is not an option of phase-stepping"),
        (["--method", "numerical-interferometry", "--option", "steps=3"], "steps is not an option of numerical"),
        ([*SMALL, "--resume"], "out must be the folder of the run to resume"),
        (["--truth", "--recorded", "x.h5"], "truth must be left out for a recording"),
    ],
)
def test_bad_input_leaves_nothing(capfd, tmp_path, monkeypatch, arguments, message):
    """Catches: options that are not checked before the folder is created."""
    monkeypatch.chdir(tmp_path)
    assert message in refused(capfd, "calibrate", *arguments)
    assert not list(tmp_path.iterdir())
