"""Cameras beyond the linear model: maps, hot pixels, noise of rows and columns, a curved response, binning."""

from dataclasses import replace

import array_api_strict as strict
import numpy as np
import pytest
from PIL import Image

from calibration.camera.photon_transfer import photon_transfer
from photonics import OPU, Camera, GaussianMedium
from photonics.parts.chip.maps import read_map
from photonics.parts.sensor import Window

EXPOSURE_S, ROWS, COLUMNS = 1e-3, 40, 60
CHIP = Window(COLUMNS, 0, ROWS, 0, COLUMNS)
QUIET = Camera(bit_depth=12, prnu=0.0, dsnu_e=0.0, dark_current_e_per_s=0.0, gain_dn_per_e=0.3, offset_dn=200.0)
EVERYTHING = Camera(
    bit_depth=12,
    hot_pixels=0.05,
    hot_current_e_per_s=2e4,
    row_noise_e=3.0,
    column_noise_e=2.0,
    row_dsnu_e=5.0,
    column_dsnu_e=4.0,
    nonlinearity=-0.1,
    offset_map=np.linspace(-20, 40, ROWS * COLUMNS).reshape(ROWS, COLUMNS),
    gain_map=np.linspace(0.8, 1.2, ROWS * COLUMNS).reshape(ROWS, COLUMNS),
    bad_pixel_map=np.eye(ROWS, COLUMNS),
    binning=2,
    seed=4,
)


def frames_of(camera, photons, count=400, exposure_s=EXPOSURE_S):
    light = np.broadcast_to(np.float32(photons), (count, ROWS * COLUMNS))
    return camera.expose(light, exposure_s, np.arange(count), window=CHIP).astype(float)


def test_moments_of_everything():
    """Mean and variance of all details together, over pixels (5 SE); the same frames by another array library.

    Catches: a detail that frames have and moments lack, an order of the steps that differs between the two.
    """
    photons = np.linspace(200, 3000, ROWS * COLUMNS).astype(np.float32)
    frames, light = frames_of(EVERYTHING, photons), photons[None]
    mean = EVERYTHING.mean(light, EXPOSURE_S, CHIP)[0]
    variance = EVERYTHING.variance(light, EXPOSURE_S, CHIP)[0]
    assert frames.shape[1] == ROWS * COLUMNS / 4
    below = mean < 0.7 * EVERYTHING.saturation_dn
    z = ((frames.mean(axis=0) - mean) / np.sqrt(variance / len(frames)))[below]
    # rows and columns are common to many pixels: of 20 and 30 of them the mean of z has few free values
    assert abs(z.mean()) < 5 * np.sqrt(0.5 / 20) and 0.8 < z.std() < 1.2
    ratio = (frames.var(axis=0, ddof=1) / variance)[below]
    assert abs(ratio.mean() - 1) < 5 * np.sqrt(2 / len(frames) / 50)
    other = EVERYTHING.expose(strict.asarray(light), EXPOSURE_S, np.arange(1), window=CHIP)
    assert np.abs(np.asarray(other).astype(float) - frames[:1]).max() <= 1


def test_rows_and_columns_share_their_noise():
    """Covariance within a row is ``(K sigma_row)^2``, none between rows; likewise columns (5 SE). Fixed parts average.

    Catches: noise by the place in the frame, one draw for a frame, rows for columns.
    """
    camera = replace(QUIET, row_noise_e=20.0, column_noise_e=10.0, seed=3)
    frames = frames_of(camera, 500.0).reshape(-1, ROWS, COLUMNS) - 200.0
    frames -= frames.mean(axis=0)
    rows, columns = frames.mean(axis=2), frames.mean(axis=1)  # pixels of their own: 17 e and 2.5 e
    own = 0.3**2 * (300.0 + 2.5**2)
    for lines, size, other, length in ((rows, 20.0, 10.0, COLUMNS), (columns, 10.0, 20.0, ROWS)):
        pairs = lines @ np.eye(lines.shape[1])
        between = (pairs.sum(axis=1) ** 2 - (pairs**2).sum(axis=1)).mean() / (lines.shape[1] * (lines.shape[1] - 1))
        expected = (0.3 * size) ** 2 + (own + 1 / 12) / length
        common = (0.3 * other) ** 2 / length  # the mean of the other lines is in every line
        assert abs(lines.var() / (expected + common) - 1) < 5 * np.sqrt(2 / lines.size) + 0.02
        assert abs(between - common) < 5 * (expected + common) / np.sqrt(len(lines) * lines.shape[1] / 2)
    fixed = replace(QUIET, row_dsnu_e=30.0, column_dsnu_e=15.0)
    dark = frames_of(fixed, 0.0, 4).mean(axis=0).reshape(ROWS, COLUMNS) / 0.3
    assert abs(dark.mean(axis=1).std() / 30.0 - 1) < 5 / np.sqrt(2 * ROWS)
    assert abs(dark.mean(axis=0).std() / 15.0 - 1) < 5 / np.sqrt(2 * COLUMNS)


def test_hot_pixels_and_a_curve():
    """Share and mean of hot pixels (5 SE), double per 8 K; the curve, and 0.15 |a| of EMVA's linearity error (7 %).

    Catches: hot pixels that are the dead ones, current without the exposure, a curve of DN instead of electrons.
    """
    hot = replace(
        QUIET, hot_pixels=0.1, hot_current_e_per_s=1e6, full_well_e=1e5, gain_dn_per_e=0.03, read_noise_e=30.0
    )
    n = ROWS * COLUMNS
    dark = hot.mean(np.zeros((1, n)), EXPOSURE_S, CHIP)[0] - 200.0
    assert abs((dark > 0.1).mean() - 0.1) < 5 * np.sqrt(0.09 / n)
    assert abs(dark[dark > 0.1].mean() / 0.03 - 1000.0) < 5 * 1000.0 / np.sqrt(0.1 * n)
    warm = replace(hot, warming_k=8.0).mean(np.zeros((1, n)), EXPOSURE_S, CHIP)[0] - 200.0
    np.testing.assert_allclose(warm, 2 * dark, atol=0.02)
    curved = replace(QUIET, nonlinearity=-0.08, read_noise_e=5.0)
    electrons = np.array([0.0, 2500.0, 5000.0, 7500.0])
    found = [frames_of(curved, e / 0.6, 20).mean() for e in electrons]
    np.testing.assert_allclose(found, 200 + 0.3 * (electrons - 0.08 * electrons**2 / 1e4), atol=0.3)
    measured = photon_transfer(replace(curved, gain_dn_per_e=None)).linearity_error
    assert abs(measured.value / (0.15 * 0.08) - 1) < 0.07


def test_binning_adds_charges_before_they_are_read():
    """A binned pixel is four times the light with one read noise and one well; its region is a crop of the chip.

    Catches: codes that are added, read noise of each pixel, bins that follow the region.
    """
    one, four = replace(QUIET, read_noise_e=40.0), replace(QUIET, read_noise_e=40.0, binning=2)
    alone, binned = frames_of(one, 400.0), frames_of(four, 100.0)
    assert binned.shape[1] == alone.shape[1] / 4
    for moment in (np.mean, np.var):
        assert moment(binned) == pytest.approx(moment(alone), rel=5 * np.sqrt(2 / binned.size))
    assert frames_of(four, 1e5, 1).max() == four.saturation_dn == 3200
    sheet = replace(four, bit_depth=16, gain_dn_per_e=6.0, offset_dn=2000.0, dark_current_e_per_s=5e3, dsnu_e=30.0)
    found = photon_transfer(sheet)  # photons are those on the four pixels
    assert found.quantum_efficiency.value == pytest.approx(0.6, rel=0.02)
    assert found.dark_current_e_per_s.value == pytest.approx(sheet.dark_electrons(1.0), rel=0.03)
    assert found.dsnu_e.value == pytest.approx(sheet.offset_spread_e, rel=0.05)
    opu = OPU(medium=GaussianMedium(20, 144, seed=1), camera=everything(12), exposure_s=4e-4)
    shown = np.random.default_rng(0).random((5, 20)) < 0.5
    part = opu.replace(**{"imaging.region": (2, 6, 4, 8)})
    assert (opu.frame_shape, part.frame_shape, part.n_out) == ((6, 6), (3, 4), 12)
    np.testing.assert_array_equal(part.measure(shown), opu.measure(shown).reshape(5, 6, 6)[:, 1:4, 2:].reshape(5, -1))
    with pytest.raises(ValueError, match=r"^binning must divide the rows and columns that are read.*rows 2 to 6"):
        opu.replace(**{"imaging.region": (2, 5, 4, 8)})


def everything(side):
    """The camera with all details, on a square chip."""
    maps = {name: read_map(getattr(EVERYTHING, name))[:side, :side] for name in ("offset_map", "gain_map")}
    return replace(EVERYTHING, bad_pixel_map=None, **maps)


def test_maps_come_from_arrays_and_files(tmp_path):
    """An array, npy and TIFF give the same camera, which describes itself; wrong maps are refused in one line.

    Catches: a map in another order, a description that needs the file, a map of another chip that is cut.
    """
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.save(tmp_path / "map.npy", values)
    Image.fromarray(values).save(tmp_path / "map.tif")
    camera = Camera(offset_map=values, bit_depth=12)
    for name in ("map.npy", "map.tif"):
        assert Camera(offset_map=tmp_path / name, bit_depth=12) == camera
        assert Camera(offset_map=str(tmp_path / name), bit_depth=12).offset_map == camera.offset_map
    np.testing.assert_array_equal(read_map(camera.offset_map), values)
    opu = OPU(medium=GaussianMedium(5, 12, seed=1), camera=camera)
    opu.to_toml(tmp_path / "bench.toml")
    again = OPU.from_toml(tmp_path / "bench.toml")
    np.testing.assert_array_equal(again.dark(2), opu.dark(2))
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY junk")
    bad = {"bad.npy": "offset_map must be a readable map, got .*bad.npy", "none.tif": "No such file", "x.txt": "end in"}
    for name, message in bad.items():
        with pytest.raises(ValueError, match=message) as stop:
            Camera(offset_map=str(tmp_path / name))
        assert "\n" not in str(stop.value)
    for change, message in (
        ({"gain_map": values}, r"gain_map must have entries from 0\.5 to 2, got 0 in row 0, column 0"),
        ({"offset_map": values * np.nan}, "offset_map must have entries .*got nan"),
        ({"offset_map": values[0]}, r"offset_map must be a map of real numbers"),
        ({"offset_map": "npy-zlib-base64:AAAA"}, "text that is damaged"),
    ):
        with pytest.raises(ValueError, match=message):
            Camera(**change)
    with pytest.raises(ValueError, match=r"^offset_map must have the chip's 2 x 6 pixels, got \(3, 4\)$"):
        opu.replace(**{"imaging.sensor": (2, 6)})
