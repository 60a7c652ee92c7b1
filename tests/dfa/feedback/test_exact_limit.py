"""The limit of a device without noise: feedback through it converges to `RandomFeedback` with its matrix."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from calibration import measure_projection
from dfa import DirectFeedback, Graded, OpticalFeedback, RandomFeedback, Ternary
from dfa.models import mlp
from photonics import OPU, presets
from photonics.analysis.moments import noiseless_photons
from photonics.opu import NAMES
from tests.dfa.feedback.test_encoding import errors
from tests.dfa.networks import normal

CLASSES, WIDTHS = 10, [130, 100]


class Exact(OPU):
    """A device whose frames are their expected values: no photon noise, no rounding."""

    def measure(self, patterns, exposure_s=None, *, reference_phase=None):
        self.clock.advance(len(patterns))
        exposure_s = exposure_s or self.exposure_s
        photons, _ = noiseless_photons(self, patterns, exposure_s, reference_phase)
        return self.camera.offset + self.camera.signal(photons(0.0))

    def dark(self, count, exposure_s=None):
        return np.full((count, self.n_out), self.camera.offset)


def bench(**changes):
    opu = presets.ideal(2 * CLASSES, 300, seed=0).replace(**changes)
    opu.autoexpose(0.2)  # so that no pixel saturates
    return opu


def true_matrix(projection):
    """``sqrt(2 n_in) Re(conj(u) t)``, from the medium's entries and not from frames, in the pixels of the blocks."""
    matrix = projection.opu.effective_matrix().astype(np.complex128)
    anchor = matrix[:, CLASSES:].sum(axis=1)
    turned = np.real(np.conj(anchor / np.abs(anchor))[:, None] * matrix[:, :CLASSES])
    return torch.from_numpy(turned[projection.valid][: sum(WIDTHS)] * np.sqrt(2 * projection.opu.n_in))


def gradients(feedback):
    """Of all weights of a small network in float64."""
    model = mlp([12, *WIDTHS, CLASSES], seed=1).double()
    learner = DirectFeedback(model, feedback=feedback)
    output = model(normal(32, 12))
    learner.backward(cross_entropy(output, torch.arange(32) % CLASSES), output)
    return [p.grad for p in model.parameters()]


def test_without_noise_the_device_equals_its_matrix():
    """Gradients agree to 5e-5 of their rms, twice the observed error.

    The error is that of the codes: 16 bits give 4e-6 rms of a row's largest error, 1.5e-5 of its rms; float32.
    Catches: a matrix of another scale or sign, a unit that reads another pixel, a row's scale lost.
    """
    opu = bench()
    exact = Exact(**{name: getattr(opu, name) for name in NAMES})
    projection = measure_projection(exact, n_inputs=CLASSES, bits=16)
    optical = gradients(OpticalFeedback(projection, Graded()))
    wanted = gradients(RandomFeedback(matrix=true_matrix(projection)))
    for found, true in zip(optical, wanted, strict=True):
        assert (found - true).square().mean().sqrt() < 5e-5 * true.square().mean().sqrt()


def test_the_error_falls_as_the_root_of_the_photons():
    """A hundred times the light gives a tenth of the error, down to the rounding of 16 bits; as stated, within 5 %.

    Catches: noise that does not depend on the light, an error that is not due to noise.
    """
    found, e = [], errors(60).double()
    for well in (1e4, 1e6, 1e8):
        opu = bench(**{"camera.full_well_e": well, "laser.power_w": 1e-8 * well})
        projection = measure_projection(opu, n_inputs=CLASSES, repeats=256, bits=16)
        feedback = OpticalFeedback(projection, Graded(), watch=True)
        optical, exact = (
            torch.cat(f(e, WIDTHS), 1) for f in (feedback, RandomFeedback(matrix=true_matrix(projection)))
        )
        found.append(float((optical - exact).norm() / exact.norm()))
        assert found[-1] == pytest.approx(10 ** (-feedback.statistics()["snr_db"] / 20), rel=0.05)
    assert np.array(found[:-1]) / found[1:] == pytest.approx([10, 10], rel=0.1)


def test_ternary_codes_go_through_the_exact_matrix():
    """On `ideal` the optical signal equals the ternary code times the device's own matrix, to 1e-3 of its rms.

    Caught mutations: sign of the negative frame, rows not restricted to valid anchors.
    """
    opu = presets.ideal(20, 400, seed=0)
    opu.autoexpose(0.2)  # so that no pixel saturates
    projection = measure_projection(opu, n_inputs=10)
    encoder = Ternary(threshold=0.1)
    e = errors()
    signals = OpticalFeedback(projection, encoder)(e, [200, 150])
    matrix = opu.effective_matrix()
    anchor = matrix[:, 10:].sum(axis=1)
    true = np.real(np.conj(anchor / np.abs(anchor))[:, None] * matrix[:, :10])[projection.valid] * np.sqrt(40)
    exact = (encoder(e).double() @ torch.from_numpy(true.T)).split([200, 150, len(true) - 350], dim=1)
    for found, wanted, width in zip(signals, exact, (200, 150), strict=False):
        wanted = wanted / width**0.5
        error, rms = found - wanted, wanted.square().mean().sqrt()
        assert error.square().mean().sqrt() < 1e-3 * rms
        assert error.abs().max() < 2e-2 * rms  # rows whose anchor is just bright enough
        assert abs(float(wanted.var()) / float(encoder(e).double().square().sum(1).mean()) * width - 1) < 0.4
