"""Encoders and sources of feedback: the device's equals the exact one in the limit, and is gated."""

import numpy as np
import pytest
import torch

from calibration import measure_projection
from dfa import OpticalFeedback, RandomFeedback, Ternary
from photonics import presets


def errors(batch=64, classes=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(batch, classes, generator=generator)
    labels = torch.randint(0, classes, (batch,), generator=generator)
    return torch.softmax(logits, 1) - torch.nn.functional.one_hot(labels, classes)


def test_fixed_threshold():
    code = Ternary(threshold=0.25)(torch.tensor([[0.3, -0.3, 0.25, -0.2, 0.0]]))
    assert code.dtype == torch.int8
    assert code.tolist() == [[1, -1, 0, 0, 0]]


def test_batch_deviation_threshold_has_no_scale():
    """The code is that of any multiple of the error. Caught mutation: a threshold that ignores the deviation."""
    e = errors()
    code = Ternary(deviations=1.5)(e)
    assert torch.equal(code, Ternary(deviations=1.5)(1e-3 * e))
    assert torch.equal(code, (e.sign() * (e.abs() > 1.5 * e.std(correction=0))).to(torch.int8))
    assert Ternary() == Ternary(deviations=1.0)


@pytest.mark.parametrize(
    "bad", [{"threshold": -1}, {"deviations": float("nan")}, {"threshold": 0.1, "deviations": 1.0}]
)
def test_bad_thresholds(bad):
    with pytest.raises(ValueError, match=r"threshold|deviations"):
        Ternary(**bad)


def test_a_diverged_error_is_refused():
    with pytest.raises(ValueError, match="error must be finite"):
        Ternary()(torch.tensor([[float("nan"), 0.0]]))


def test_random_feedback_is_a_function_of_its_seed():
    """Same seed, same matrix, entries of variance 1/width (4 standard errors); another seed, another one."""
    e = errors()
    first, again, other = (RandomFeedback(seed)(e, [300, 200]) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    matrix = RandomFeedback(1).matrix(500, 10)
    assert abs(float(matrix.var()) - 1.0) < 4 * (2 / 5000) ** 0.5
    assert [s.shape for s in first] == [(64, 300), (64, 200)]


@pytest.mark.parametrize("shared", [True, False])
def test_the_matrix_is_moved_once(shared, monkeypatch):
    """To the error's type or device, not in every step; a new seed or width counts. Catches: an upload each step."""
    feedback, moves, move = RandomFeedback(1, shared=shared), [], torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *to: moves.append(len(tensor)) or move(tensor, *to))
    e = errors().double()
    first = feedback(e, [30, 20])
    count = len(moves)
    again = feedback(e, [30, 20])
    assert [n for n in moves[count:] if n != len(e)] == []
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert [s.shape[1] for s in feedback(e, [40, 20])] == [40, 20]
    feedback.load_state_dict(feedback.state_dict() | {"seed": 2})
    expected = RandomFeedback(2, shared=shared)(e, [30, 20])
    assert all(torch.equal(a, b) for a, b in zip(feedback(e, [30, 20]), expected, strict=True))


@pytest.fixture(scope="module")
def optical():
    opu = presets.lab_bench(20, 400, seed=0)
    opu.autoexpose()
    return OpticalFeedback(measure_projection(opu, n_inputs=10), Ternary(threshold=0.1))


def test_without_noise_the_device_is_an_exact_matrix():
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


def test_empty_errors_are_not_sent(optical):
    """A sample whose code is empty takes no frame and gets exactly no feedback, the others are as usual."""
    e = errors()
    e[5:] *= 1e-4
    clock = optical.projection.opu.clock
    start = clock.frames
    (signal,) = optical(e, [300])
    code = optical.encoder(e)
    shown = int((code > 0).any(1).sum() + (code < 0).any(1).sum())
    assert clock.frames - start == shown * optical.projection.frames_per_vector
    assert not signal[5:].any()
    assert signal[:5].abs().sum() > 0


def test_noise_follows_the_clock(optical):
    """The same frames give the same noise; looking in a rehearsal changes nothing."""
    e = errors()
    state = optical.state_dict()
    (first,) = optical(e, [100])
    optical.load_state_dict(state)
    with optical.rehearsal():
        (rehearsed,) = optical(e, [100])
    (again,) = optical(e, [100])
    (next_one,) = optical(e, [100])
    assert torch.equal(first, rehearsed)
    assert torch.equal(first, again)
    assert not torch.equal(first, next_one)


def test_optical_signal_to_noise(optical):
    """Through lab_bench, against the exact projection: better than 10 dB, worse than 40."""
    e = errors()
    (first,), (second,) = optical(e, [300]), optical(e, [300])
    noise = float((first - second).var()) / 2
    snr = 10 * np.log10(float(first.var()) / noise - 1)
    assert 10 < snr < 40


def test_a_device_that_does_not_fit_is_refused(optical):
    with pytest.raises(ValueError, match="as many inputs as the error has entries"):
        optical(errors(classes=9), [100])
    with pytest.raises(ValueError, match="at least 400 valid outputs"):
        optical(errors(), [400])


def test_a_state_of_another_encoder_is_refused():
    """Catches: a run that goes on with another threshold than it began with."""
    state = RandomFeedback(0, Ternary(threshold=0.1)).state_dict()
    RandomFeedback(1, Ternary(threshold=0.1)).load_state_dict(state)
    for other in (None, Ternary(threshold=0.2), torch.sign):
        with pytest.raises(ValueError, match=r"state belongs to feedback with encoder Ternary\(threshold=0\.1"):
            RandomFeedback(0, other).load_state_dict(state)


def test_a_state_of_another_device_is_refused():
    """Its exposure may differ, as one that is set again does. Catches: a run that goes on through another medium."""

    def feedback(**changes):
        opu = presets.lab_bench(20, 60, seed=1).replace(**changes)
        opu.autoexpose()
        return OpticalFeedback(measure_projection(opu, n_inputs=10))

    state = feedback().state_dict()
    other = feedback()
    other.projection.opu.exposure_s *= 0.9
    other.load_state_dict(state)
    for changes in ({"medium.seed": 5}, {"camera.bit_depth": 10}):
        with pytest.raises(ValueError, match="through another device"):
            feedback(**changes).load_state_dict(state)


@pytest.mark.parametrize(
    "projection", [presets.lab_bench(20, 60), None, np.ones((60, 10))], ids=["device", "none", "array"]
)
def test_what_is_no_projection_is_refused(projection):
    """Catches: a device in place of a projection through it, told by Python's own message."""
    with pytest.raises(ValueError, match="projection must be the result of"):
        OpticalFeedback(projection)
