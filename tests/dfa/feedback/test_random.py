"""Feedback by a random matrix: a function of its seed, computed once."""

import tracemalloc

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


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("encoder", [None, Ternary(stochastic=1.0, pairs=True, restore=True)], ids=["dense", "sparse"])
def test_streamed_feedback_equals_stored_bit_for_bit(shared, encoder):
    """Also a row alone, and a wider network's first block. B has unit variance (4 standard errors).

    Catches: entries that depend on the width or the batch; one matrix for all blocks; a scale that is left out.
    """
    e = errors(9)
    stored, streamed = (RandomFeedback(3, encoder, shared, storage=kind) for kind in ("stored", "streamed"))
    for widths in ([301, 200], [301, 1200]):
        found = stored(e, widths), streamed(e, widths)
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    unit = RandomFeedback(3, None, shared, storage="streamed")
    whole = unit(torch.eye(10), [500, 500])
    assert torch.equal(unit(torch.eye(10)[4:5], [500, 200])[0], whole[0][4:5])
    assert abs(500 * float(whole[1].square().mean()) - 1.0) < 4 * (2 / 5000) ** 0.5
    assert abs(float((whole[0] * whole[1]).mean())) * 500 < 4 * 5000**-0.5


def test_streamed_feedback_needs_no_memory_beyond_the_signals():
    """A matrix of 400 MB, for signals of 4 MB: at most 16 MB. Catches: a matrix that is drawn as a whole."""
    e = torch.zeros(1, 100)
    e[0, [3, 50]] = torch.tensor([0.5, -0.5])
    feedback = RandomFeedback(0, storage="streamed")
    feedback(e, [1000])
    tracemalloc.start()
    (signal,) = feedback(e, [10**6])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6
    assert abs(1e6 * float(signal.square().mean()) / 0.5 - 1.0) < 4 * (2 / 1e6) ** 0.5


def test_a_stored_matrix_is_drawn_in_parts():
    """At most 2.5 times its memory; the same entries as at once. Catches: 8 bytes of indices for each entry."""
    from photonics import draws
    from photonics.random import Stream

    tracemalloc.start()
    matrix = RandomFeedback(5).matrix(2**18, 16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * 4 * matrix.numel() + 8 * 2**20 * 4
    edge = range(2**20 - 2, 2**20 + 2)
    assert matrix.flatten()[list(edge)].tolist() == draws.normals(5, Stream.FEEDBACK, list(edge), 0).tolist()


def test_a_matrix_beyond_the_counter_is_refused():
    """Catches: entries that repeat after 2**32, silently."""
    with pytest.raises(ValueError, match=r'at most 2\*\*32 entries, got 500000000 x 10: use .*storage="streamed"'):
        RandomFeedback(0).matrix(500_000_000, 10)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"storage": "disk"}, "storage must be"),
        ({"storage": "stored", "matrix": [[1.0]]}, "storage must be left out"),
    ],
)
def test_wrong_storage_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        RandomFeedback(0, **wrong)


def test_a_state_of_the_other_matrix_is_refused():
    """Catches: a run that goes on with another B, since storage and no storage draw different ones."""
    state = RandomFeedback(0).state_dict()
    with pytest.raises(ValueError, match="with storage, got that of feedback without storage"):
        RandomFeedback(0, storage="streamed").load_state_dict(state)
    RandomFeedback(1, storage="stored").load_state_dict(RandomFeedback(0, storage="streamed").state_dict())
