"""Fixtures for all tests."""

import os
from collections.abc import Callable
from types import SimpleNamespace

import array_api_strict
import numpy as np
import pytest
from numba.core import config
from numpy.typing import NDArray

from photonics.backend import HOST, Backend, find_backend

# As the command line does: torch's waiting threads spin, which slows small networks down on a busy machine.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow tests where several processes share them, so that none of them is left for the end."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture
def rng() -> np.random.Generator:
    """Random inputs for a test; the code under test does not use it."""
    return np.random.default_rng(20201212)


@pytest.fixture
def half_on(rng: np.random.Generator) -> Callable[[int, int], NDArray[np.bool_]]:
    """Random patterns, each input ON with probability one half: (batch, n_in)."""
    return lambda batch, n_in: rng.random((batch, n_in)) < 0.5


@pytest.fixture
def set_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set the number of threads of the package for a test."""
    return lambda count: monkeypatch.setattr(config, "NUMBA_NUM_THREADS", count)


@pytest.fixture
def standard(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The parts of `emva1288` that analyse image sums; it calls ``np.asfarray``, which numpy 2 removed."""
    monkeypatch.setattr(np, "asfarray", lambda a: np.asarray(a, np.float64), raising=False)
    from emva1288.process.data import Data1288
    from emva1288.process.results import Results1288
    from emva1288.process.routines import get_int_imgs

    return SimpleNamespace(data=Data1288, results=Results1288, sums=get_int_imgs)


@pytest.fixture
def strict() -> Backend:
    """The array API alone, on a device whose arrays are not converted to numpy implicitly."""
    return Backend(array_api_strict, array_api_strict.Device("device1"))


@pytest.fixture
def gpu() -> Backend:
    """The GPU; without one a test that uses it is skipped, or fails if REQUIRE_GPU is 1."""
    try:
        return find_backend("cuda")
    except ValueError as error:
        if os.environ.get("REQUIRE_GPU") == "1":
            pytest.fail(f"no GPU: {error}", pytrace=False)
        pytest.skip(f"no GPU: {error}")


@pytest.fixture(params=["strict", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Backend:
    """Every backend other than the host."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["host", "strict", pytest.param("gpu", marks=pytest.mark.gpu)])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every backend."""
    return HOST if request.param == "host" else request.getfixturevalue(request.param)
