"""Statistics of arrays of any library are numpy's, and patterns reach a device wherever it is."""

import numpy as np
import pytest

from calibration.arrays import (
    as_complex,
    columns,
    count,
    equal_rows,
    located,
    mean,
    nanquantile,
    squares_of_columns,
    total,
)
from calibration.camera.ageing import Seen
from calibration.device import backend_of_device, show
from calibration.projections.trilateration import Anchors
from calibration.storage.recorder import Recorder
from photonics import presets
from photonics.backend import backend_of, to_host


def test_statistics_are_those_of_numpy(backend, rng):
    """Masks, integers and NaN; results stay. Catches: a mask that is ignored, NaN that counts, a mean of uint8."""
    x, where = rng.normal(size=(7, 9)).astype(np.float32), rng.random((7, 9)) < 0.6
    gaps = np.where(where, x, np.float32(np.nan))
    gaps[3] = np.nan
    there, mask, holes = backend.asarray(x), backend.asarray(where), backend.asarray(gaps)
    codes = (100 * np.abs(x)).astype(np.uint8)
    pairs = [
        (mean(there, 1), x.mean(axis=1)),
        (mean(there, 0, where=mask), x.mean(axis=0, where=where)),
        (mean(mask, 1), where.mean(axis=1)),
        (mean(backend.asarray(codes), 1), codes.mean(axis=1)),
        (mean(there, None, "float64"), x.mean(dtype=np.float64)),
        (total(there, 1, "float64", where=mask), x.sum(axis=1, dtype=np.float64, where=where)),
        (count(mask, 0), np.count_nonzero(where, axis=0)),
        (columns(there, mask[2, :]), x[:, where[2]]),
        (as_complex(there, 2.0 * there), x + 2j * x),
        (squares_of_columns(there), (x**2).sum(axis=0)),
        (squares_of_columns(as_complex(there, 2.0 * there)), 5.0 * (x**2).sum(axis=0)),
    ]
    with pytest.warns(RuntimeWarning, match="All-NaN") if backend.on_host else np.errstate(all="ignore"):
        pairs += [(nanquantile(holes, share, 1), None) for share in (0.5, 0.95)]
    expected = [np.nanquantile(np.delete(gaps, 3, 0), share, axis=1) for share in (0.5, 0.95)]
    for (found, _), wanted in zip(pairs[-2:], expected, strict=True):
        assert backend_of(found) == backend
        np.testing.assert_allclose(np.delete(to_host(backend.asarray(found)), 3), wanted, rtol=1e-5)
        assert np.isnan(to_host(backend.asarray(found))[3])
    for found, wanted in pairs[:-2]:
        assert backend_of(found) == backend
        np.testing.assert_allclose(to_host(backend.asarray(found)), wanted, rtol=1e-5)


@pytest.mark.parametrize("size", [10, 200])
def test_rows_are_equal_in_every_entry(backend, size):
    """Catches: rows that are compared in their first entries only."""
    one = np.zeros((4, size), np.uint8)
    other = one.copy()
    other[1, 0], other[2, -1] = 1, 1
    found = to_host(equal_rows(backend.asarray(one), backend.asarray(other)))
    np.testing.assert_array_equal(found, [True, False, False, True])


def test_records_move_as_a_whole(device):
    """Arrays in tuples and named tuples; numbers stay. Catches: a nested array that is left on the host."""
    row, points = np.ones(4, np.float32), np.ones((3, 2, 4), np.float32)
    seen, anchors = located((Seen(row, row, 7), Anchors(points, row, row, row, row, 1.0, 2.0)), device)
    assert seen.frame == 7
    for array in (seen.light_dn, seen.variance, *anchors[:5]):
        assert backend_of(array) == device


def test_patterns_reach_a_device_anywhere(device, half_on, tmp_path):
    """Also through a recorder, also when it replays. Catches: patterns that stay, frames of a part that are numpy's."""
    opu = presets.lab_bench(16, 30)
    opu.backend = device
    shown = half_on(3, 16)
    with Recorder(opu, tmp_path / "frames.h5") as recorder:
        assert backend_of_device(recorder) == device
        frames = [show(opu, shown), show(opu, device.asarray(shown)), show(recorder, shown, reference_phase=0.0)]
    assert {backend_of(one) for one in frames} == {device}
