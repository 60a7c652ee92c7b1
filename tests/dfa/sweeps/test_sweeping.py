"""Sweeps: reproducible results, no point computed twice, no point lost."""

import sqlite3
from types import SimpleNamespace

import numpy as np
import pytest
import xarray

from benchmarks.sweeps import Logged
from dfa import sweep
from dfa.robustness import Grid, LatinHypercube, OneAtATime, Random, Range
from dfa.sweeps.labelled import labels
from dfa.sweeps.protocol import Outcome
from dfa.sweeps.store import Job, Store

POINTS = {"x": [1, 7, 9], "y": [0.5, 1.5]}


def run(over=POINTS, log="", **more):
    return sweep(
        Logged(str(log), 0.0), over, seeds=more.pop("seeds", (0, 1)), **{"workers": 0, "progress": False} | more
    )


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def test_a_grid_is_labelled_and_a_failed_point_has_its_error():
    """Catches: values along the wrong dimension, an error that stops the others, a failure that looks like a number."""
    found = run()
    assert dict(found.sizes) == {"x": 3, "y": 2, "seed": 2}
    assert float(found.value.sel(x=9, y=1.5, seed=1)) == 10**0.5 / 4
    assert np.isnan(found.value.sel(x=7)).all()
    assert (found.error.sel(x=7) == "ArithmeticError: seven").all()
    assert (found.error.sel(x=[1, 9]) == "").all()
    assert found.value.attrs["units"] == "1"


def test_results_survive_a_file(tmp_path):
    """Catches: labels or attributes that netCDF cannot store."""
    found = run({"x": [1, 2], "y": [True, None, "low", (1, 2)]})
    assert found.y.values.tolist() == ["true", "none", "low", "[1, 2]"]
    found.to_netcdf(tmp_path / "x.nc", engine="h5netcdf")
    with xarray.open_dataset(tmp_path / "x.nc", engine="h5netcdf") as again:
        xarray.testing.assert_identical(again.load(), found)


def test_stored_points_are_not_computed_again(tmp_path):
    """Catches: a key that depends on the design, a failed point that is tried again without `retry_failed`."""
    log, store = tmp_path / "log", tmp_path / "new" / "x.db"
    first = run(log=log, store=store)
    assert len(lines(log)) == 12
    assert run(log=log, store=store).identical(first)
    larger = run(POINTS | {"x": [1, 7, 9, 11]}, log, store=store)
    assert len(lines(log)) == 12 + 4
    assert larger.sel(x=[1, 7, 9]).value.equals(first.value)
    run(log=log, store=store, retry_failed=True)
    assert len(lines(log)) == 12 + 4 + 4
    with Store(store) as rows:
        assert rows.rows.execute("SELECT DISTINCT attempts FROM points WHERE error != ''").fetchall() == [(2,)]
        assert "ArithmeticError" in rows.rows.execute("SELECT traceback FROM points WHERE error != ''").fetchone()[0]


@pytest.mark.parametrize(
    ("over", "more", "match"),
    [
        ({"z": [1]}, {}, "x and y are the parameters, got z"),
        ({"x": []}, {}, "x must have one value or more"),
        ({"x": "abc"}, {}, "x must be a list"),
        ({"x": [1, 1.0]}, {}, "x must have different values"),
        ({"seed": [1]}, {}, "dotted name"),
        ({"x": [float("nan")]}, {}, "finite"),
        ({"x": [1]}, {"seeds": (1, 1)}, "seeds must be"),
        ({"x": [1]}, {"seeds": ()}, "seeds must be"),
        ({"x": [1]}, {"seeds": range(10**11)}, "seeds must be 1000000 or less, got more"),
        ({"x": [1]}, {"workers": -1}, "workers must be"),
        (3, {}, "over must map"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(tmp_path, over, more, match):
    with pytest.raises(ValueError, match=match):
        run(over, tmp_path / "log", **more)
    assert not lines(tmp_path / "log")


@pytest.mark.parametrize("study", [5, None, Logged, lambda settings, seed: {}])
def test_other_objects_are_refused_as_a_study(study):
    """Catches: an AttributeError; a class instead of an object."""
    with pytest.raises(ValueError, match="study must be an object with check, run, describe and units, got"):
        sweep(study, {"x": [1]}, workers=0, progress=False)


def damaged(path):
    run(store=path)
    content = bytearray(path.read_bytes())
    content[4096:12288] = b"\x55" * 8192
    path.write_bytes(content)


def foreign(path):
    with sqlite3.connect(path) as rows:
        rows.execute("CREATE TABLE t (x)")
    rows.close()


def later(path):
    run(store=path)
    with sqlite3.connect(path) as rows:
        rows.execute("PRAGMA user_version = 99")
    rows.close()


@pytest.mark.parametrize("spoil", [damaged, foreign, later, lambda path: path.write_text("no database" * 99)])
def test_other_files_are_refused_as_a_store_and_not_changed(tmp_path, spoil):
    path = tmp_path / "x.db"
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="store must be"):
        run(store=path)
    assert path.read_bytes() == before


def test_a_flipped_bit_in_a_store_is_never_used(tmp_path):
    """One bit of 150 bytes of the file, in turn: refused in one line that names the file, or the same results.

    Catches: a digit of a stored metric that differs, an error that becomes a result.
    """
    path = tmp_path / "x.db"
    whole, refused = run(store=path), 0
    content = path.read_bytes()
    places = np.random.default_rng(0).choice(np.flatnonzero(np.frombuffer(content, np.uint8)), 150, replace=False)
    for place in places:
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        try:
            found = run(store=path)
        except ValueError as error:
            refused += 1
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            assert found.equals(whole), place
    assert refused > 100


def test_a_full_disk_keeps_earlier_points(tmp_path):
    """SQLite refuses the ninth page. Catches: a traceback; points that are lost; a row without a checksum."""
    path = tmp_path / "x.db"
    with Store(path) as rows:
        rows.rows.execute("PRAGMA journal_mode = DELETE")
    limited = sqlite3.connect

    def connect(*args, **kwargs):
        rows = limited(*args, **kwargs)
        rows.execute("PRAGMA max_page_count = 9")
        return rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", connect)
        with pytest.raises(OSError, match=r"x\.db cannot be written .*make room and run the same sweep again"):
            run({"x": list(range(10, 60)), "y": [0.5]}, store=path)
    log = tmp_path / "log"
    run({"x": list(range(10, 60)), "y": [0.5]}, log, store=path)
    assert 0 < len(lines(log)) < 100


def test_a_store_that_is_deleted_ends_the_sweep(tmp_path):
    """Catches: later points that are written to a file without a name."""
    with Store(tmp_path / "x.db") as rows:
        (tmp_path / "x.db").unlink()
        with pytest.raises(OSError, match=r"x.db was deleted during the sweep: .* run the same sweep again"):
            rows.put(1, Job("k", {}, 0), Outcome(metrics={}))


def test_two_sweeps_cannot_use_one_store(tmp_path):
    """Catches: two sweeps that compute the same points."""
    with (
        Store(tmp_path / "x.db"),
        pytest.raises(ValueError, match="another sweep is using, or whose folder has no locks: wait for it, or name"),
    ):
        run(store=tmp_path / "x.db")
    run(store=tmp_path / "x.db")


def test_designs(tmp_path):
    """A Latin hypercube has each stratum once; a seed fixes the points; integers are equally likely with both ends."""
    cube = LatinHypercube({"x": Range(1, 100, log=True), "y": [1, 2, 3, 4]}, count=40, seed=3)
    logs = np.log([point["x"] for point in cube.settings]) / np.log(100)
    assert sorted((logs * 40).astype(int)) == list(range(40))
    assert np.unique([point["y"] for point in cube.settings], return_counts=True)[1].tolist() == [10] * 4
    drawn = Random({"x": Range(1, 4, integer=True)}, count=4000, seed=1)
    assert drawn.settings == Random({"x": Range(1, 4, integer=True)}, count=4000, seed=1).settings
    counts = np.unique([point["x"] for point in drawn.settings], return_counts=True)[1]
    assert np.abs(counts - 1000).max() < 5 * (4000 * 3 / 16) ** 0.5  # five deviations of a binomial
    base = run(OneAtATime({"x": [1, 9], "y": [0.5]}, base={"x": 2, "y": 1.5}))
    assert base.varied.values.tolist() == ["", "x", "x", "y"]
    assert base.x.values.tolist() == [2, 1, 9, 2]
    assert dict(run([{"x": 1, "y": 2}, {"x": 2, "y": 1}]).sizes) == {"point": 2, "seed": 2}
    assert Grid({}).settings == [{}]


@pytest.mark.parametrize("kind", [int, float])
def test_numbers_with_a_missing_value_remain_numbers(kind):
    """The base of `OneAtATime` sets no parameter. Catches: whole numbers that become strings."""
    values = labels([None, kind(1), kind(100)])
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, [np.nan, 1.0, 100.0])
    assert labels([None, None]).tolist() == ["none", "none"]


def test_a_slow_disk_is_waited_for_a_tenth_of_the_time(tmp_path, monkeypatch):
    """Catches: a sweep that waits for a slow folder at every point; long points that a loss of power would cost."""
    now, waits = [100.0], list[bool]()

    def trace(statement):
        if statement.startswith("PRAGMA synchronous"):
            waits.append("FULL" in statement)
        elif statement == "COMMIT" and waits[-1]:
            now[0] += 2.0

    monkeypatch.setattr("dfa.sweeps.store.time", SimpleNamespace(monotonic=lambda: now[0]))
    with Store(tmp_path / "x.db") as store:
        store.rows.set_trace_callback(trace)
        number = store.study("", "")
        for count, seconds in ((1000, 0.1), (3, 20.0)):
            for k in range(count):
                now[0] += seconds
                store.put(number, Job(f"{seconds} {k}", {}, k), Outcome(metrics={}))
    assert 5 <= sum(waits[:1000]) <= 7  # 100 s of points: 2 s in each 20 s
    assert all(waits[1000:])
