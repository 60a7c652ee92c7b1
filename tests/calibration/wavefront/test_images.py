"""Pictures sent through the medium are recovered, from projections and from single frames."""

import dataclasses
import runpy
from pathlib import Path

import numpy as np
import pytest

from calibration.wavefront.images import Sent, recover_from_frames, recover_from_projections, send, similarity
from photonics import presets

EXAMPLES = Path(__file__).parents[3] / "examples"


def blobs(count, n=64, seed=0):
    """Pictures with a third of the pixels ON."""
    return np.random.default_rng(seed).random((count, n)) < 0.35


def test_projections_without_noise_are_inverted_exactly():
    """Real and complex maps. Catches: only the real parts of a complex system."""
    rng, x = np.random.default_rng(0), blobs(5)
    for m in (rng.normal(size=(40, 64)) + 1j * rng.normal(size=(40, 64)), rng.normal(size=(80, 64))):
        np.testing.assert_allclose(recover_from_projections(m, x @ m.T, ridge=0.0), x, atol=1e-3)


def test_ridge_reduces_noise():
    """With hardly more equations than unknowns a regularised picture is closer. Catches: a ridge that is not used."""
    rng, x = np.random.default_rng(0), blobs(20)
    m = rng.normal(size=(66, 64))
    y = x @ m.T + 0.5 * rng.normal(size=(20, 66))
    plain, regularised = (similarity(x, recover_from_projections(m, y, ridge)).mean() for ridge in (0.0, 3e-2))
    assert regularised > plain + 0.1


def test_pictures_are_recovered_from_frames():
    """Correlation over 0.99 with 8 pixels per input, a contrast of 50, random phases and conjugations of rows.

    Catches: an update that uses the rows' phases, leakage added with the wrong sign.
    """
    opu = presets.lab_bench(64, 512, seed=2)
    opu = opu.replace(dmd=dataclasses.replace(opu.dmd, contrast=50.0))
    x = blobs(8)
    opu.autoexpose(patterns=x)
    rng = np.random.default_rng(1)
    matrix = opu.effective_matrix() * np.exp(2j * np.pi * rng.random((512, 1)))
    matrix[::2] = matrix[::2].conj()
    found = recover_from_frames(opu, matrix, send(opu, x, averages=2))
    assert found.min() >= 0.0
    assert found.max() <= 1.0
    assert (similarity(x, found) > 0.99).all()


def test_a_wrong_matrix_gives_no_picture():
    """Correlation under 0.4. Catches: a measure that is high for any picture."""
    opu, other = (presets.lab_bench(64, 512, seed=seed) for seed in (2, 3))
    x = blobs(8)
    opu.autoexpose(patterns=x)
    assert similarity(x, recover_from_frames(opu, other.effective_matrix(), send(opu, x))).mean() < 0.4


def test_saturated_readings_are_ignored():
    """Wrong values in a tenth of the readings, marked as saturated, change little. Catches: the mask left out."""
    opu = presets.lab_bench(64, 512, seed=2)
    x = blobs(4)
    opu.autoexpose(patterns=x)
    sent = send(opu, x)
    spoilt = np.random.default_rng(0).random(sent.usable.shape) < 0.1
    broken = Sent(np.where(spoilt, np.float32(0.0), sent.intensity), sent.usable & ~spoilt)
    assert (similarity(x, recover_from_frames(opu, opu.effective_matrix(), broken)) > 0.99).all()


def test_bad_arguments():
    """Catches: an error from within numpy."""
    opu = presets.lab_bench(32, 100)
    with pytest.raises(ValueError, match="pictures must be binary"):
        send(opu, np.full((2, 32), 0.5))
    with pytest.raises(ValueError, match="pictures must have shape"):
        send(opu, np.ones((2, 33)))
    with pytest.raises(ValueError, match="values must have shape"):
        recover_from_projections(np.ones((4, 3)), np.ones((1, 3)))
    with pytest.raises(ValueError, match="ridge must be 0 or more"):
        recover_from_projections(np.ones((4, 3)), np.ones((1, 4)), ridge=-1.0)


def test_example(tmp_path):
    """The script recovers digits both ways, with a matrix from frames. Catches: an example that is out of date."""
    main = runpy.run_path(str(EXAMPLES / "image_through_medium.py"))["main"]
    from_frames, from_projections = main(str(tmp_path / "i.png"), 3, 1100)
    assert (tmp_path / "i.png").stat().st_size > 10_000
    assert from_frames.min() > 0.99
    assert from_projections.min() > 0.98
