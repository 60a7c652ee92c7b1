"""The mirrors: leakage, stuck mirrors, and the places of logical inputs on the chip."""

import math
from dataclasses import replace

import array_api_strict as strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photonics import DMD, GaussianMedium, Imaging, Laser
from photonics.backend import backend_of, to_host
from photonics.parts.dmd import stuck_shares

LIGHT = np.ones((1, 40), np.float32)
PHASES = pytest.mark.parametrize("phase", [0.0, 0.7, math.pi])


@PHASES
@pytest.mark.parametrize("contrast", [500.0, 2000.0])
def test_all_off_over_all_on_is_one_over_contrast(contrast, phase):
    """On every pixel, behind medium and imaging, to float32. Catches: eps = 1/contrast, leakage added to ON mirrors."""
    dmd, medium, n_in = DMD(contrast=contrast, leakage_phase_rad=phase), GaussianMedium(64, 500, seed=1), 64
    light = Laser(drift_rms=0.0, rin_db_per_hz=None, pointing_rad=0.0).field(
        dmd.cells(n_in), np.arange(2), exposure_s=1e-4, frame_period_s=1e-3, seed=0
    )
    patterns = np.array([[False] * n_in, [True] * n_in])
    off, on = Imaging().intensity(medium.propagate(dmd.modulate(patterns, light)), n_in=n_in)
    np.testing.assert_allclose(off * contrast, on, rtol=1e-4, atol=1e-6 * on.mean())


@PHASES
def test_leakage_has_its_phase(phase):
    """An OFF mirror sends ``eps exp(i phi)``; real while in phase. Catches: a conjugate, a dropped imaginary part."""
    dmd = DMD(contrast=400.0, leakage_phase_rad=phase)
    field = dmd.modulate(np.array([[False, True]]), np.float32([[2.0, 2.0]]))
    np.testing.assert_allclose(field, [[2 * np.exp(1j * phase) / 20, 2]], rtol=1e-6, atol=1e-7)
    assert field.dtype == (np.float32 if phase == 0 else np.complex64)


def test_no_leakage():
    """Without contrast, OFF is dark and ON is untouched. Catches: a division by None taken as 0 contrast."""
    patterns = np.array([[True, False] * 20])
    np.testing.assert_array_equal(DMD(contrast=None).modulate(patterns, LIGHT), patterns.astype(np.float32))


def test_mirrors_multiply_the_light():
    """Linear in the light, input by input. Catches: a transposed or flattened product."""
    light = np.linspace(1, 5, 80, dtype=np.float32).reshape(2, 40)
    patterns = np.arange(80).reshape(2, 40) % 3 == 0
    dmd = DMD(stuck_fraction=0.1)
    np.testing.assert_allclose(dmd.modulate(patterns, light), dmd.modulate(patterns, LIGHT) * light, rtol=1e-6)


def test_share_of_stuck_mirrors():
    """Over the chip: the fraction, half of them ON, within 4 SE. Catches: a fraction of inputs, all stuck OFF."""
    dmd, mirrors = DMD(macropixel=1, stuck_fraction=0.02), 1024 * 768
    off, on = stuck_shares(dmd, mirrors)
    stuck = mirrors * 0.02
    assert set(np.unique(off)) == set(np.unique(on)) == {0.0, 1.0}
    assert not np.any(off * on)
    assert abs((off + on).sum() - stuck) < 4 * math.sqrt(stuck)
    assert abs((on - off).sum()) < 4 * math.sqrt(stuck)
    # Stuck mirrors are scattered: rows and columns hold binomial shares of them (chi-square within 4 SE).
    grid = (off + on).reshape(768, 1024)
    for axis in (0, 1):
        counts = grid.sum(axis=axis)
        chi2 = ((counts - counts.mean()) ** 2 / counts.mean() / 0.98).mean()
        assert abs(chi2 - 1) < 4 * math.sqrt(2 / counts.size)


@pytest.mark.parametrize(("macropixel", "rows", "columns"), [(8, 96, 128), (8, 20, 20), (4, 9, 9), (64, 12, 16)])
def test_stuck_mirrors_do_not_depend_on_the_macropixel(macropixel, rows, columns):
    """An input's share is the mean over its mirrors in the map of the chip. Catches: stuck inputs, a shifted grid."""
    dmd = DMD(stuck_fraction=0.05, macropixel=macropixel)
    chip = stuck_shares(replace(dmd, macropixel=1), 1024 * 768)
    assert dmd.grid(rows * columns) == (rows, columns)
    height, width = rows * macropixel, columns * macropixel
    top, left = (768 - height) // 2, (1024 - width) // 2
    for mirrors, share in zip(chip, stuck_shares(dmd, rows * columns), strict=True):
        window = mirrors.reshape(768, 1024)[top : top + height, left : left + width]
        expected = window.reshape(rows, macropixel, columns, macropixel).mean(axis=(1, 3))
        np.testing.assert_allclose(share, expected.ravel(), atol=1e-12)


def test_stuck_mirrors_follow_the_seed():
    """The same chip for a seed, another for another, none at fraction 0. Catches: a constant seed."""
    chip = DMD(stuck_fraction=0.01, seed=4)
    a, again, b = (stuck_shares(d, 500)[0] for d in (chip, replace(chip), replace(chip, seed=5)))
    np.testing.assert_array_equal(a, again)
    assert np.any(a != b)
    assert not np.any(stuck_shares(DMD(stuck_fraction=0.0), 500))


def test_levels_with_stuck_mirrors():
    """ON: all but those stuck OFF, which leak; OFF: those stuck ON, and the rest leaks. Catches: the two swapped."""
    dmd = DMD(stuck_fraction=0.2, contrast=100.0, macropixel=4)
    (stuck_off, stuck_on), (off, on) = stuck_shares(dmd, 300), dmd.levels(300)
    np.testing.assert_allclose(off, stuck_on + 0.1 * (1 - stuck_on), rtol=1e-6)
    np.testing.assert_allclose(on, (1 - stuck_off) + 0.1 * stuck_off, rtol=1e-6)


def test_a_chip_with_all_mirrors_stuck_shows_one_pattern():
    """At fraction 1 the pattern has no influence. Catches: a stuck mirror that still moves."""
    dmd = DMD(stuck_fraction=1.0)
    off, on = (dmd.modulate(np.full((1, 40), state), LIGHT) for state in (False, True))
    np.testing.assert_allclose(off, on, rtol=1e-6)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_inputs_fit_on_the_chip(data):
    """Any number that fits: distinct macropixels, inside the chip, centred, filled row by row.

    Catches: a grid wider or taller than the chip, an off-by-one in its last row.
    """
    dmd = DMD(**{name: data.draw(st.integers(1, 60), name) for name in ("columns", "rows")}, macropixel=3, pitch_m=1e-5)
    capacity = (dmd.rows // 3) * (dmd.columns // 3)
    if not capacity:
        with pytest.raises(ValueError, match="n_in must be 1 to 0"):
            dmd.grid(1)
        return
    n_in = data.draw(st.integers(1, capacity), "n_in")
    rows, columns = dmd.grid(n_in)
    assert rows <= dmd.rows // 3
    assert columns <= dmd.columns // 3
    assert (rows - 1) * columns < n_in <= rows * columns
    cells, chip, side = dmd.cells(n_in), dmd.chip(), 3e-5
    slack = 1e-12
    for edges, whole in ((cells.x_edges, chip.x_edges), (cells.y_edges, chip.y_edges)):
        assert np.abs(edges).max() <= np.abs(whole).max() + slack
        np.testing.assert_allclose(edges, -edges[::-1], atol=slack)
        np.testing.assert_allclose(np.abs(np.diff(edges)), side, atol=slack)
    row, column = np.divmod(np.arange(n_in), columns)
    np.testing.assert_allclose(cells.centres[0] + columns * side / 2, (column + 0.5) * side, atol=slack)
    np.testing.assert_allclose(rows * side / 2 - cells.centres[1], (row + 0.5) * side, atol=slack)


@pytest.mark.parametrize("n_in", [0, -1, 12289])
def test_too_many_inputs(n_in):
    with pytest.raises(ValueError, match=r"^n_in must be 1 to 12288 on a chip of 1024 x 768 mirrors with macropixel 8"):
        DMD().grid(n_in)


@pytest.mark.parametrize("change", [{}, {"contrast": None}, {"stuck_fraction": 0.3}, {"leakage_phase_rad": 1.0}])
def test_other_array_libraries(change):
    """A device that refuses implicit moves computes what numpy does, to the bit. Catches: numpy called on the array."""
    dmd, device = DMD(**change), strict.Device("device1")
    patterns = np.arange(80).reshape(2, 40) % 3 == 0
    light = np.linspace(1, 5, 80, dtype=np.float32).reshape(2, 40)
    there = dmd.modulate(*(strict.asarray(a, device=device) for a in (patterns, light)))
    assert there.device == device
    here = dmd.modulate(patterns, light)
    assert to_host(there).dtype == here.dtype
    np.testing.assert_array_equal(to_host(there), here)


def test_levels_are_kept_where_they_are_used():
    """One upload for each library, read-only. Catches: levels computed again for every frame."""
    dmd, there = DMD(stuck_fraction=0.1), backend_of(strict.asarray(0.0, device=strict.Device("device1")))
    for backend in (backend_of(LIGHT), there):
        assert all(a is b for a, b in zip(dmd.levels(300, backend), dmd.levels(300, backend), strict=True))
    for here, away in zip(dmd.levels(300), dmd.levels(300, there), strict=True):
        np.testing.assert_array_equal(here, to_host(away))
        with pytest.raises(ValueError, match="read-only"):
            here[0] = 0


def test_light_is_not_modified():
    """Catches: a product in place on the incident field or on the levels."""
    dmd, light, patterns = DMD(), np.full((2, 40), 3, np.float32), np.arange(80).reshape(2, 40) % 2 == 0
    first = dmd.modulate(patterns, light)
    assert np.all(light == 3)
    np.testing.assert_array_equal(dmd.modulate(patterns, light), first)


def test_complex_light_on_real_mirrors():
    """A field that has a phase keeps it. Catches: a product cast to float32."""
    light = np.exp(1j * np.arange(40, dtype=np.float32))[None].astype(np.complex64)
    np.testing.assert_array_equal(DMD(contrast=None).modulate(np.ones((1, 40), bool), light), light)


def test_timing():
    """30.72 us + 13 us hold 22.7 kHz, up to 22 873 Hz. Catches: settle left out of the bound, milliseconds."""
    dmd = DMD()
    assert dmd.frame_s == pytest.approx(1 / 22_700)
    assert 1 / (dmd.load_s + dmd.settle_s) == pytest.approx(22_873, abs=1)
    assert dmd.frame_s >= dmd.load_s + dmd.settle_s
    fastest = replace(dmd, frame_rate_hz=1 / (dmd.load_s + dmd.settle_s))
    assert fastest.frame_s == pytest.approx(43.72e-6)
    for change in ({"frame_rate_hz": 23_000.0}, {"settle_s": 14e-6}, {"load_s": 35e-6}):
        with pytest.raises(ValueError, match=r"^DMD: frame_rate_hz must be at most \d+.*, got 2[23][07]00\.0$"):
            replace(dmd, **change)
    assert DMD(load_s=0.0, settle_s=0.0, frame_rate_hz=1e6).frame_s == 1e-6
