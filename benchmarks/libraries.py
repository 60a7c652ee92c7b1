"""Random projections by libraries that a user would pick instead: scikit-learn, torch and deepinv."""

import importlib.util
import math
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.row import Row
from benchmarks.timing import cpu_seconds
from photonics import GaussianMedium, Imaging, ScatteringLayers
from photonics.arrays import BoolArray

LAYERS = 3
FASTER = "times faster than it"


def rows(quick: bool) -> Iterator[Row]:
    """Time of each library over that of this package, for the same patterns of 0 and 1."""
    n, batch, side = (512, 64, 100) if quick else (4096, 1024, 1000)
    x = np.random.default_rng(0).random((batch, n)) < 0.5
    size = f"{n} x {n}, batch {batch}"
    yield row(f"scikit-learn's GaussianRandomProjection, {size}", *linear(x))
    yield row(f"torch, square of the modulus of a complex product, {size}", *intensities(x))
    name = f"deepinv's StructuredRandomPhaseRetrieval, {LAYERS} layers, {side**2} x {2 * side**2}"
    if importlib.util.find_spec("deepinv") is None:
        yield Row(name=f"{name}: {FASTER}", note="needs deepinv: pip install deepinv torchvision")
    else:
        yield row(name, *layers(side))


def row(name: str, ours: Callable[[], object], theirs: Callable[[], object]) -> Row:
    """Return the row with the time of the other library over that of this package."""
    took, other = (seconds * 1e3 for seconds in cpu_seconds(ours, theirs))
    values = {"ours": took, "theirs": other}
    return Row(name=f"{name}: {FASTER}", unit="ms", values=values, ratio=other / took, target=">= 1")


def linear(x: BoolArray) -> tuple[Callable[[], object], Callable[[], object]]:
    """Real random projections to as many numbers as there are inputs; a complex output is two of them."""
    from sklearn.random_projection import GaussianRandomProjection

    n, dense = x.shape[1], x.astype(np.float32)
    medium, theirs = GaussianMedium(n, n // 2, storage="stored"), GaussianRandomProjection(n, random_state=0).fit(dense)
    return lambda: medium.propagate(x), lambda: theirs.transform(dense)


def intensities(x: BoolArray) -> tuple[Callable[[], object], Callable[[], object]]:
    """``|x T|^2``; torch has one real product for both parts, which is faster than a complex one."""
    import torch

    n, dense = x.shape[1], torch.from_numpy(x.astype(np.float32))
    medium, imaging = GaussianMedium(n, n, storage="stored"), Imaging(throughput=1.0)
    matrix = torch.randn((n, 2 * n), generator=torch.Generator().manual_seed(0))

    def theirs() -> torch.Tensor:
        real, imaginary = (dense @ matrix).split(n, dim=1)
        return real.square_().add_(imaginary.square_())

    return lambda: imaging.intensity(medium.propagate(x), n_in=n), theirs


def layers(side: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Intensities behind random phase screens and Fourier transforms, from a square of inputs to twice as many."""
    import torch
    from deepinv.physics import StructuredRandomPhaseRetrieval  # pyright: ignore[reportMissingImports]

    x, imaging = np.random.default_rng(0).random((1, side**2)) < 0.5, Imaging(throughput=1.0)
    medium = ScatteringLayers(side**2, 2 * side**2, layers=LAYERS)
    wide = math.prod(medium.grid) // side
    theirs = StructuredRandomPhaseRetrieval((1, side, side), (1, side, wide), n_layers=LAYERS)
    field = torch.from_numpy(x.reshape(1, 1, side, side).astype(np.complex64))

    def project() -> torch.Tensor:
        with torch.no_grad():
            return theirs.A(field)

    return lambda: imaging.intensity(medium.propagate(x), n_in=side**2), project
