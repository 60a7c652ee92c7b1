"""Descriptions of measurements are compared by name and value."""

from pathlib import Path

import pytest

from calibration.storage.descriptions import check_same, flatten
from calibration.storage.files import WrongFile

HEADER = {"method": "m", "device": {"seed": 3, "camera": {"bit_depth": 8}}, "start_frame": 17}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"method": "other"}, "whose method is 'm', not 'other': take another out, or remove the file"),
        ({"device": {"seed": 3, "camera": {"bit_depth": 10}}}, "whose device.camera.bit_depth is 8, not 10"),
        ({"device": {"camera": {"bit_depth": 8}}}, "whose device.seed is 3, not 'absent'"),
        ({"steps": 4}, "whose steps is 'absent', not 4"),
    ],
)
def test_another_measurement_is_refused(changed, message):
    """Catches: comparing the names that the file has, only."""
    path = Path("run.part")
    with pytest.raises(WrongFile, match=message):
        check_same(path, HEADER, HEADER | changed)
    check_same(path, HEADER, HEADER | {"start_frame": 99}, ("start_frame",))


def test_a_reworded_note_is_the_same_measurement():
    """Catches: a measurement of the release before that cannot go on, since a preset names its source in new words."""
    check_same(Path("run.part"), {"device": {"power_source": "guess"}}, {"device": {"power_source": "an estimate"}})


def test_flatten():
    """Catches: an empty table that leaves a name, a value that is turned into text."""
    assert flatten(HEADER | {"none": {}}) == {
        "method": "m",
        "device.seed": 3,
        "device.camera.bit_depth": 8,
        "start_frame": 17,
    }
