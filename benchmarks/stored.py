"""Products of a stored matrix with fields of any values and with binary patterns, relative to sgemm."""

from collections.abc import Iterator

import numpy as np

from benchmarks.row import Row
from benchmarks.timing import cpu_seconds
from photonics import GaussianMedium

TARGETS = {
    "any fields": {32: (">= 0.9", ">= 3"), 128: (">= 0.95", ">= 2"), 1024: (">= 0.95", ">= 1.9")},
    "patterns": {32: (">= 0.9", ">= 1.6"), 128: (">= 1.7", ">= 1.6"), 1024: (">= 2", ">= 1.6")},
}
"""Least rate over that of sgemm, and least speed over that of the complex product."""


def rows(quick: bool) -> Iterator[Row]:
    """Rate of the product over that of a square sgemm, and over that of numpy's complex product."""
    n, batches = (1024, (32,)) if quick else (4096, (32, 128, 1024))
    rng = np.random.default_rng(0)
    medium = GaussianMedium(n, n)
    square, matrix = rng.standard_normal((n, n), np.float32), medium.block(slice(None), slice(None))
    for batch in batches:
        fields = {"any fields": rng.standard_normal((batch, n), np.float32), "patterns": rng.random((batch, n)) < 0.5}
        z = fields["any fields"].astype(np.complex64)
        calls = [lambda x=x: medium.propagate(x) for x in fields.values()]
        *times, other, sgemm = cpu_seconds(*calls, lambda z=z: z @ matrix.T, lambda: square @ square)
        ceiling = 2e-9 * n**3 / sgemm
        for kind, took in zip(fields, times, strict=True):
            rate, (target, faster) = 4e-9 * batch * n * n / took, TARGETS[kind][batch]
            yield Row(
                name=f"stored Gaussian {n} x {n}, batch {batch}, {kind}: rate over sgemm's",
                unit="GFLOP/s",
                values={"product": rate, "sgemm": ceiling},
                ratio=rate / ceiling,
                target=target,
            )
            yield Row(
                name=f"stored Gaussian {n} x {n}, batch {batch}, {kind}: times faster than complex64 @ complex64",
                unit="ms",
                values={"product": took * 1e3, "complex64 @ complex64": other * 1e3},
                ratio=other / took,
                target=faster,
            )
