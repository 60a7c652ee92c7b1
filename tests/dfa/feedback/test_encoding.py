"""Encoders: codes equal their definitions, follow the error, and are unbiased where this is stated."""

import pytest
import torch

from dfa import Graded, RandomFeedback, Ternary
from dfa.feedback.encoding import encode


def errors(batch=64, classes=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(batch, classes, generator=generator)
    labels = torch.randint(0, classes, (batch,), generator=generator)
    return torch.softmax(logits, 1) - torch.nn.functional.one_hot(labels, classes)


POLICIES = [
    Ternary(deviations=1.0),
    Ternary(threshold=0.1, restore=True),
    Ternary(relative=0.3, restore=True),
    Ternary(stochastic=1.0),
    Ternary(stochastic=1.0, pairs=True, restore=True),
    Ternary(sign=True),
]
every_policy = pytest.mark.parametrize("policy", POLICIES, ids=str)


@every_policy
def test_codes_are_ternary_and_follow_the_sign(policy):
    e = errors()
    code, scale = encode(policy, e, 0)
    assert code.dtype == torch.int8
    assert code.shape == e.shape
    assert set(code.unique().tolist()) <= {-1, 0, 1}
    assert bool((code * e >= 0).all())
    assert scale is None or scale.shape == (len(e), 1)


@every_policy
def test_rows_without_an_error_are_empty_and_change_no_other(policy):
    """Catches: the deviation taken over nodes that are not in the loss; a row of zeros divided by its maximum."""
    e = errors()
    padded = torch.cat([e, torch.zeros(1000, 10)])
    (code, scale), (other, other_scale) = encode(policy, e, 3), encode(policy, padded, 3)
    assert torch.equal(code, other[:64])
    assert not other[64:].any()
    if scale is not None:
        assert torch.equal(scale, other_scale[:64])
        assert bool(torch.isfinite(other_scale).all())
    empty, _ = encode(policy, torch.zeros(3, 10), 0)
    assert not empty.any()


def test_fixed_threshold():
    code = Ternary(threshold=0.25)(torch.tensor([[0.3, -0.3, 0.25, -0.2, 0.0]]))
    assert code.dtype == torch.int8
    assert code.tolist() == [[1, -1, 0, 0, 0]]


def test_batch_deviation_threshold_has_no_scale():
    """Any multiple of the error has the same code. Caught mutation: a threshold that ignores the deviation."""
    e = errors()
    code = Ternary(deviations=1.5)(e)
    assert torch.equal(code, Ternary(deviations=1.5)(1e-3 * e))
    assert torch.equal(code, (e.sign() * (e.abs() > 1.5 * e.std(correction=0))).to(torch.int8))


def test_the_default_is_unbiased_pairs():
    """Of any size of the error, with a scale for each row. Catches: a default that a ReLU network cannot learn from."""
    assert Ternary() == Ternary(stochastic=1.0, pairs=True, restore=True)
    e = 1e-3 * errors(2000)
    code, scale = Ternary()(e)
    assert bool((code.abs().sum(1) == 2).all())
    assert bool((code.sum(1) == 0).all())
    torch.testing.assert_close(scale, e.clamp(min=0).sum(1, keepdim=True), rtol=1e-4, atol=1e-9)


def test_relative_threshold():
    """Catches: the maximum of the batch instead of the row's."""
    e = torch.tensor([[0.5, -0.2, 0.1], [0.05, -0.02, 0.01]])
    assert Ternary(relative=0.3)(e).tolist() == [[1, -1, 0], [1, -1, 0]]
    assert Ternary(relative=0.0)(e).tolist() == [[1, -1, 1], [1, -1, 1]]


def test_a_restored_scale_is_optimal():
    """No other scale brings the code closer to the error. Catches: the row's maximum as the scale."""
    e = errors()
    code, scale = Ternary(relative=0.3, restore=True)(e)
    best = (e * code).sum(1) / code.square().sum(1)
    torch.testing.assert_close(scale[:, 0], best)
    smaller, smaller_scale = Ternary(relative=0.3, restore=True)(1e-3 * e)
    assert torch.equal(code, smaller)
    torch.testing.assert_close(smaller_scale, 1e-3 * scale)


@pytest.mark.parametrize(
    "policy",
    [
        Ternary(stochastic=2.0),
        Ternary(stochastic=1.0, restore=True),
        Ternary(stochastic=1.0, pairs=True),
        Ternary(stochastic=1.0, pairs=True, restore=True),
    ],
)
def test_stochastic_codes_are_unbiased(policy):
    """Mean over 4000 calls against the error, in standard errors of a three-valued draw; 5 of them for 640 entries.

    Catches: codes without a scale; a probability proportional to the square; the same numbers in every call.
    """
    e, calls = errors(), 4000
    total = torch.zeros_like(e)
    for tick in range(calls):
        code, scale = policy(e, tick)
        total += code * scale
    variance = e.abs() * scale - e**2
    rare = variance * calls < 30 * scale**2  # probabilities near 0 or 1 are not normal: tested together
    error = (total / calls - e)[~rare] / (variance[~rare] / calls).sqrt()
    assert error.abs().max() < 5
    together = (total / calls - e)[rare].sum() / (variance[rare].sum().clamp_min(1e-9) / calls).sqrt()
    assert together.abs() < 5


@pytest.mark.parametrize("restore", [False, True])
def test_pairs_have_one_entry_of_each_sign(restore):
    """Errors that sum to zero give balanced codes, so that an offset of the device cancels in each code.

    Catches: a separate draw for each sign; several entries of one sign.
    """
    e = errors(2000)
    e[:, 0] -= e.sum(1)  # to the last bit
    code, _ = Ternary(stochastic=1.0, pairs=True, restore=restore)(e)
    plus, minus = (code > 0).sum(1), (code < 0).sum(1)
    assert set(plus.tolist()) == ({1} if restore else {0, 1})
    assert (plus == minus).float().mean() > 0.999  # sums of one sign differ by rounding


def test_pairs_are_unbiased_for_several_heads():
    """Errors of two heads side by side, whose entries of one sign add up to more than 1; in standard errors, 5 of them.

    Caught mutation: a scale of `stochastic` for every row, with which the second head is almost never drawn.
    """
    e, calls = torch.cat([errors(), errors(seed=1)], dim=1), 4000
    codes = [Ternary(stochastic=1.0, pairs=True)(e, tick) for tick in range(calls)]
    scale = codes[0][1]
    mean = torch.stack([code * scale for code, _ in codes]).mean(0)
    assert scale.max() > 1.5
    assert ((mean - e).abs() < 5 * (scale * (e.abs() + 1e-3) / calls).sqrt()).all()


def test_stochastic_draws_are_functions_of_seed_and_call():
    e = errors()
    first, again, later, other = (
        Ternary(stochastic=1.0, seed=seed)(e, tick)[0] for seed, tick in ((1, 5), (1, 5), (1, 6), (2, 5))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert not torch.equal(first, other)


def test_resumed_stochastic_feedback_continues_its_sequence():
    """Catches: a counter of calls that is not in the state, or changes in a rehearsal."""
    e = errors()
    feedback = RandomFeedback(3, Ternary(stochastic=0.5))
    for _ in range(4):
        feedback(e, [20])
    state = feedback.state_dict()
    with feedback.rehearsal():
        feedback(e, [20])
    [expected] = feedback(e, [20])
    resumed = RandomFeedback(0, Ternary(stochastic=0.5))
    resumed.load_state_dict(state)
    assert torch.equal(resumed(e, [20])[0], expected)
    assert not torch.equal(feedback(e, [20])[0], expected)


def test_graded_codes_restore_the_error():
    e = errors()
    e[3] = 0.0
    values, scale = Graded()(e)
    torch.testing.assert_close(values * scale, e)
    assert values.abs().max() == 1.0
    assert not values[3].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": -1}, "threshold must be"),
        ({"deviations": float("nan")}, "deviations must be"),
        ({"stochastic": 0.0}, "stochastic must be greater than 0"),
        ({"relative": 1.0}, "relative must be less than 1"),
        ({"relative": 0.1, "sign": True}, "exclude each other, got relative=0.1, sign=True"),
        ({"stochastic": 1.0, "threshold": 0.1}, "exclude each other"),
        ({"threshold": 0.1, "pairs": True}, "pairs must be used with stochastic"),
        ({"stochastic": 1.0, "seed": -1}, "seed must be"),
    ],
)
def test_bad_policies(arguments, message):
    with pytest.raises(ValueError, match=message):
        Ternary(**arguments)


@pytest.mark.parametrize("policy", [Ternary(), Graded()], ids=str)
def test_a_diverged_error_is_refused(policy):
    with pytest.raises(ValueError, match="error must be finite"):
        encode(policy, torch.tensor([[float("nan"), 0.0]]), 0)


def test_statistics_of_the_last_step():
    """Catches: shares over the rows shown; counters of the rows before last."""
    feedback = RandomFeedback(0, Ternary(threshold=0.5))
    assert feedback.statistics() == {}
    feedback(torch.tensor([[0.9, -0.9, 0.1, 0.0], [0.1, 0.1, 0.0, 0.0], [0.6, 0.0, 0.0, 0.0]]), [8])
    assert feedback.statistics() == {"rows": 3, "shown": 2, "nonzero": 3 / 12}
