"""Training on text: bits per character against known entropies, contexts by seed and step."""

import math

import pytest
import torch
from torch import nn

from dfa.data import Text
from dfa.data.text import split_text
from dfa.models import char_transformer
from dfa.training.language import bits_per_character, sample_contexts, train_text
from tests.dfa.networks import assert_function_of_seed, flat_weights


class Constant(nn.Module):
    """The same logits at every position."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x):
        return self.logits.expand(*x.shape, -1)


class Bigram(nn.Module):
    """Logits that depend on the last character."""

    def __init__(self, table):
        super().__init__()
        self.table = nn.Parameter(table)

    def forward(self, x):
        return self.table[x]


def periodic(length=3000):
    return split_text("period", "abcdefgh" * (length // 8))


def make(text, seed=0):
    return char_transformer(text.classes, 16, 32, 1, 2, seed)


def test_bits_of_a_uniform_guess():
    """Base-2 logarithm of the number of characters. Catches: nats."""
    numbers = torch.randint(0, 32, (5000,), generator=torch.Generator().manual_seed(0))
    assert bits_per_character(Constant([0.0] * 32), numbers, 20) == pytest.approx(5.0, abs=1e-5)


def test_bits_of_a_known_chain():
    """The exact model of a chain that stays with probability 0.9 has 0.469 bits, its entropy, within 4 standard errors.

    Catches: the character itself as the target, a position that is not counted.
    """
    generator = torch.Generator().manual_seed(1)
    numbers = (torch.rand(60_000, generator=generator) < 0.1).long().cumsum(0) % 2
    model = Bigram(torch.tensor([[0.9, 0.1], [0.1, 0.9]]).log())
    entropy = -(0.9 * math.log2(0.9) + 0.1 * math.log2(0.1))
    spread = math.sqrt(0.09) * math.log2(9)
    found = bits_per_character(model, numbers, 50, windows=1000)
    assert abs(found - entropy) < 4 * spread / math.sqrt(50_000)


def test_windows_reach_both_ends():
    """Catches: an end of the text that no evaluation reads."""
    seen = []

    class Watch(Constant):
        def forward(self, x):
            seen.append(x)
            return super().forward(x)

    bits_per_character(Watch([0.0] * 101), torch.arange(101), 10, windows=5)
    pieces = torch.cat(seen)
    assert pieces.shape == (5, 10)
    assert pieces[0, 0] == 0 and pieces[-1, -1] == 99


def test_contexts_are_followed_by_their_next_characters():
    """Every start is possible, the first and the last included; a function of seed and step.

    Catches: targets that are the inputs, an end that is never drawn.
    """
    numbers = torch.arange(40)
    x, y = sample_contexts(numbers, 30, 500, seed=0, step=1)
    assert x.shape == y.shape == (500, 30)
    assert torch.equal(y, x + 1)
    assert sorted({*x[:, 0].tolist()}) == list(range(10))
    assert torch.equal(x, sample_contexts(numbers, 30, 500, 0, 1)[0])
    assert not torch.equal(x, sample_contexts(numbers, 30, 500, 0, 2)[0])
    assert not torch.equal(x, sample_contexts(numbers, 30, 500, 1, 1)[0])


def test_a_period_is_learned():
    """From 3 bits to under 0.3; records at multiples of `every` and at the end. Catches: no steps, summed losses."""
    text = periodic()
    history = train_text(make(text), text, steps=70, every=30, context=16, learning_rate=1e-2, progress=False)
    assert [epoch.step for epoch in history] == [30, 60, 70]
    assert history[-1].validation < 0.3
    assert history[0].loss > history[1].loss > history[2].loss
    assert history[-1].loss / math.log(2) < 0.5


def test_a_run_is_a_function_of_its_seed():
    """The random state of torch is unchanged by a run. Catches: contexts from a global state."""
    text = periodic()

    def train(model, seed):
        train_text(model, text, steps=3, context=16, seed=seed, progress=False)

    assert_function_of_seed(lambda: make(text), train)


def test_a_learner_replaces_backpropagation():
    """It gets the loss and the model's output itself. Catches: a flattened copy, which a learner does not recognise."""
    given = []

    class Plain:
        def backward(self, loss, output):
            given.append(output.shape)
            loss.backward()

    text = periodic()
    model, other = make(text), make(text)
    train_text(model, text, steps=3, context=16, batch_size=4, progress=False)
    train_text(other, text, Plain(), steps=3, context=16, batch_size=4, progress=False)
    assert torch.equal(flat_weights(model), flat_weights(other))
    assert given == [(4, 16, 8)] * 3


def test_invalid_input_is_an_error():
    """Catches: training that continues with NaN; an empty range of starts."""
    text = periodic()
    with pytest.raises(ValueError, match="loss must be finite, got nan: training has diverged"):
        train_text(Constant([math.nan] * 8), text, steps=2, context=16, progress=False)
    with pytest.raises(ValueError, match="context must be 1 to 2 for a text of 3, got 3"):
        train_text(make(text), Text("short", text.train[:3], text.validation, "abc"), context=3, progress=False)
    with pytest.raises(ValueError, match="every must be positive, got 0"):
        train_text(make(text), text, every=0, progress=False)
