"""Points in a worker: exceptions, odd values and metrics, settings that a study changes, a process that ends."""

import asyncio
import os
import sys
import warnings
from collections import Counter

import numpy as np
import pytest

from benchmarks.sweeps import Logged
from dfa import sweep
from dfa.sweeps import Random
from dfa.sweeps.store import Store


class Hidden:
    """Contains a function that is not part of a point's key."""

    def __init__(self, call):
        self.call = call


class Calls(Logged):
    """Calls a function at each point; the key does not depend on the function."""

    def __init__(self, call):
        super().__init__("", 0.0)
        self.hidden = Hidden(call)

    def run(self, settings, seed):
        return self.hidden.call(settings["x"])


def run(call=lambda x: {"value": 1.0}, over=None, **more):
    return sweep(Calls(call), over or {"x": [1]}, **{"workers": 0, "progress": False} | more)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.linspace(0, 1, 3), [0.0, 0.5, 1.0]),
        (np.arange(3), [0, 1, 2]),
        (np.float32([0.1, 0.2]), [float(np.float32(0.1)), float(np.float32(0.2))]),
        ([np.True_, False], ["true", "false"]),
        ([np.arange(2), (3,)], ["[0, 1]", "[3]"]),
        ([2**70, 1], [2.0**70, 1.0]),
    ],
)
def test_values_of_numpy_are_numbers(tmp_path, values, expected):
    """Catches: labels that are strings, values that cannot be stored."""
    found = run(over={"x": values}, store=tmp_path / "x.db")
    assert found.x.values.tolist() == expected
    python = [value.tolist() if hasattr(value, "tolist") else value for value in values]
    assert run(lambda x: 1 / 0, over={"x": python}, store=tmp_path / "x.db").equals(found)  # the same points
    assert run(over=Random({"x": values}, count=3)).sizes["point"] == 3


def raises(problem):
    def call(_):
        raise problem

    return call


class Mute(Exception):
    """An exception whose message cannot be read."""

    def __str__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda _: sys.exit(3), "SystemExit: 3"),
        (raises(asyncio.CancelledError("me")), "CancelledError: me"),
        (raises(Mute()), "Mute: (its message cannot be read)"),
        (raises(OSError("caf\udce9\nx")), "OSError: caf\\udce9 x"),
        (lambda _: 3, "ValueError: metrics must be a mapping"),
        (lambda _: {"x": 3}, "ValueError: a metric must have a name other than"),
        (lambda _: {"value": [1, 2]}, "ValueError: metrics must be numbers"),
        (lambda _: {"value": [0] * 10**6}, "ValueError: metrics must be numbers"),
        (lambda _: {f"m{i}": 1.0 for i in range(1001)}, "ValueError: metrics must be 1000 numbers or less, got 1001"),
        (raises(ValueError("long " * 10**6)), "ValueError: long"),
        (lambda _: warnings.simplefilter("error") or warnings.warn("odd", stacklevel=1), "UserWarning: odd"),
    ],
)
def test_every_exception_of_a_point_is_recorded(tmp_path, call, error):
    """Catches: a point that stops the others; an error of many megabytes; filters of warnings that stay."""
    filters = list(warnings.filters)
    found = run(call, store=tmp_path / "x.db")
    assert found.error.item().startswith(error)
    assert (tmp_path / "x.db").stat().st_size < 2e5
    assert warnings.filters == filters
    assert run(store=tmp_path / "x.db").equals(found)


@pytest.mark.parametrize("name", ["m/x", "", ".", "a\0b", "\udcff", "seed", 3])
def test_names_that_cannot_be_stored_are_refused(name):
    """Catches: a data set that cannot be written at the end; an attribute that is shortened in the file."""
    assert "a metric must have a name" in run(lambda x: {name: 1.0}).error.item()
    with pytest.raises(ValueError, match="a parameter must have a dotted name"):
        run(over={name: [1]})


def test_a_metric_named_like_the_parameter_of_another_point(tmp_path):
    """Catches: an error of xarray at the end, or for stored points."""
    store = tmp_path / "x.db"
    run(lambda x: {"y": 1.0}, over=[{"x": 1}], store=store)
    for kept in (None, store):
        with pytest.raises(ValueError, match="metrics must have other names than parameters, got y"):
            run(lambda x: {"y": 1.0}, over=[{"x": 1}, {"x": 2, "y": 3}], store=kept)


def test_nan_and_infinity_are_results():
    """Catches: a failure without an error; infinity that is not stored."""
    found = run(lambda x: {"value": {1: np.nan, 2: np.inf, 3: 1}[x]}, over={"x": [1, 2, 3]})
    np.testing.assert_array_equal(found.value.values[:, 0], [np.nan, np.inf, 1])
    assert (found.error == "").all()


def test_ctrl_c_keeps_finished_points(tmp_path):
    """Catches: an interruption that is recorded as an error, points lost, a store that stays locked."""

    def interrupted(x):
        if x == 3:
            raise KeyboardInterrupt
        return {"value": x}

    with pytest.raises(KeyboardInterrupt):
        run(interrupted, over={"x": [1, 2, 3]}, store=tmp_path / "x.db")
    again = run(lambda x: {"value": 10 * x}, over={"x": [1, 2, 3]}, store=tmp_path / "x.db")
    assert again.value.values[:, 0].tolist() == [1, 2, 30]


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"seeds": 3}, "seeds must be"),
        ({"seeds": [2**63]}, "seeds must be"),
        ({"over": {"x": [1j]}}, "finite numbers"),
        ({"over": {"x": [{1: 2}]}}, "finite numbers"),
    ],
)
def test_values_that_cannot_be_stored_are_refused_before_anything_runs(more, match):
    with pytest.raises(ValueError, match=match):
        run(raises(AssertionError("ran")), **more)


class Taking(Logged):
    """Removes the values that it reads from the settings and from their lists."""

    def check(self, settings):
        settings["x"].clear()

    def run(self, settings, seed):
        return {"value": settings["x"].pop() + settings.pop("y")}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_study_may_change_its_settings(cluster, tmp_path, monkeypatch, workers):
    """Catches: seeds that share one dict; settings that are stored or checked after the study changed them."""
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster[0])
    more = {"seeds": (0, 1), "workers": workers, "progress": False}
    found = sweep(Taking("", 0.0), {"x": [[1], [2]], "y": [10.0]}, store=tmp_path / "x.db", **more)
    assert found.value.values[:, 0].tolist() == [[11, 11], [12, 12]]
    with Store(tmp_path / "x.db") as rows:
        stored = rows.rows.execute("SELECT settings FROM points").fetchall()
    assert {settings for (settings,) in stored} == {'{"x": [1], "y": 10.0}', '{"x": [2], "y": 10.0}'}


class Deadly(Logged):
    """Ends its process at one point."""

    def run(self, settings, seed):
        found = super().run(settings, seed)
        if settings["x"] == 3:
            os._exit(1)
        return found


def test_a_point_that_kills_its_worker_is_recorded_alone(tmp_path):
    """It is tried twice, and each of the others once.

    Catches: other points recorded as failed, or computed again after they had ended; a sweep that never ends.
    """
    log = tmp_path / "log"
    found = sweep(Deadly(str(log), 0.05), {"x": [1, 2, 3, 4, 5, 6]}, workers=2, progress=False)
    errors = found.error.values[:, 0].tolist()
    assert [bool(error) for error in errors] == [False, False, True, False, False, False]
    assert errors[2].startswith("WorkerDied")
    runs = Counter(line.split()[1] for line in log.read_text().splitlines())
    assert runs == {"1,0": 1, "2,0": 1, "3,0": 2, "4,0": 1, "5,0": 1, "6,0": 1}
