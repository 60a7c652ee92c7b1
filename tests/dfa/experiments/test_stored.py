"""Results on disk: the file gives the same runs and the same table."""

import json

import pytest

from dfa.data import digits
from dfa.experiments import Plan, compare_methods, read_results, summary
from dfa.feedback.encoding import Ternary


def test_results_survive_writing_and_reading(tmp_path):
    """Every field, with records and missing values. Catches: a field that is left out, NaN that becomes None."""
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
