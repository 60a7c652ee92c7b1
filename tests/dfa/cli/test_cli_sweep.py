"""``opu sweep`` and ``opu report``: study files, the files of a finished sweep, and their reconstruction."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray

from dfa.cli.main import main
from dfa.robustness.results import failures, load_results, page, table, write_results
from dfa.robustness.study_files import read_study
from dfa.sweeps.designs import OneAtATime

EXAMPLES = Path(__file__).parents[3] / "examples"
PLAN = '[plan]\ndata = "digits"\nhidden = 16\nepochs = 1\nsamples = 128\n'
OVER = '[over]\n"camera.read_noise_e" = [0.0, 1e4]\n"dmd.contrast" = ["none"]\n'


def written(tmp_path, text, name="study.toml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def opu(*arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code or 0


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_example_is_a_study(path):
    """Catches: an example with outdated names."""
    ready, seeds = read_study(path)
    assert len(ready.design.settings) > 3
    assert seeds


def test_a_byte_order_mark_is_read_over(tmp_path):
    """Editors of Windows write one. Catches: "Invalid statement (at line 1, column 1)"."""
    assert read_study(written(tmp_path, '\ufeffstudy = "read_noise"\nseeds = 4\n'))[1] == [0, 1, 2, 3]


def test_a_name_stands_for_a_file():
    ready, seeds = read_study("read_noise")
    assert ready.view.x == "camera.read_noise_e"
    assert seeds == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds = 1\n", "a study file must have one of the entries study and over, got seeds"),
        ('study = "magic"\n', "study must be one of shot_noise"),
        ('study = "read_noise"\n[over]\nx = [1]\n', "a study file must have one of the entries study and over"),
        ('study = "read_noise"\nsedes = 3\n', "sedes is not a parameter"),
        ('study = "read_noise"\n[options]\nvalue = [1]\n', "options of read_noise must be among values, got 'value'"),
        ('study = "two_parameters"\n', "options of two_parameters must be complete"),
        ('study = "two_parameters"\n[options]\nfirst = "rin"\nsecond = "magic"\n', "flaw must be one of"),
        ("[over]\n", "over must have at least 1 item, not 0, got {}"),
        ("seeds = 0\n" + OVER, "seeds must be a number of seeds, 1 to 1000000, or a list of them, got 0"),
        ("seeds = 100000000000\n" + OVER, "seeds must be a number of seeds, 1 to 1000000, or a list of them, got 1000"),
        ("x = " + 3000 * "[" + 3000 * "]", "tables and lists must not be nested this deeply"),
        ('references = ["magic"]\n' + OVER, "method must be one of"),
        (
            'design = "square"\n' + OVER,
            "design must be 'grid', 'one-at-a-time', 'latin-hypercube' or 'random', got 'square'",
        ),
        ("count = 3\n" + OVER, "count must be given for the designs latin-hypercube and random"),
        ('design = "random"\ncount = 3\n[over]\nx = { low = 1 }\n', "x must have low and high"),
        ('[over]\n"camera.red_noise" = [1.0]\n', "red_noise is not a parameter of Camera"),
        ("[plan]\nepoch = 3\n" + OVER, "epoch is not a parameter"),
        ("[plan.encoder]\nlimit = 3\n" + OVER, "plan.encoder must be a table of threshold"),
        ("[plan]\nencoder = 3\n" + OVER, "plan.encoder must be a table of threshold"),
        ("over = 3\n", "over must be a valid dictionary, got 3"),
        ("[over\n", "study.toml: "),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path, capsys, text, message):
    """Catches: an entry that is ignored; a traceback; a folder without a sweep."""
    assert opu("sweep", written(tmp_path, text), "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_file_sets_design_and_figure(tmp_path):
    """Catches: a range taken as choices; a figure that does not fit the design."""
    drawn = 'design = "latin-hypercube"\ncount = 5\n[over]\n"camera.read_noise_e" = { low = 1, high = 9, log = true }\n'
    ready, _ = read_study(written(tmp_path, drawn))
    values = sorted(point["camera.read_noise_e"] for point in ready.design.settings)
    assert np.all(np.floor(np.log(values) / np.log(9.0) * 5) == range(5))
    assert ready.view.kind == "scatter"
    two = read_study(written(tmp_path, OVER.replace('"none"', '"none", 10.0')))[0]
    assert two.view.kind == "map"
    assert two.design.settings[:2] == [
        {"camera.read_noise_e": 0.0, "dmd.contrast": None},
        {"camera.read_noise_e": 0.0, "dmd.contrast": 10.0},
    ]
    assert read_study(written(tmp_path, '[over]\n"training.method" = ["bp"]\n'))[0].view.kind == "curve"
    one = read_study(written(tmp_path, 'design = "one-at-a-time"\n' + OVER))[0]
    assert one.view.kind == "budget"
    assert one.view.bench["camera.read_noise_e"] == 2.5
    bare = read_study(written(tmp_path, drawn.replace('"camera.read_noise_e"', "camera.read_noise_e")))[0]
    assert bare.design.settings == ready.design.settings  # a name without quotes, which is a table in TOML


def test_a_sweep_writes_its_folder_and_resumes_from_it(tmp_path, capsys):
    """Catches: a page with external resources, a failure that is not shown, a resumed sweep that repeats points."""
    study = written(tmp_path, 'title = "Noise & light"\nseeds = 1\nreferences = []\n' + OVER + PLAN)
    out = tmp_path / "out"
    assert opu("sweep", study, "--out", out, "--workers", 0, "--quiet") == 0
    assert {path.name for path in out.iterdir()} >= {
        "points.db",
        "results.nc",
        "figure.png",
        "report.html",
        "study.toml",
    }
    output = (out / "report.html").read_text(encoding="utf-8")
    assert "Noise &amp; light" in output
    assert "laser.power_w must be lower" in output
    assert not re.search(r"""(src|href)=["']?(http|//)|url\(["']?http|@import""", output)
    found = load_results(out)
    assert dict(found.sizes) == {"camera.read_noise_e": 2, "dmd.contrast": 1, "seed": 1}
    first = found.attrs["measured"]
    assert opu("sweep", study, "--out", out, "--workers", 0, "--quiet") == 2
    capsys.readouterr()
    assert opu("sweep", study, "--out", out, "--workers", 0, "--quiet", "--resume", "--json") == 0
    printed = json.loads(capsys.readouterr().out)["dataset"]
    assert printed["coords"]["camera.read_noise_e"]["data"] == [0.0, 1e4]
    assert len(printed["data_vars"]["accuracy"]["data"]) == 2
    assert load_results(out).attrs["measured"] == first
    (out / "figure.png").unlink()
    assert opu("report", out) == 0
    assert (out / "figure.png").exists()
    again = max(out.glob("report-*.html")).read_text(encoding="utf-8")
    assert again == output == page(found)
    assert "report-3.html" in capsys.readouterr().out


def test_a_sweep_without_results_shows_its_errors(tmp_path, capsys):
    """The page lists every failure, the message quotes the first. Catches: a sweep that fails without a reason."""
    text = "seeds = 1\n" + OVER.replace("0.0, 1e4", "1e4, 2e4") + PLAN
    out = tmp_path / "out"
    assert opu("sweep", written(tmp_path, text), "--out", out, "--workers", 0, "--quiet") == 2
    output = capsys.readouterr()
    assert "did not fail, got none; first error: ValueError: " in output.err
    assert output.err.count("\n") == 1
    assert opu("report", out) == 2
    again = capsys.readouterr()
    assert again.err == output.err
    for line, name in ((output.out, "report.html"), (again.out, "report-2.html")):
        assert line.strip().replace("\n", "").endswith(name)
        page = (out / name).read_text(encoding="utf-8")
        assert "Points that failed" in page
        assert page.count("ValueError: ") == 2
    assert not (out / "figure.png").exists()


def test_results_are_not_replaced_by_another_study(tmp_path, capsys):
    """A comment does not make another study. The file in the folder may be edited and continued.

    Catches: results.nc of one study that another study replaces.
    """
    study = written(tmp_path, "seeds = 1\nreferences = []\n" + OVER + PLAN)
    out = tmp_path / "out"
    rest = ("--out", out, "--workers", 0, "--quiet", "--resume")
    assert opu("sweep", study, *rest[:-1]) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    written(tmp_path, "seeds = 2\nreferences = []\n" + OVER + PLAN)
    assert opu("sweep", study, *rest) == 2
    assert f"study must be the one in {out / 'study.toml'} to resume it, got another" in capsys.readouterr().err
    assert opu("sweep", "read_noise", *rest) == 2
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    written(tmp_path, "# a word\nseeds = 1\nreferences = []\n" + OVER + PLAN)
    assert opu("sweep", study, *rest) == 0
    written(out, "seeds = 2\nreferences = []\n" + OVER + PLAN)
    assert opu("sweep", out / "study.toml", *rest) == 0
    assert load_results(out).sizes["seed"] == 2


def test_a_row_names_the_change():
    """Catches: a column for each parameter, all but one of them empty."""
    from tests.dfa.robustness.test_studies import found

    design = OneAtATime({"noise": [1.0, 99.0], "wide": [5.0]})
    one = found(design, kind="budget", without={"point": 0}, bench={"noise": 0.0})
    rows = table(one, brief=True)
    assert rows.columns == ["change", "accuracy", "difference", "clear", "failed"]
    assert [row[0] for row in rows.rows] == ["nothing", "noise: 0 → 1 e-", "noise: 0 → 99 e-", "wide: 5"]
    assert [row[2:] for row in rows.rows[1:3]] == [["-1.10 ± 0.06", "yes", ""], ["–", "no", "3"]]
    assert rows.rows[3][2] == "3.00 ± 0.00"
    assert failures(one)[0] == ["noise 99", "0", "ArithmeticError: too much"]


def test_a_folder_without_results_is_refused(tmp_path, capsys):
    """Catches: a traceback for a folder of something else, or a damaged file."""
    assert opu("report", tmp_path) == 2
    assert "must contain results.nc of a finished sweep" in capsys.readouterr().err
    (tmp_path / "results.nc").write_bytes(b"no data")
    assert opu("report", tmp_path) == 2
    assert "must contain complete results" in capsys.readouterr().err
    xarray.Dataset({"x": 1}).to_netcdf(tmp_path / "results.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match="without a view"):
        load_results(tmp_path)
    assert opu("sweep", "read_noise", "--resume") == 2


@pytest.mark.parametrize("package", ["h5netcdf", "xarray"])
def test_missing_packages_are_reported_before_anything_runs(tmp_path, capfd, monkeypatch, package):
    """Catches: a sweep that computes everything and then cannot write it."""
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("dfa.sweeps.sweeping.outcomes", lambda *_: pytest.fail("points are computed"))
    study = written(tmp_path, PLAN + OVER)
    assert opu("sweep", study, "--out", tmp_path / "r", "--workers", 0, "--quiet") == 2
    error = capfd.readouterr().err
    assert error.startswith(f"opu: {package} is not installed: pip install -e ") and error.endswith('[cluster]"\n')
    assert not list(tmp_path.glob("r/points.db"))


def test_a_full_disk_keeps_the_earlier_results(tmp_path, monkeypatch):
    """Catches: results that are written without room, which HDF5 may not survive, or over those of before."""
    found = xarray.Dataset({"accuracy": ("seed", np.arange(3.0))})
    kept = write_results(found, tmp_path).read_bytes()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 10, 10))
    with pytest.raises(ValueError, match=r"No space left on device.*nothing was replaced"):
        write_results(found + 1.0, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["results.nc"]
    assert (tmp_path / "results.nc").read_bytes() == kept
