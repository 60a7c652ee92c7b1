"""Stored Gaussian medium against BLAS, the generator, and the camera against numpy's Poisson."""

from collections.abc import Iterator

import numpy as np

from benchmarks.timing import seconds
from photonics import Camera, GaussianMedium, presets

N = 4096


def rows() -> Iterator[tuple[str, str, str, str]]:
    """(what, measured, ratio, target) of each benchmark."""
    yield from products()
    yield generator()
    yield from cameras()
    yield chain()


def products() -> Iterator[tuple[str, str, str, str]]:
    """Real product of binary patterns, over sgemm of the same flops and over the complex product."""
    rng = np.random.default_rng(0)
    medium = GaussianMedium(N, N)
    square = rng.standard_normal((N, N), np.float32)
    flops = 2.0 * N**3 / seconds(lambda: square @ square, 2)
    complex_matrix = medium.block(slice(None), slice(None))
    for batch, target in ((32, "-"), (128, ">= 0.75"), (1024, ">= 0.90")):
        x = rng.random((batch, N)) < 0.5
        took = seconds(lambda x=x: medium.propagate(x), 3)
        ideal = 4.0 * batch * N * N / flops
        yield f"stored Gaussian {N}^2, batch {batch}, over sgemm", f"{took * 1e3:.0f} ms", f"{ideal / took:.2f}", target
        z = x.astype(np.complex64)
        other = seconds(lambda z=z: z @ complex_matrix.T, 3)
        yield (
            f"the same, over complex64 @ complex64, batch {batch}",
            f"{other * 1e3:.0f} ms",
            f"{other / took:.2f}x",
            ">= 1.6x",
        )


def generator() -> tuple[str, str, str, str]:
    """Entries of a new medium, against numpy's fastest normals."""
    rng = np.random.Generator(np.random.SFC64(0))
    took = seconds(lambda: GaussianMedium(N, N // 2).block(slice(0, 1), slice(0, 1)), 3)
    other = seconds(lambda: rng.standard_normal((N, N), np.float32), 3)
    rate = N * N / took / 1e9
    return "Philox normals over numpy's SFC64", f"{rate:.2f} G/s", f"{other / took:.1f}x", "-"


def cameras() -> Iterator[tuple[str, str, str, str]]:
    """Whole camera against ``Generator.poisson`` alone, on speckle of several brightnesses."""
    rng = np.random.default_rng(0)
    ticks = np.arange(256)
    for mean, target in ((30.0, "-"), (300.0, ">= 5x"), (3000.0, ">= 5x")):
        photons = rng.exponential(mean, (256, 4096)).astype(np.float32)
        took = seconds(lambda photons=photons: Camera().expose(photons, 1e-3, ticks))
        other = seconds(lambda photons=photons: rng.poisson(photons), 2)
        rate = photons.size / took / 1e6
        yield f"camera over Generator.poisson, mean {mean:.0f}", f"{rate:.0f} Mpixel/s", f"{other / took:.1f}x", target


def chain() -> tuple[str, str, str, str]:
    """Share of the whole device's time that is not the product."""
    opu = presets.lab_bench(1024, 4096)
    x = np.random.default_rng(0).random((256, 1024)) < 0.5
    took = seconds(lambda: opu.measure(x))
    bare = seconds(lambda: opu.medium.propagate(x))
    return "whole device over its product, 1024 x 4096, batch 256", f"{took * 1e3:.0f} ms", f"{took / bare:.2f}", "-"
