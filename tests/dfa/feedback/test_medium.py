"""Feedback through a medium: the parts of its matrix, of any size."""

import math
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from dfa import DirectFeedback, MediumFeedback, Ternary
from dfa.feedback import medium
from dfa.models import mlp
from photonics import GaussianMedium, ScatteringLayers
from photonics.backend import HOST, Backend
from tests.dfa.feedback.test_encoding import errors

MEDIA = [GaussianMedium(10, 120, seed=2), ScatteringLayers(10, 120, seed=2, layers=4)]


@pytest.mark.parametrize("medium", MEDIA, ids=lambda medium: type(medium).__name__)
@pytest.mark.parametrize("encoder", [None, Ternary(stochastic=1.0, pairs=True)], ids=["dense", "sparse"])
def test_signals_are_products_with_the_parts_of_the_matrix(medium, encoder):
    """Real and imaginary parts side by side, with variance 1/width. Catches: the scale of the code left out."""
    e = errors(20)
    signals = MediumFeedback(medium, encoder)(e, [101, 90])
    parts = torch.view_as_real(torch.from_numpy(medium.block(slice(None), slice(None)).T.copy())).flatten(1)
    code = e if encoder is None else math.prod(encoder(e, 0))
    expected = (code @ parts * math.sqrt(20)).split([101, 90, 49], dim=1)
    torch.testing.assert_close(signals[0], expected[0] / 101**0.5, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(signals[1], expected[1] / 90**0.5, rtol=1e-4, atol=1e-6)


def test_a_network_learns_through_layers():
    """The gradient of a hidden layer follows B. Catches: signals that share memory, or are on the wrong scale."""
    model = mlp([6, 40, 30, 10])
    learner = DirectFeedback(model, feedback=MediumFeedback(MEDIA[1]))
    output = model(torch.randn(8, 6, generator=torch.Generator().manual_seed(0)))
    learner.backward(torch.nn.functional.cross_entropy(output, torch.arange(8)), output)
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


def test_the_gpu_is_that_of_the_signals(monkeypatch):
    """A product of a code on GPU 1 is computed there; without cupy, on the host. Catches: GPU 0 for every tensor."""
    tensor = SimpleNamespace(is_cuda=True, device=torch.device("cuda", 1))
    with monkeypatch.context() as patched:
        patched.setattr(medium, "find_backend", lambda name: name)
        assert medium.backend_for(tensor) == "cuda:1"
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert medium.backend_for(tensor) == medium.backend_for(torch.ones(1)) == HOST
    gpu = Backend(SimpleNamespace(__name__="array_api_compat.cupy"), nullcontext(7))
    with gpu.selected() as chosen, HOST.selected():
        assert chosen == 7


def test_wrong_media_and_states_are_refused():
    with pytest.raises(ValueError, match="medium must be a medium of photonics"):
        MediumFeedback(3)
    feedback = MediumFeedback(MEDIA[0])
    with pytest.raises(ValueError, match=r"as many inputs as the error has entries \(7\), got 10"):
        feedback(torch.ones(2, 7), [20])
    with pytest.raises(ValueError, match="at least 150 outputs for 300 units, got 120"):
        feedback(torch.ones(2, 10), [200, 100])
    state = feedback.state_dict()
    MediumFeedback(MEDIA[0]).load_state_dict(state)
    with pytest.raises(ValueError, match="through this medium, got that of another"):
        MediumFeedback(MEDIA[1]).load_state_dict(state)
