"""Recovery where the device computes: the result of the host, and no frames come back."""

import array_api_compat
import numpy as np
import pytest

from calibration import recover_transmission_matrix
from calibration.recovery import exposure, popoff
from calibration.recovery.estimate import TransmissionEstimate
from calibration.recovery.exposure import expose
from calibration.wavefront.focusing import focus
from photonics import presets
from photonics.backend import Backend, backend_of, to_host
from tests.calibration.matrix_benches import tilted
from tests.transfers import count_gpu, count_strict

ROWS = 200


@pytest.fixture
def elsewhere():
    """Torch's arrays, as a stand-in for another device."""
    torch = pytest.importorskip("torch")
    return Backend(array_api_compat.array_namespace(torch.zeros(1)), torch.device("cpu"))


def bench(inputs, backend=None):
    """A device and random patterns for it, both on a backend."""
    opu = presets.lab_bench(inputs, ROWS, seed=3)
    shown = np.zeros((24, inputs), bool)
    shown[:, : inputs // 2] = np.random.default_rng(0).random((24, inputs // 2)) < 0.5
    if backend is not None:
        opu.backend, shown = backend, backend.asarray(shown)
    return opu, shown


def work(opu, shown, method):
    """Recover half of the inputs, follow the medium, and focus."""
    half = opu.n_in // 2
    first = recover_transmission_matrix(opu, method, n_inputs=half)
    later = first.update(shown[:, :half], opu.measure(shown))
    return first, later, focus(opu, later.matrix, 3, valid=later.valid, averages=2)


def same(here, there, saved, backend):
    """Results agree to a tenth of the stated error; matrices are on the device, and all of it can be saved."""
    for expected, found in zip(here[:2], there[:2], strict=True):
        assert backend_of(found.matrix) == backend
        both = expected.valid & found.valid
        assert both.mean() > 0.85 and (expected.valid != found.valid).mean() <= 0.01
        apart = np.abs(to_host(found.matrix) - expected.matrix)[both]
        assert np.sqrt(np.mean(apart**2)) < 0.1 * np.median(expected.standard_error[both])
        np.testing.assert_allclose(found.relative_error[both], expected.relative_error[both], rtol=0.02)
    assert there[1].drift["stale"] == pytest.approx(here[1].drift["stale"], abs=1e-3)
    np.testing.assert_allclose(there[2].enhancement, here[2].enhancement, rtol=0.05)
    np.testing.assert_array_equal(TransmissionEstimate.load(saved).matrix, to_host(there[1].matrix))


@pytest.mark.parametrize("method", ["phase-retrieval", "popoff"])
def test_frames_stay_on_another_device(method, elsewhere, monkeypatch, tmp_path):
    """After the search of the exposure nothing larger than the 8 dark frames comes back.

    Catches: a recovery, an update or a focus that copies frames or the matrix to the host, silently or not.
    """
    import torch

    brought = []

    def counted(array):
        brought.extend([] if isinstance(array, np.ndarray) else [array.numel()])
        return to_host(array)

    for module in ("recovery.frames", "recovery.transmission", "recovery.likelihood", "recovery.brightness",
                   "recovery.no_reference", "recovery.estimate", "recovery.tracking", "fields.bad_pixels",
                   "wavefront.focusing"):  # fmt: skip
        monkeypatch.setattr(f"calibration.{module}.to_host", counted)
    monkeypatch.setattr(torch.Tensor, "__array__", lambda *_, **__: pytest.fail("numpy read an array of the device"))
    opu, shown = bench(64, elsewhere)
    there = work(opu, shown, method)
    assert max(brought) <= 8 * ROWS
    saved = there[1].save(tmp_path / "t.h5")
    same(work(*bench(64), method), there, saved, elsewhere)


LINEAR, ITERATED = 1e-5, 0.1
"""Largest difference from the host's matrix, rms: relative if a linear system is solved, else over the stated error."""
CASES = {
    "phase-stepping": ({"n_inputs": 14}, LINEAR),
    "phase-stepping, tracked": ({"track_drift": True}, LINEAR),
    "off-axis": ({"n_inputs": 14}, LINEAR),
    "numerical-interferometry": ({}, ITERATED),
    "phase-retrieval": ({"frames_per_input": 12.0}, ITERATED),
    "popoff": ({"n_inputs": 32}, ITERATED),
}


@pytest.mark.parametrize("name", CASES)
def test_every_method_solves_where_the_device_is(name, elsewhere, strict, monkeypatch):
    """The host's matrix, errors and findings, by torch and by the array API alone, which counts what comes back.

    Nothing larger than the 8 dark frames does. Catches: frames or fields that are solved on the host; an array library
    that a method cannot use.
    """
    method, (options, tolerance) = name.split(",")[0], CASES[name]
    monkeypatch.setattr(popoff, "OTHER_STARTS", ())  # array_api_strict checks every operation, which takes its time
    inputs = 64 if method == "popoff" else 16
    opu = (
        tilted("lab_bench", inputs, side=20, seed=1) if method == "off-axis" else presets.lab_bench(inputs, 60, seed=3)
    )
    expose(opu, method, **options)
    frames, expected = opu.clock.frames, recover_transmission_matrix(opu, method, exposure="keep", **options)
    for backend in (elsewhere, strict):
        opu.backend, opu.clock.frames = backend, frames
        with monkeypatch.context() as patched:
            transfers = count_strict(patched)
            found = recover_transmission_matrix(opu, method, exposure="keep", **options)
        assert max(transfers, default=0) <= 16 * 8 * opu.n_out
        assert backend_of(found.matrix) == backend
        assert np.mean(found.valid != expected.valid) <= 0.01
        both = expected.valid & found.valid
        apart = np.sqrt(np.mean(np.abs(to_host(found.matrix) - expected.matrix)[both] ** 2))
        size = np.median(expected.standard_error[both]) if tolerance == ITERATED else np.std(expected.matrix[both])
        assert apart <= tolerance * size
        np.testing.assert_allclose(found.standard_error[both], expected.standard_error[both], rtol=0.02)
        for finding, value in expected.drift.items():
            np.testing.assert_allclose(found.drift[finding], value, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
def test_frames_stay_on_the_gpu(gpu, monkeypatch, tmp_path):
    """As on the stand-in, by CUDA's own count of copies. Catches: a copy that `to_host` does not see."""
    monkeypatch.setattr(exposure, "SAMPLES", 4)
    opu, shown = bench(64, gpu)
    there, saved = [], tmp_path / "t.h5"
    work(*bench(64, gpu), "phase-retrieval")  # compiles
    found = count_gpu(lambda: there.extend(work(opu, shown, "phase-retrieval")), tmp_path / "trace.json")
    assert max(found) <= 16 * ROWS
    there[1].save(saved)
    same(work(*bench(64), "phase-retrieval"), there, saved, gpu)
