"""A recovered matrix that follows its medium, or is recovered afresh: ``python -m benchmarks.following``.

`lab_bench` with 48 inputs, 150 pixels and a medium that drifts. A share of all frames is spent on the matrix, spread
evenly; the others do something else. Relative rms error of the matrix, over all rows, at 8 times of a run.
"""

import argparse
import warnings

import numpy as np

from benchmarks.pages import table_head, table_row
from calibration import TransmissionEstimate, recover_transmission_matrix
from calibration.metrics import matrix_row_errors
from photonics import OPU, Drifting, GaussianMedium, presets

N_IN, PIXELS, LOOKS = 48, 150, 8
TIMES = (1e7, 1e6, 1e5, 3e4, 1e4, 3e3)
SHARES = (1.0, 0.1)
FRESH = ("phase-stepping", "phase-retrieval")


def start(tau: float, seed: int) -> tuple[OPU, TransmissionEstimate]:
    """A device that begins to drift, and its matrix before."""
    still = presets.lab_bench(N_IN, PIXELS, seed=seed).replace(medium=GaussianMedium(N_IN, PIXELS, seed=seed))
    estimate = recover_transmission_matrix(still)
    return still.replace(medium=Drifting(still.medium, tau, seed=seed)), estimate


def error(estimate: TransmissionEstimate, opu: OPU) -> float:
    """Mean squared relative error of all rows; that of a row that is not valid is 1."""
    found = np.ones(PIXELS)
    truth = opu.effective_matrix(opu.clock.frames)[estimate.valid]
    found[estimate.valid] = matrix_row_errors(estimate.matrix[estimate.valid], truth, estimate.gauge)
    return float(np.mean(np.minimum(found, 1.0) ** 2))


def fresh(method: str, tau: float, share: float, seed: int) -> str:
    """Error of a matrix that is recovered again and again, seen at even times of one period."""
    opu, _ = start(tau, seed)
    before = opu.clock.frames
    try:
        estimate = recover_transmission_matrix(opu, method)
    except ValueError:
        return "refused"
    spent = opu.clock.frames - before
    period, errors = spent / share, []
    # The matrix serves from the end of its recovery to the end of the next one.
    for _ in range(LOOKS):
        opu.clock.advance(round(period / LOOKS))
        errors.append(error(estimate, opu))
    return f"{100 * np.sqrt(np.mean(errors)):.1f}"


def followed(tau: float, share: float, seed: int) -> str:
    """Error of a matrix that is updated by 8 frames at a time; and the error that it states."""
    opu, estimate = start(tau, seed)
    rng, errors, stated = np.random.default_rng(seed), [], []
    for number in range(16 * LOOKS):
        opu.clock.advance(round(8 / share) - 8)
        patterns = rng.random((8, N_IN)) < 0.5
        try:
            estimate = estimate.update(patterns, opu.measure(patterns))
        except ValueError:
            return "lost"
        if number >= 8 * LOOKS and number % 8 == 7:
            errors.append(error(estimate, opu))
            stated.append(np.mean(estimate.relative_error**2))
    return f"{100 * np.sqrt(np.mean(errors)):.1f} ({100 * np.sqrt(np.mean(stated)):.1f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.following", description="A matrix that follows.")
    parser.add_argument("--tau", type=float, nargs="+", default=TIMES)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # recoveries warn of a medium that moves
    ways = [f"{name}, {share:.0%} of the frames" for share in SHARES for name in ("followed (stated)", *FRESH)]
    print(table_head(["correlation time, frames", *ways]), flush=True)
    for tau in given.tau:
        cells = []
        for share in SHARES:
            cells += [followed(tau, share, given.seed), *(fresh(method, tau, share, given.seed) for method in FRESH)]
        print(table_row([f"{tau:.0e}", *cells]), flush=True)


if __name__ == "__main__":
    main()
