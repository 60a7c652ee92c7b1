"""Frames that show the patterns of their neighbours, by the responses of a call."""

import numpy as np

from calibration.fields.shift import find_shifts


def responses_on_an_offset(seed, count=640, inputs=65, pixels=150):
    """One input in each pattern; an offset 8 times as strong as the responses turns within 50 patterns."""
    rng = np.random.default_rng(seed)
    chosen, own = rng.integers(inputs, size=count), rng.normal(size=(inputs, pixels))
    offset, kept = rng.normal(size=(count, pixels)), np.exp(-1.0 / 50.0)
    for k in range(1, count):
        offset[k] = kept * offset[k - 1] + np.sqrt(1.0 - kept**2) * offset[k]
    return np.eye(inputs, dtype=bool)[chosen], own[chosen] + 8.0 * offset + 0.2 * rng.normal(size=(count, pixels))


def test_an_offset_that_moves_is_no_shift_and_hides_none():
    """10 sound calls are quiet; a lost frame is told in each, with more than a third of the frames after it.

    Catches: a common response that is taken for constant, so that each response is most like that of the pattern before
    (false alarms in 10 of 10; a transformer on a medium that moves within 1000 frames).
    """
    for patterns, responses in map(responses_on_an_offset, range(10)):
        assert not find_shifts(patterns, responses)
        found = find_shifts(patterns, np.concatenate([responses[:340], responses[341:], responses[-1:]]))
        assert {shift.step for shift in found} == {1} and min(shift.start for shift in found) >= 328
        assert sum(shift.stop - shift.start for shift in found) > 100
