"""Results on disk are the runs: what is read back gives the same table and the same figures."""

import json

import pytest

from dfa.data import digits
from dfa.experiments import Plan, compare_methods, read_results, summary
from dfa.feedback.encoding import Ternary


def test_what_is_read_is_what_was_written(tmp_path):
    """Every field, records and numbers that were not measured included. Catches: a field left out, NaN read as None."""
    plan = Plan(
        hidden=(8, 8), epochs=2, samples=64, encoder=Ternary(threshold=0.1), device_changes={"exposure_s": 2e-4}
    )
    runs = compare_methods(plan, digits(), ["bp", "optical"], [0, 1], tmp_path, progress=False)
    again, found = read_results(tmp_path / "results.json")
    assert again == plan
    assert repr(found) == repr(runs)  # NaN equals NaN there
    assert summary(again, found) == summary(plan, runs)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"plan": {"hidden": [3]}}))
    (tmp_path / "b.json").write_text("{")
    for name, message in (("a.json", "must hold the results"), ("b.json", "must hold the results"), ("c", "readable")):
        with pytest.raises(ValueError, match=message):
            read_results(tmp_path / name)
