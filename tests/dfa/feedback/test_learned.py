"""Feedback that learns: exact where it can be, counted, saved, and independent of the noise of a code."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from calibration import measure_projection
from dfa import DirectFeedback, KolenPollack, LeastSquares, OpticalFeedback, RandomFeedback, Ternary, train
from dfa.data import Dataset
from dfa.models import mlp
from photonics import presets
from tests.dfa.feedback.test_encoding import errors

PAIRS = Ternary(stochastic=1.0, pairs=True)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("pixels", [10, 24])
def test_least_squares_finds_a_linear_map(pixels):
    """Gradients ``M e``: the signals are the gradients, to the ridge. Catches: an average of the wrong length."""
    feedback, e, m = LeastSquares(RandomFeedback(0), pixels, ridge=1e-6), errors(300), normal(7, 10)
    feedback.learn(e, [e @ m.T])
    torch.testing.assert_close(feedback(e, [7])[0], e @ m.T, rtol=0, atol=1e-2)
    for step in range(1, 21):
        assert feedback.due == (step % 20 == 0)
        feedback(e, [7])


def test_a_fit_on_the_exact_error_is_better():
    """Ternary codes of 64 rows: less than 0.7 of the excess over the least mean square error of any matrix.

    The least error is that of a matrix fitted on the 64 000 draws that test all matrices. Catches: the noise of the
    code in the averages.
    """
    e, m, excess = errors(64), normal(7, 10), {True: 0.0, False: 0.0}
    many = torch.cat([e] * 1000)
    for seed in range(5):
        u = RandomFeedback(seed, PAIRS)(many, [12])[0]
        best = torch.linalg.lstsq(u, many @ m.T).solution
        for exact in excess:
            source = RandomFeedback(seed, Ternary(stochastic=1.0, pairs=True, seed=1 + seed))
            feedback = LeastSquares(source, 12, exact=exact, ridge=1e-3)
            feedback.learn(e, [e @ m.T])
            excess[exact] += float((u @ (feedback._matrices[0].T - best)).square().mean())
    assert excess[True] < 0.7 * excess[False]


def test_kolen_pollack_follows_its_equation():
    """Two steps, by hand. Catches: outputs or signals with their mean; the sign."""
    feedback, h = KolenPollack(RandomFeedback(0), 6, decay=0.1), [normal(64, 7, seed=s) for s in (1, 2)]
    q, source = torch.zeros(7, 6), RandomFeedback(0)
    for step in range(2):
        e = errors(seed=step)
        u = source(e, [6])[0]
        q = 0.9 * q - (h[step] - h[step].mean(0)).T @ u / 64
        feedback.learn(e, [h[step]])
        (signal,) = feedback(e, [7])
        torch.testing.assert_close(signal, u @ q.T - (u @ q.T).mean(0), rtol=1e-4, atol=1e-6)


def data():
    x = normal(240, 12)
    y = (x @ normal(12, 4, seed=1)).argmax(1)
    return Dataset("drawn", (x[:160], y[:160]), (x[160:200], y[160:200]), (x[200:], y[200:]), 4)


def through_bench():
    opu = presets.lab_bench(8, 60, seed=0)
    opu.autoexpose()
    return OpticalFeedback(measure_projection(opu, n_inputs=4), PAIRS)


KINDS = {
    "least squares": lambda: LeastSquares(through_bench(), 12, every=3, repeats=2),
    "kolen-pollack": lambda: KolenPollack(RandomFeedback(0, PAIRS), 12, draws=2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_has_the_same_weights(kind, tmp_path):
    """Bit for bit, through the device. Catches: matrices, averages or counters that a checkpoint leaves out."""
    found = []
    for stops in ([2], [1, 2]):
        for epochs in stops:
            model = mlp([12, 10, 9, 4], seed=1)
            feedback = KINDS[kind]()
            train(
                model, data(), DirectFeedback(model, feedback=feedback), epochs=epochs, batch_size=40, align=20,
                folder=tmp_path / str(len(stops)), resume=epochs > 1, progress=False,
            )  # fmt: skip
        found.append([*model.parameters(), torch.tensor([feedback.products, feedback.frames, feedback.steps])])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert feedback.products > 0


def test_costs_are_counted():
    """Products of a step and of a fit, and the bytes of all matrices. Catches: a fit that costs nothing."""
    feedback, e = LeastSquares(RandomFeedback(0), 6), errors(64)
    targets = [normal(64, 7), normal(64, 5)]
    feedback.learn(e, targets)
    fit = feedback.products
    assert fit == 64 * 10 * 6 + 2 * 64 * 36 + sum(6 * (64 * n + 6 * (n + 6)) for n in (7, 5))
    feedback(e, [7, 5])
    assert feedback.products == fit + 64 * 6 * 12
    assert feedback.bytes == 4 * (2 * 12 * 6 + 2 * 36 + 60)
    assert feedback.statistics()["products"] == feedback.products


def test_a_rehearsal_learns_nothing():
    """Catches: alignment that changes a run."""
    feedback, e = LeastSquares(RandomFeedback(0), 6), errors(64)
    feedback.learn(e, [normal(64, 7)])
    before = feedback.state_dict()
    with feedback.rehearsal():
        assert not feedback.due
        feedback.learn(errors(seed=1), [normal(64, 7, seed=1)])
        feedback(errors(seed=1), [7])
    after = feedback.state_dict()
    assert torch.equal(before.pop("tensors")["matrices"][0], after.pop("tensors")["matrices"][0])
    assert before == after


def test_learned_feedback_comes_close_to_the_gradient():
    """Cosine to the gradient of the first hidden layer: over 0.9 with the fit, under 0.5 with fixed feedback.

    Catches: targets of another block; a fit that is never used.
    """
    cosines = {}
    for name, feedback in {"fixed": RandomFeedback(0), "fit": LeastSquares(RandomFeedback(0), 16, every=2)}.items():
        torch.manual_seed(0)
        model, x = mlp([12, 40, 40, 4], seed=0), normal(200, 12)
        y = (x @ normal(12, 4, seed=1)).argmax(1)
        learner = DirectFeedback(model, feedback=feedback)
        for _ in range(3):
            output = model(x)
            model.zero_grad()
            learner.backward(cross_entropy(output, y), output)
        found = model[0].weight.grad.clone()
        model.zero_grad()
        with learner.connected():
            cross_entropy(model(x), y).backward()
        cosines[name] = float(torch.cosine_similarity(found.flatten(), model[0].weight.grad.flatten(), dim=0))
    assert cosines["fit"] > 0.9 > 0.5 > cosines["fixed"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LeastSquares(torch.sign), "source must be OpticalFeedback, RandomFeedback or MediumFeedback, got"),
        (lambda: LeastSquares(RandomFeedback(0), 0), "pixels must be"),
        (lambda: LeastSquares(RandomFeedback(0), draws=0), "draws must be"),
        (lambda: LeastSquares(RandomFeedback(0), rate=0), "rate must be over 0"),
        (lambda: LeastSquares(RandomFeedback(0), ridge=-1), "ridge must be over 0"),
        (lambda: LeastSquares(RandomFeedback(0), every=0), "every must be"),
        (lambda: KolenPollack(RandomFeedback(0), decay=2), "decay must be over 0"),
        (lambda: [f := KolenPollack(RandomFeedback(0), 6), f(errors(), [5]), f(errors(), [6])], r"first call, \[5\]"),
        (
            lambda: KolenPollack(RandomFeedback(0), 6).load_state_dict(KolenPollack(RandomFeedback(0), 5).state_dict()),
            "with pixels 6, got one with 5",
        ),
        (
            lambda: DirectFeedback(mlp([4, 3, 2]), feedback=KolenPollack(RandomFeedback(0)), diffuse=torch.eye(4)),
            "diffuse must be None for feedback that learns",
        ),
        (
            lambda: KolenPollack(RandomFeedback(0)).load_state_dict(LeastSquares(RandomFeedback(0)).state_dict()),
            "with variant 'kolen-pollack', got one with 'least squares'",
        ),
    ],
)  # fmt: skip
def test_wrong_use_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
