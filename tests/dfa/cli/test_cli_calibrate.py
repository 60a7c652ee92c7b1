"""``opu calibrate``: the recovered matrix is kept, a killed run goes on, options and the truth are asked for."""

import json

import numpy as np
import pytest

from calibration import TransmissionEstimate
from calibration.reports.report import Report
from calibration.storage.journal import Journal
from dfa.cli.main import main
from tests.dfa.cli.test_cli import BENCH, opu

SMALL = ["--n-in", "32", "--n-out", "150", "--method", "phase-stepping", "--quiet"]


def document(folder, name="report.json"):
    """A report without what differs from run to run: dates."""
    found = json.loads((folder / name).read_text())
    found["provenance"].pop("date")
    found["provenance"].get("matrix", {}).pop("date", None)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that nobody killed."""
    folder = tmp_path_factory.mktemp("calibrate") / "whole"
    with pytest.raises(SystemExit) as stop:
        main(["calibrate", *SMALL, "--option", "steps=3", "--out", str(folder)])
    assert not stop.value.code
    return folder


@pytest.fixture
def no_pages(monkeypatch):
    """Pages take longer than the measurement."""
    for write in ("to_html", "to_pdf"):
        monkeypatch.setattr(Report, write, lambda *_: None)


def test_the_matrix_is_kept_with_its_provenance(whole):
    """Catches: a report on a matrix that nobody can use afterwards, options not handed on, frames left behind."""
    assert {path.name for path in whole.iterdir()} == {"matrix.h5", "report.html", "report.json", "report.pdf"}
    estimate = TransmissionEstimate.load(whole / "matrix.h5")
    report = document(whole)
    assert estimate.provenance["options"]["steps"] == 3
    assert estimate.frames == report["provenance"]["matrix"]["frames"] >= 8 + 3 * 33
    assert estimate.provenance["device"] | {"exposure_s": 0} == report["device"] | {"exposure_s": 0}
    assert {"date", "version", "exposure_s", "start_frame"} <= set(estimate.provenance)


def test_a_killed_calibration_goes_on_to_the_same_bits(capfd, tmp_path, monkeypatch, whole, no_pages):
    """Stopped in the middle of the recovery, then resumed: the matrix and the report of an unbroken run; recorded, too.

    A third call finds the matrix done and writes its report beside the other one. Catches: an exposure that is found
    anew in each part, a matrix that is measured twice, a report that is overwritten.
    """
    common = ["calibrate", *SMALL, "--option", "steps=3", "--out", str(tmp_path / "r")]
    append, record = Journal.append, ["--record", str(tmp_path / "r.h5")]

    def killed(journal, arrays):
        recovery = "patterns" not in arrays and "frames" in arrays
        done = recovery and len(journal.arrays["frames"])
        append(journal, {"frames": arrays["frames"][:5]} if done else arrays)
        if done:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", killed)
        assert opu(capfd, *common, *record)[0] == 130
    assert (tmp_path / "r.h5.part").exists()
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["matrix.h5.part"]
    code, _, err = opu(capfd, *common)
    assert (code, err.count("\n")) == (2, 1)
    assert "out must be a new or an empty folder" in err
    code, _, err = opu(capfd, *[arg.replace("steps=3", "steps=4") for arg in common], "--resume")
    assert code == 2
    assert "whose options.steps is 3, not 4" in err
    for name, more in (("report.json", record), ("report-2.json", [])):
        code, _, err = opu(capfd, *common, *more, "--resume")
        assert code == 0, err
        assert document(tmp_path / "r", name) == document(whole)
    matrices = [TransmissionEstimate.load(folder / "matrix.h5").matrix for folder in (tmp_path / "r", whole)]
    np.testing.assert_array_equal(*matrices)
    arguments = [*SMALL[4:], "--option", "steps=3", "--recorded", str(tmp_path / "r.h5"), "--out", str(tmp_path / "s")]
    code, _, err = opu(capfd, "calibrate", *arguments)
    assert code == 0, err
    assert document(tmp_path / "s")["lines"] == document(whole)["lines"]


def test_the_truth_is_asked_for(capfd, tmp_path, monkeypatch, whole):
    """Without --truth no line knows it, and the page says so. Catches: a truth passed silently."""
    assert document(whole)["provenance"]["truth"] == "not used"
    page = (whole / "report.html").read_text()
    assert "no true matrix was used" in page
    assert "correlation with the truth" not in page
    with monkeypatch.context() as patch:
        patch.setattr(Report, "to_pdf", lambda *_: None)
        code, _, err = opu(capfd, "calibrate", *SMALL[:4], "--truth", "--out", str(tmp_path / "r"))
    assert code == 0, err
    assert document(tmp_path / "r")["provenance"]["truth"].startswith("used")
    assert "the simulated device&#39;s matrix was used" in (tmp_path / "r" / "report.html").read_text()


def test_exposures(capfd, tmp_path, no_pages):
    """A TOML file's is kept for plain patterns, or for all, or none. Catches: a device that is silently autoexposed."""
    (tmp_path / "bench.toml").write_text(BENCH.replace("n_in = 64", "n_in = 32"))
    found = {}
    for name in ("methods", "keep", "auto"):
        arguments = ["--device", str(tmp_path / "bench.toml"), "--method", "phase-retrieval", "--exposure", name]
        code, _, err = opu(capfd, "calibrate", *arguments, "--quiet", "--out", str(tmp_path / name))
        assert code == 0, err
        used = TransmissionEstimate.load(tmp_path / name / "matrix.h5").provenance["exposure_s"]
        found[name] = document(tmp_path / name)["provenance"]["exposure_s"], used
    assert found["methods"][0] == 4e-4 != found["methods"][1]
    assert found["keep"] == (4e-4, 4e-4)
    assert found["auto"][0] != 4e-4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--option", "steps=3"], "option must be with a method that recovers"),
        ([*SMALL, "--option", "steps"], "option must be NAME=VALUE"),
        ([*SMALL, "--option", "out=3"], "option must be NAME=VALUE"),
        ([*SMALL, "--option", "steps=many"], "option steps must be a number"),
        ([*SMALL, "--option", "steps=2"], "steps must be greater than or equal to 3"),
        ([*SMALL, "--option", "anchors=8"], "anchors is not an option of phase-stepping"),
        (["--method", "numerical-interferometry", "--option", "steps=3"], "steps is not an option of numerical"),
        ([*SMALL, "--exposure", "dark"], "exposure"),
        ([*SMALL, "--resume"], "out must be the folder of the run to resume"),
        (["--truth", "--recorded", "x.h5"], "truth must be left out for a recording"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(capfd, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = opu(capfd, "calibrate", *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert not list(tmp_path.iterdir())
