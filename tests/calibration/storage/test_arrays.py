"""Arrays as a lab has them become a recording."""

import numpy as np
import pytest

from calibration import RecordedDevice, Recording

MASKS = np.random.default_rng(1).random((6, 5)) < 0.5
CODES = np.random.default_rng(2).integers(0, 200, (6, 3, 4))
UNIFORM = {"frames": CODES[:1], "photons": [1.0], "exposure_s": [1e-3]}


def test_types_order_and_gaps():
    """Any integer type, order and numbering give the same recording. Catches: frames joined to the wrong patterns."""
    plain = Recording.from_arrays(MASKS, CODES.reshape(6, 12).astype(np.uint8), 2e-3, frame_number=range(1, 7))
    kept, order = np.array([0, 2, 3, 5]), np.array([2, 0, 3, 1])
    for frames in (CODES.astype(np.int16), CODES.astype(np.int32), CODES.astype(float)):
        for masks in (MASKS.astype(np.uint8) * 255, MASKS.astype(np.int64)):
            number = kept[order] + 1
            record = Recording.from_arrays(
                masks, frames[kept][order], 2e-3, frame_number=number, device={"camera": {"bit_depth": 8}}
            )
            assert record.not_shown == (1, 4)
            np.testing.assert_array_equal(record.columns["frame_number"], kept + 1)
            np.testing.assert_array_equal(record.patterns, plain.patterns[kept])
            np.testing.assert_array_equal(record.frames, plain.frames[kept])
            assert record.device["imaging"]["sensor"] == [3, 4]
    with pytest.warns(UserWarning, match=r"camera\.bit_depth is taken as 10 from the largest code 999"):
        assert Recording.from_arrays(MASKS, CODES * 0 + 999).frames.dtype == np.uint16


def test_shown_dark_and_saved(tmp_path):
    """One table of masks serves several exposures and phases; dark frames are -1. Catches: lost columns in the file."""
    shown, exposure = [0, 0, -1, 5], [1e-3, 2e-3, 2e-3, 1e-3]
    frames = CODES[:4].astype(np.uint8)
    record = Recording.from_arrays(MASKS, frames, exposure, shown=shown, reference_phase=[0, np.nan, np.nan, 1])
    again = Recording(record.save(tmp_path / "a.h5"))
    for one in (record, again):
        np.testing.assert_array_equal(one.columns["laser_on"], [True, True, False, True])
        np.testing.assert_array_equal(one.columns["exposure_s"], exposure)
        np.testing.assert_array_equal(one.patterns[[0, 1, 3]], MASKS[[0, 0, 5]])
        assert not one.patterns[2].any()
        assert one.not_shown == (1, 2, 3, 4)
        device = RecordedDevice(one)
        found = device.measure(MASKS[:1], 1e-3, reference_phase=0.0)
        np.testing.assert_array_equal(found, frames[:1].reshape(1, -1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": CODES - 200}, "got -.* in pixel 0 of frame 0: give raw frames"),
        ({"patterns": MASKS * 7}, "patterns must be bool, 0/1 or 0/255, got 7 in input"),
        ({"frames": CODES[:5]}, "shown must give .* 6 patterns and 5 frames$"),
        ({"frames": CODES[:5], "frame_number": [1, 2, 3, 4, 5]}, "numbered from 1 to 5"),
        ({"shown": [0, 1, 2, 3, 4, 6]}, "shown must be rows of patterns, 0 to 5.*got 6"),
        ({"frames": CODES + 70000}, "got 70.* in pixel 0 of frame 0"),
        ({"device": {"imaging": {"sensor": [4, 3]}}}, "frames must have the 4 x 3 pixels"),
        ({"frames": [["a", "b"]]}, "frames must be whole numbers"),
        ({"laser_on": [1, 1, 0.5, 0, 1, 1]}, "laser_on must be bool or 0/1, got 0.5$"),
        (
            {"unit_dn_per_s": 3 + 1j},
            r"^unit_dn_per_s must be real numbers, got shape \(\), dtype complex128: take the real",
        ),
        ({"uniform": UNIFORM | {"photons": [1j]}}, "^uniform photons must be real numbers.* dtype complex128"),
        ({"uniform": UNIFORM | {"exposure_s": ["1"]}}, "^uniform exposure_s must be real numbers.* dtype <U1$"),
        ({"uniform": {"frames": CODES[:1]}}, "^uniform must have frames, photons and exposure_s, got no photons$"),
    ],
)
def test_what_is_not_determined_is_refused(change, message):
    """One line, never a guess. Catches: off-by-one numbers, subtracted frames, a wrong sensor, lost imaginary parts."""
    given = {"patterns": MASKS, "frames": CODES.astype(np.uint8), "device": {}} | change
    with pytest.raises(ValueError, match=message) as stop:
        Recording.from_arrays(given.pop("patterns"), given.pop("frames"), **given)
    assert "\n" not in str(stop.value)
