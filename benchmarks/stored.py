"""Products of a stored matrix with binary patterns, relative to sgemm and to numpy's complex product."""

from collections.abc import Iterator

import numpy as np

from benchmarks.row import Row
from benchmarks.timing import cpu_seconds
from photonics import GaussianMedium

TARGETS = {32: None, 128: ">= 0.75", 1024: ">= 0.9"}


def rows(quick: bool) -> Iterator[Row]:
    """Rate of the product over that of a square sgemm, and over that of numpy's complex product."""
    n, batches = (1024, (32,)) if quick else (4096, tuple(TARGETS))
    rng = np.random.default_rng(0)
    medium = GaussianMedium(n, n)
    square, matrix = rng.standard_normal((n, n), np.float32), medium.block(slice(None), slice(None))
    for batch in batches:
        x = rng.random((batch, n)) < 0.5
        z = x.astype(np.complex64)
        calls = (lambda x=x: medium.propagate(x), lambda z=z: z @ matrix.T, lambda: square @ square)
        took, other, sgemm = cpu_seconds(*calls)
        rate, ceiling = 4e-9 * batch * n * n / took, 2e-9 * n**3 / sgemm
        yield Row(
            name=f"stored Gaussian {n} x {n}, batch {batch}: rate over sgemm's",
            unit="GFLOP/s",
            values={"product": rate, "sgemm": ceiling},
            ratio=rate / ceiling,
            target=TARGETS[batch],
        )
        yield Row(
            name=f"stored Gaussian {n} x {n}, batch {batch}: times faster than complex64 @ complex64",
            unit="ms",
            values={"product": took * 1e3, "complex64 @ complex64": other * 1e3},
            ratio=other / took,
            target=">= 1.6",
        )
