"""The pixels and the matrix of a bench in its twin."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.twin_devices import Bench, hidden
from calibration import fit_device, record_bench
from calibration.twin.check import answer, compare_line, draw_twin, pixel_tests
from calibration.twin.evidence import read_evidence
from calibration.twin.matrix import chosen_frames
from calibration.twin.reference.arm import read_beam
from calibration.twin.sensor import read_sensor
from photonics import OPU
from photonics.parts.camera import nonuniformity
from tests.command import refused


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Device of one polarisation and 12 bits, its recording, and the twin with its matrix."""
    device = hidden(0, n_in=32, pixels=144, flawed=False)
    path = record_bench(Bench(device), tmp_path_factory.mktemp("same") / "bench.h5", seed=0)
    return device, path, fit_device(path, matrix=True)


def test_maps_are_right_within_their_errors(bench):
    """Offset and gain of each pixel: the error is the stated one to 25 %, 3 standard errors; bad pixels are exact.

    Catches: maps with the noise of their frames, in another order, in electrons, of the chip and not of the frame.
    """
    device, _, twin = bench
    response, offset_e = nonuniformity(device.camera, device.n_out, None)
    maps, good = twin.maps, response > 0
    assert (maps.bad == ~good).all()
    for found, true, error in (
        (maps.gain, response / response[good].mean(), maps.gain_error),
        (maps.offset_dn, (offset_e - offset_e[good].mean()) * device.camera.gain, maps.offset_error_dn),
    ):
        assert np.std((found - true)[good]) == pytest.approx(error, rel=0.25)
        assert error < 0.15 * np.std(true[good])


def test_light_of_off_mirrors_is_taken_beside_the_reference(bench):
    """Frames of all inputs OFF at its exposure, long before. Catches: speckle that has changed, counted as PRNU."""
    seen = read_evidence(bench[1])
    sensor = read_sensor(seen)
    beam = read_beam(seen, sensor)
    off = np.flatnonzero(seen.plain & (seen.on == 0) & seen.at(beam.exposure_s))
    order = np.concatenate([off, np.arange(len(seen.frames))])
    number = np.concatenate([seen.number[off] - 10_000_000, seen.number])
    frames = seen.frames[order]
    frames[: len(off)] += (np.arange(seen.n_out) % 7 * 20).astype(frames.dtype)
    old = replace(seen.take(order), frames=frames, number=number)
    assert np.array_equal(read_beam(old, sensor).image, beam.image)


def test_frames_agree_pixel_by_pixel(bench, tmp_path, capfd):
    """Frames that were not fitted, by the twin that a TOML file and its matrix describe: to 1.1 of the camera's noise.

    The law alone, without the matrix, predicts nothing of them. Catches: a matrix in another unit, with the
    illumination, the response or the light of OFF mirrors twice, a file that is not read, a pupil that blurs it, files
    that cannot be moved, a matrix in the way that is told after the fit.
    """
    _, path, twin = bench
    seen = read_evidence(path)
    tested, good = chosen_frames(seen, twin.field_frames).tested, twin.matrix.valid & ~twin.maps.bad
    assert good.mean() > 0.9
    with pytest.warns(UserWarning, match="phases of the matrix's rows are not known"):
        toml = twin.to_toml(tmp_path / "twin.toml", same=True)
    assert (tmp_path / "twin.matrix.npy").exists()
    assert "phases of the matrix's rows" in toml.read_text()  # its frames had no reference
    moved = tmp_path / "moved"
    moved.mkdir()
    toml, matrix = (one.rename(moved / one.name) for one in (toml, tmp_path / "twin.matrix.npy"))
    same, frames = OPU.from_toml(toml), seen.of(tested)[:, good]
    found = same.mean(seen.patterns[tested], seen.main_s)[:, good]
    noise = np.sqrt(same.variance(seen.patterns[tested], seen.main_s)[:, good].mean())
    assert np.sqrt(np.mean((frames - found) ** 2)) < 1.1 * noise
    assert np.corrcoef(frames.ravel(), found.ravel())[0, 1] > 0.999
    drawn = twin.device(seed=5).mean(seen.patterns[tested], seen.main_s)[:, good]
    assert abs(np.corrcoef(frames.ravel(), drawn.ravel())[0, 1]) < 0.1
    with pytest.raises(ValueError, match="exists"):
        twin.to_toml(toml, same=True)
    matrix.write_bytes(b"other")
    with pytest.raises(ValueError, match="SHA-256"):
        OPU.from_toml(toml)
    toml.unlink()
    line = refused(capfd, "twin", "--recorded", "none.h5", "--matrix", "--out", str(toml))
    assert "twin.matrix.npy, which exists" in line


def test_a_check_tells_wrong_pixels(bench):
    """Both predictions of pixels pass for the bench, and fail for frames whose pixels are moved by one.

    Catches: pixels that are not compared, a prediction that is called a fault because it is good.
    """
    _, path, twin = bench
    with pytest.warns(UserWarning, match="frames with it are not"):
        tests = pixel_tests(twin, read_evidence(path))
    assert len(tests) == 2
    for test in tests:
        drawn = [answer(draw_twin(twin, k).build(k, same=True), test.asked).frames for k in range(4)]
        spread = np.array([test.unexplained(frames) for frames in drawn])
        moved = test.unexplained(np.roll(test.asked.frames, 1, axis=1))
        assert compare_line(*test.key, test.unexplained(test.asked.frames), spread).reproduced
        assert not compare_line(*test.key, moved, spread).reproduced
