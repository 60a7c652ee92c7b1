"""Feedback by a random matrix: a function of its seed, computed once."""

import pytest
import torch

from dfa import RandomFeedback, Ternary
from tests.dfa.feedback.test_encoding import errors


def test_random_feedback_is_a_function_of_its_seed():
    """The same seed gives the same matrix, another seed does not. Entries have variance 1/width (4 standard errors)."""
    e = errors()
    first, again, other = (RandomFeedback(seed)(e, [300, 200]) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    matrix = RandomFeedback(1).matrix(500, 10)
    assert abs(float(matrix.var()) - 1.0) < 4 * (2 / 5000) ** 0.5
    assert [s.shape for s in first] == [(64, 300), (64, 200)]


@pytest.mark.parametrize("shared", [True, False])
def test_the_matrix_is_converted_once(shared, monkeypatch):
    """To the error's type or device; again for a new seed or width. Catches: a conversion in each step."""
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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_matrix_must_be_finite(value):
    """Catches: a training that diverges at its first step."""
    with pytest.raises(ValueError, match="matrix must be finite"):
        RandomFeedback(matrix=[[value, 1.0]])


def test_a_state_of_another_encoder_is_refused():
    """Catches: a run that continues with another threshold."""
    state = RandomFeedback(0, Ternary(threshold=0.1)).state_dict()
    RandomFeedback(1, Ternary(threshold=0.1)).load_state_dict(state)
    for other in (None, Ternary(threshold=0.2), torch.sign):
        with pytest.raises(ValueError, match=r"state must be of .*, got that of Ternary\(threshold=0\.1"):
            RandomFeedback(0, other).load_state_dict(state)
