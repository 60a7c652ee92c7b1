"""Feedback through the device: any projection, graded codes, a drifting medium, calibration on a schedule, resuming."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from benchmarks.child import environment
from calibration import measure_projection
from calibration.fields.misfit import Misfit
from dfa import DirectFeedback, Graded, OpticalFeedback, RandomFeedback, Ternary
from dfa.models import mlp
from photonics import GaussianMedium, presets
from photonics.medium import Drifting
from tests.dfa.feedback.test_encoding import errors

CLASSES = 10


def ideal(n_out=300, **changes):
    opu = presets.ideal(2 * CLASSES, n_out, seed=0)
    opu = opu.replace(**changes) if changes else opu
    opu.autoexpose(0.2)  # so that no pixel saturates
    return opu


def bench(n_out=120, seed=0, **changes):
    opu = presets.lab_bench(2 * CLASSES, n_out, seed=seed).replace(**changes)
    opu.autoexpose()
    return opu


def recovered(projection, width):
    """Return the projection's matrix in the blocks' pixels, of unit variance, measured from frames."""
    matrix = projection.effective_matrix(repeats=4)[projection.valid] * np.sqrt(2 * projection.opu.n_in)
    if np.iscomplexobj(matrix):  # real and imaginary part of a pixel are two outputs
        matrix = np.stack([matrix.real, matrix.imag], axis=1).reshape(-1, matrix.shape[1])
    return torch.from_numpy(np.ascontiguousarray(matrix[:width]))


@pytest.mark.parametrize(
    ("method", "encoder", "tolerance"),
    [
        ("anchor", Ternary(relative=0.1, restore=True), 2e-3),
        ("phase-stepping", Ternary(threshold=0.05), 2e-3),
        ("phase-stepping", Graded(), 1e-2),
        ("multilateration", Ternary(stochastic=1.0), 5e-3),
    ],
)
def test_without_noise_the_device_is_random_feedback(method, encoder, tolerance):
    """Gradients of a network equal those of `RandomFeedback` with the recovered matrix, relative to their rms.

    Graded codes are rounded to 12 bits (2^-13 of full scale) and shown in as many planes, whose errors add up. Catches:
    imaginary parts left out or put after the real ones, the rows' scales lost, the scale of an entry by the root of 2.
    """
    reference = {"n_out": 300} if method == "phase-stepping" else {}
    opu = ideal(**reference)
    if method == "phase-stepping":
        arm = dataclasses.replace(opu.imaging.reference, intensity=1.0)
        opu = opu.replace(imaging=dataclasses.replace(opu.imaging, reference=arm))
        opu.exposure_s /= 8
    projection = measure_projection(opu, method=method, n_inputs=CLASSES, bits=12)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(32, 12, generator=generator), torch.arange(32) % CLASSES
    found = []
    feedbacks = OpticalFeedback(projection, encoder), RandomFeedback(0, encoder, matrix=recovered(projection, 230))
    for feedback in feedbacks:
        model = mlp([12, 130, 100, CLASSES], seed=1)
        learner = DirectFeedback(model, feedback=feedback)
        output = model(x)
        learner.backward(cross_entropy(output, y), output)
        found.append([p.grad for p in model.parameters()])
    for optical, exact in zip(*found, strict=True):
        assert (optical - exact).square().mean().sqrt() < tolerance * exact.square().mean().sqrt()


def test_complex_projections_have_two_outputs_per_pixel():
    """Catches: a capacity that is counted in pixels."""
    opu = ideal(60)
    opu = opu.replace(
        imaging=dataclasses.replace(opu.imaging, reference=dataclasses.replace(opu.imaging.reference, intensity=1.0))
    )
    opu.exposure_s /= 8
    feedback = OpticalFeedback(measure_projection(opu, method="phase-stepping", n_inputs=CLASSES))
    outputs = 2 * int(feedback.projection.valid.sum())
    assert [s.shape[1] for s in feedback(errors(4), [51, outputs - 51])] == [51, outputs - 51]
    with pytest.raises(ValueError, match=f"at least {outputs + 1} valid outputs"):
        feedback(errors(4), [outputs + 1])


def drifting(tau, seed=0):
    medium = Drifting(GaussianMedium(2 * CLASSES, 200, seed=seed), correlation_frames=tau)
    return bench(medium=medium)


def likeness(a, b):
    return float((a * b).sum() / (a.norm() * b.norm()))


def test_the_device_drifts_while_training_runs():
    """After two correlation times the same error gets another signal. Catches: a reset clock, a constant medium."""
    e = errors(40)
    for medium, low, high in (("drifting", -0.4, 0.4), ("still", 0.9, 1.0)):
        opu = drifting(3000.0) if medium == "drifting" else bench(200)
        feedback = OpticalFeedback(measure_projection(opu, n_inputs=CLASSES), Ternary(threshold=0.1))
        [first] = feedback(e, [150])
        opu.clock.advance(6000)
        [later] = feedback(e, [150])
        assert low < likeness(first, later) < high


def test_calibration_on_a_schedule_follows_the_drift():
    """After a drift, a re-measured projection is right and the old one is not. Catches: a schedule that is ignored."""
    e = errors(40)
    found = {}
    for every in (0, 2):
        opu = drifting(30_000.0)
        feedback = OpticalFeedback(
            measure_projection(opu, n_inputs=CLASSES), Ternary(threshold=0.1), recalibrate_every=every
        )
        feedback(e, [150]), feedback(e, [150])
        opu.clock.advance(30_000)
        [signal] = feedback(e, [150])
        matrix = opu.effective_matrix(tick=opu.clock.frames)
        anchor = matrix[:, CLASSES:].sum(axis=1)
        true = np.real(np.conj(anchor / np.abs(anchor))[:, None] * matrix[:, :CLASSES])[feedback._rows[:150]]
        found[every] = likeness(signal, feedback.encoder(e).float() @ torch.from_numpy(true.T).float())
        assert feedback.calibrations == (every > 0)
        assert feedback.statistics()["calibrations"] == feedback.calibrations
    assert found[2] > 0.9
    assert found[2] > found[0] + 0.05


@pytest.mark.parametrize("stop", [2, 3])
def test_a_resumed_run_repeats_its_last_calibration(stop):
    """Bit for bit with a drifting medium, stochastic codes and a schedule of 2 steps, stopped anywhere.

    Catches: a resumed run that keeps the first calibration, or repeats the last one with later frames.
    """

    def make():
        projection = measure_projection(drifting(2000.0), n_inputs=CLASSES)
        model = mlp([12, 20, 15, CLASSES], seed=1)
        feedback = OpticalFeedback(projection, Ternary(stochastic=1.0), recalibrate_every=2)
        return model, DirectFeedback(model, feedback=feedback), torch.optim.SGD(model.parameters(), 0.1)

    def run(parts, first, last):
        model, learner, optimiser = parts
        for k in range(first, last):
            generator = torch.Generator().manual_seed(k)
            x, y = torch.randn(16, 12, generator=generator), torch.arange(16) % CLASSES
            output = model(x)
            optimiser.zero_grad()
            learner.backward(cross_entropy(output, y), output)
            optimiser.step()

    whole, first, second = make(), make(), make()
    run(whole, 0, 6)
    run(first, 0, stop)
    second[0].load_state_dict(first[0].state_dict())
    second[1].load_state_dict(first[1].state_dict())
    run(second, stop, 6)
    assert all(torch.equal(a, b) for a, b in zip(whole[0].parameters(), second[0].parameters(), strict=True))
    assert whole[1].state_dict() == second[1].state_dict()


def test_a_rehearsal_neither_calibrates_nor_counts():
    feedback = OpticalFeedback(measure_projection(bench(), n_inputs=CLASSES), recalibrate_every=1)
    feedback(errors(), [50])
    before = feedback.state_dict(), feedback.statistics()
    with feedback.rehearsal():
        feedback(errors(8), [50])
        feedback(errors(8), [50])
    assert (feedback.state_dict(), feedback.statistics()) == before
    first = feedback.projection
    state = feedback.state_dict()
    feedback(errors(), [50])
    assert feedback.projection is not first
    feedback.load_state_dict(state)
    assert feedback.projection is first


def test_a_user_function_may_recalibrate():
    """It gets the device, and must return a projection like the first. Catches: a projection of another kind."""
    asked = []

    def again(opu):
        asked.append(opu)
        return measure_projection(opu, n_inputs=CLASSES, anchors=len(asked) + 1)

    opu = bench()
    projection = measure_projection(opu, n_inputs=CLASSES, anchors=2)
    feedback = OpticalFeedback(projection, recalibrate_every=1, recalibrate=again)
    feedback(errors(), [50]), feedback(errors(), [50])
    assert asked == [opu]
    with pytest.raises(ValueError, match="recalibrate must return a projection like"):
        feedback(errors(), [50])


def test_a_projection_is_measured_again_by_its_own_method():
    """With its settings, sign and phase. Catches: a second calibration by anchors; units that get other matrices."""
    for name, options in (("phase-stepping", {"steps": 3, "repeats": 4}), ("multilateration", {})):
        projection = measure_projection(bench(), name, n_inputs=CLASSES, **options)
        feedback = OpticalFeedback(projection, Ternary(threshold=0.1), recalibrate_every=1)
        [first] = feedback(errors(), [50])
        method = feedback.projection.method
        [second] = feedback(errors(), [50])
        assert feedback.calibrations == 1
        assert feedback.projection.method == method
        assert likeness(first, second) > 0.9


def test_units_keep_their_pixels_when_anchors_become_dark():
    """The first calibration assigns the pixels. Catches: a new assignment, which would give units other matrices."""
    feedback = OpticalFeedback(
        measure_projection(bench(), n_inputs=CLASSES), Ternary(threshold=0.1), recalibrate_every=1
    )
    [first] = feedback(errors(), [50])
    dark = int(feedback._rows[3])

    def darker(opu):
        new = measure_projection(opu, n_inputs=CLASSES)
        valid = new.valid.copy()
        valid[dark] = False
        return dataclasses.replace(new, valid=valid)

    feedback.recalibrate = darker
    [second] = feedback(errors(), [50])
    assert not second[:, 3].any()
    assert likeness(first[:, 4:], second[:, 4:]) > 0.9


def test_watching_measures_saturation_and_changes_no_signal():
    """Signal-to-noise agrees with the difference of two runs within 1.5 dB; saturation rises with the exposure."""
    opu = bench(200)
    feedback = OpticalFeedback(measure_projection(opu, n_inputs=CLASSES), Ternary(threshold=0.1))
    state, e = feedback.state_dict(), errors()
    [plain] = feedback(e, [150])
    assert feedback.statistics().keys() == {"rows", "shown", "nonzero", "frames", "frames_total", "calibrations"}
    [other] = feedback(e, [150])
    feedback.load_state_dict(state)
    feedback.watch = True
    [watched] = feedback(e, [150])
    assert torch.equal(plain, watched)
    seen = feedback.statistics()
    shown = plain.any(dim=1)
    noise = float((plain - other)[shown].square().mean()) / 2
    assert seen["snr_db"] == pytest.approx(10 * np.log10(float(plain[shown].square().mean()) / noise - 1), abs=1.5)
    assert seen["saturated"] < 0.02
    assert seen["frames_total"] == opu.clock.frames
    bright = bench(200, laser=dataclasses.replace(opu.laser, power_w=2.0))
    projection = measure_projection(bright, n_inputs=CLASSES)
    bright.exposure_s *= 8
    feedback = OpticalFeedback(projection, Ternary(threshold=0.1), watch=True)
    with pytest.warns(Misfit) as told:  # the anchor is that of another exposure; once, not in every step
        for _ in range(3):
            feedback(e, [150])
    assert len(told) == 1
    assert feedback.statistics()["saturated"] > 0.1


def test_a_dark_device_stops_training():
    """Catches: training with a feedback of zeros."""

    class Dark:
        def __init__(self, projection):
            self.projection = projection

        def __getattr__(self, name):
            return getattr(self.projection, name)

        def __call__(self, x, *observer):
            return 0.0 * self.projection(x)

    feedback = OpticalFeedback(measure_projection(bench(), n_inputs=CLASSES))
    feedback.projection = Dark(feedback.projection)
    model = mlp([12, 20, CLASSES])
    learner = DirectFeedback(model, feedback=feedback)
    output = model(torch.ones(4, 12))
    with pytest.raises(ValueError, match="feedback must be finite and not zero"):
        learner.backward(cross_entropy(output, torch.arange(4)), output)


def test_one_projection_serves_all_blocks():
    """Frames of a step do not grow with the number of blocks: two per binary half that is not empty."""
    counts = []
    for hidden in ([90], [30, 30, 30]):
        opu = bench()
        learner = DirectFeedback(
            mlp([12, *hidden, CLASSES], seed=0),
            feedback=OpticalFeedback(measure_projection(opu, n_inputs=CLASSES), Ternary(sign=True)),
        )
        before = opu.clock.frames
        output = learner.model(torch.ones(4, 12))
        learner.backward(cross_entropy(output, torch.arange(4)), output)
        counts.append(opu.clock.frames - before)
    assert counts == [16, 16]


def test_signals_have_the_type_of_the_error():
    """Catches: float32 in a float64 model."""
    feedback = OpticalFeedback(measure_projection(bench(), n_inputs=CLASSES))
    assert feedback(errors().double(), [20])[0].dtype == torch.float64


def test_a_frame_does_not_change_the_threads_of_torch():
    """Caught mutation: `numba.get_num_threads`, which starts numba's threads and sets the number of torch's."""
    code = (
        "import torch; from photonics import presets; "
        "presets.lab_bench(20, 40_000).dark(64); assert torch.get_num_threads() == 1"
    )
    threads = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment() | threads)


@pytest.fixture(scope="module")
def optical():
    opu = presets.lab_bench(20, 400, seed=0)
    opu.autoexpose()
    return OpticalFeedback(measure_projection(opu, n_inputs=10), Ternary(threshold=0.1))


def test_empty_errors_are_not_sent(optical):
    """A sample whose code is empty takes no frame and gets a feedback of zero; the others are unchanged."""
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


def test_noise_is_a_function_of_the_clock(optical):
    """The same frame numbers give the same noise; a rehearsal changes nothing."""
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


def test_a_state_of_another_device_is_refused():
    """Only its exposure may differ. Catches: a run that continues through another medium."""

    def feedback(**changes):
        opu = presets.lab_bench(20, 60, seed=1).replace(**changes)
        opu.autoexpose()
        return OpticalFeedback(measure_projection(opu, n_inputs=10))

    state = feedback().state_dict()
    other = feedback()
    other.projection.opu.exposure_s *= 0.9
    other.load_state_dict(state)
    for changes in ({"medium.seed": 5}, {"camera.bit_depth": 10}):
        with pytest.raises(ValueError, match="state must be of this device"):
            feedback(**changes).load_state_dict(state)


@pytest.mark.parametrize(
    "projection", [presets.lab_bench(20, 60), None, np.ones((60, 10))], ids=["device", "none", "array"]
)
def test_other_objects_are_refused_as_a_projection(projection):
    """Catches: a device instead of a projection, with Python's own message."""
    with pytest.raises(ValueError, match="projection must be the result of"):
        OpticalFeedback(projection)


def test_arguments_that_are_no_functions_are_refused(optical):
    """Catches: an error at the first call, or at the first recalibration hours later."""
    for arguments in ({"encoder": 3}, {"recalibrate": 3}):
        with pytest.raises(ValueError, match=f"{next(iter(arguments))} must be a function of the"):
            OpticalFeedback(optical.projection, **arguments)
