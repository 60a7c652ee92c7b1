"""Does the light pay with thousands of classes? ``python -m benchmarks.many_classes --seeds 3``.

The next of 4096 words of tiny Shakespeare from the eight before it, by two hidden layers of 256 tanh units with norms.
Products are those of electronics for the teaching signals of one word; all methods need 1.2 million more for the
forward pass, and as many for the gradients of the weights.
"""

import argparse
import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.pages import table_head, table_row
from calibration import measure_projection
from dfa.data import tiny_shakespeare
from dfa.experiments.runs import format_mean
from dfa.feedback.base import CodedFeedback, Feedback
from dfa.feedback.encoding import Ternary
from dfa.feedback.fitted import LeastSquares
from dfa.feedback.medium import MediumFeedback
from dfa.feedback.optical import OpticalFeedback
from dfa.feedback.random import RandomFeedback
from dfa.rules.direct import DirectFeedback
from photonics import MatrixMedium, presets

WORDS, CONTEXT, WIDTH, PIXELS = 4096, 8, 256, 64
BATCH, STEPS, RATE = 256, 400, 2e-3
FIT_EVERY = 20
"""Steps from one true gradient to the next, for the fit of `LeastSquares`."""


class Case(NamedTuple):
    """A way to teach the hidden layers."""

    build: Callable[[int], Feedback | None]
    products: int
    """Of electronics, for the signals of one word; additions of a sketch count as products."""


def pairs(seed: int) -> Ternary:
    """The code that the device shows."""
    return Ternary(stochastic=1.0, pairs=True, seed=seed)


def device(seed: int, outputs: int) -> OpticalFeedback:
    """The simulated bench, calibrated for an error of `WORDS` entries."""
    opu = presets.lab_bench(n_in=WORDS + 256, n_out=2 * outputs, seed=seed)
    return OpticalFeedback(measure_projection(opu, n_inputs=WORDS), pairs(seed))


def sketch(seed: int) -> CodedFeedback:
    """A count sketch: each class adds its error, with a random sign, to one of `PIXELS` / 2 sums, twice over."""
    rng = np.random.default_rng(seed)
    matrix = np.zeros((PIXELS // 2, WORDS), np.complex64)
    for part in (1.0, 1.0j):
        matrix[rng.integers(0, len(matrix), WORDS), np.arange(WORDS)] += part * rng.choice([-1.0, 1.0], WORDS)
    return MediumFeedback(MatrixMedium(matrix))


def learned(source: Callable[[int], CodedFeedback]) -> Callable[[int], Feedback]:
    """Feedback that learns, from `PIXELS` values of a source."""
    return lambda seed: LeastSquares(source(seed), PIXELS, every=FIT_EVERY, rate=0.5)


BACKWARD = WORDS * WIDTH + WIDTH**2
LEARNED = 2 * PIXELS * WIDTH + BACKWARD // FIT_EVERY
CASES: dict[str, Case | None] = {
    "backpropagation": None,
    "last layer only": Case(lambda seed: None, 0),
    "fixed, dense matrix": Case(RandomFeedback, 2 * WORDS * WIDTH),
    "fixed, `lab_bench`": Case(lambda seed: device(seed, 2 * WIDTH), 0),
    "learned, 64 pixels, dense matrix": Case(learned(RandomFeedback), WORDS * PIXELS + LEARNED),
    "learned, 64 pixels, `lab_bench`": Case(learned(lambda seed: device(seed, PIXELS)), LEARNED),
    "learned, count sketch of 64 sums": Case(learned(sketch), 2 * WORDS + LEARNED),
}


def words() -> tuple[Tensor, Tensor]:
    """Numbers of the words, the rarer ones as 0: (n,) for training and for the test."""
    text = tiny_shakespeare()
    found = re.findall(r"[a-z']+|[^\sa-z]|\n", text.decode([*text.train.tolist(), *text.validation.tolist()]).lower())
    number = {word: k + 1 for k, (word, _) in enumerate(Counter(found).most_common(WORDS - 1))}
    numbers = torch.tensor([number.get(word, 0) for word in found])
    return numbers[: len(numbers) * 9 // 10], numbers[len(numbers) * 9 // 10 :]


def network(seed: int) -> nn.Sequential:
    """Embedding of each word, two hidden blocks with norms, and the last layer."""
    torch.manual_seed(seed)
    first = nn.Sequential(
        nn.Embedding(WORDS, 64), nn.Flatten(), nn.Linear(64 * CONTEXT, WIDTH), nn.LayerNorm(WIDTH), nn.Tanh()
    )
    second = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.Tanh())
    return nn.Sequential(first, second, nn.Linear(WIDTH, WORDS))


def bits(case: Case | None, train: Tensor, test: Tensor, seed: int) -> tuple[float, int]:
    """Bits per word of the test text, and frames that the device took."""
    model = network(seed)
    feedback = None if case is None else case.build(seed)
    learner = None if case is None else DirectFeedback(model, feedback=feedback)
    optimiser = torch.optim.Adam(model.parameters(), RATE)
    generator = torch.Generator().manual_seed(seed)
    near = torch.arange(CONTEXT)
    for _ in range(STEPS):
        at = torch.randint(0, len(train) - CONTEXT, (BATCH,), generator=generator)
        output = model(train[at[:, None] + near])
        loss = cross_entropy(output, train[at + CONTEXT])
        optimiser.zero_grad()
        loss.backward() if learner is None else learner.backward(loss, output)
        optimiser.step()
    model.eval()
    with torch.no_grad():
        starts = torch.arange(len(test) - CONTEXT)
        lost = sum(
            float(cross_entropy(model(test[at[:, None] + near]), test[at + CONTEXT], reduction="sum"))
            for at in starts.split(4096)
        )
    frames = feedback.frames if isinstance(feedback, OpticalFeedback | LeastSquares) else 0
    return lost / len(starts) / float(np.log(2.0)), frames


def main() -> None:
    """Print the table, a row for each case."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_classes", description="Thousands of classes.")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    train, test = words()
    print(table_head(["feedback", "bits per word", "products a word, in thousands", "frames"]), flush=True)
    for name, case in CASES.items():
        found = [bits(case, train, test, seed) for seed in range(given.seeds)]
        products = BACKWARD if case is None else case.products
        frames = f"{np.mean([count for _, count in found]):,.0f}" if found[0][1] else ""
        mean = format_mean([one for one, _ in found], 2)
        print(table_row([name, mean, f"{products / 1e3:,.0f}", frames]), flush=True)


if __name__ == "__main__":
    main()
