"""Training through a device elsewhere than on the host: nothing but single numbers comes back."""

import pytest
import torch

from calibration import measure_projection
from dfa import OpticalFeedback, Ternary
from photonics import presets
from photonics.backend import HOST
from tests.calibration.benches import METHODS, bench, calibrate
from tests.transfers import count_gpu, count_strict

CLASSES, ROWS, WIDTHS = 10, 24, [30, 40]


def feedback_on(backend, name, watch=False, moving=False):
    """Feedback through a device on a backend, calibrated there."""
    opu = bench("lab_bench", name, n_in=CLASSES if "complement" in name else 40)
    opu.backend = backend
    projection = calibrate(opu, name, n_inputs=CLASSES)
    feedback = OpticalFeedback(projection, Ternary(stochastic=1.0, pairs=True, restore=True), watch=watch)
    if moving:
        feedback._tracker.moves = True
    return feedback


def step(feedback, tick):
    """Signals of one step."""
    place = "cuda" if feedback.projection.on_device.backend.name == "cupy" else "cpu"
    error = torch.randn(ROWS, CLASSES, generator=torch.Generator().manual_seed(tick)).softmax(1) - 1.0 / CLASSES
    return torch.cat(feedback(error.to(place), WIDTHS), dim=1)


@pytest.mark.parametrize("name", METHODS)
def test_nothing_but_numbers_comes_back(monkeypatch, strict, name):
    """Signals are the host's; the tracker reads and follows. Catches: frames, codes or statistics that are copied."""
    for more in ({}, {"watch": True, "moving": True}):
        here, there = feedback_on(HOST, name, **more), feedback_on(strict, name, **more)
        step(there, 0), step(here, 0)  # constants of the calibration are uploaded once
        with monkeypatch.context() as patched:
            transfers = count_strict(patched)
            found = torch.stack([step(there, tick) for tick in range(1, 9)])
        assert not transfers.arrays
        expected = torch.stack([step(here, tick) for tick in range(1, 9)])
        apart = (found - expected).abs()
        assert (apart > 1e-3 * expected.std()).float().mean() <= 0.02
        assert apart.max() <= expected.std()
        assert there.frames == here.frames


def test_a_device_of_few_pixels(strict):
    """Fewer than the tracker watches. Catches: slices beyond the end, which the array API leaves open."""
    signals = []
    for backend in (HOST, strict):
        opu = presets.lab_bench(2 * CLASSES, 100, seed=1)
        opu.autoexpose()
        opu.backend = backend
        signals.append(step(OpticalFeedback(measure_projection(opu, n_inputs=CLASSES)), 0))
    assert (signals[1] - signals[0]).abs().max() <= signals[0].std()


@pytest.mark.gpu
@pytest.mark.parametrize("name", METHODS)
def test_nothing_but_numbers_comes_back_from_a_gpu(gpu, name, tmp_path):
    """As CUDA's profiler sees it. Catches: copies by cupy, numba or torch, and tensors that DLPack does not share."""
    feedback = feedback_on(gpu, name, watch=True)
    assert step(feedback, 0).is_cuda
    transfers = count_gpu(lambda: [step(feedback, tick) for tick in range(1, 4)], tmp_path / "trace.json")
    assert transfers
    assert not transfers.arrays
