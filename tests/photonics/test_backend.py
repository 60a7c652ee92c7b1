"""Backends are found by name or by array, and no array is moved or converted implicitly."""

import copy
import os
import pickle
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType, SimpleNamespace

import array_api_compat
import array_api_strict
import numpy as np
import pytest

from photonics import presets
from photonics.backend import HOST, Backend, backend_of, find_backend, require, to_host

ROOT = Path(__file__).parents[2]
DTYPES = ["bool", "uint16", "float32", "complex128"]


class FakeDevice:
    """Compares by its number, and so has no hash, like cupy's."""

    def __init__(self, id):
        self.id = id

    def __eq__(self, other):
        return isinstance(other, FakeDevice) and self.id == other.id

    def __repr__(self):
        return f"<CUDA Device {self.id}>"


class FakeArray:
    """An array of the fake cupy, on GPU 1."""

    device = FakeDevice(1)


@pytest.fixture
def fake_cupy(monkeypatch):
    """Pretend that cupy is installed; set its number of GPUs."""

    def pretend(count, current=0):
        runtime = SimpleNamespace(getDeviceCount=lambda: count, getDevice=lambda: current)
        cuda = SimpleNamespace(is_available=lambda: count > 0, runtime=runtime, Device=FakeDevice)
        monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda, ndarray=FakeArray))
        monkeypatch.setitem(sys.modules, "array_api_compat.cupy", ModuleType("array_api_compat.cupy"))

    return pretend


def values(dtype):
    """A few values of a type, (2, 3)."""
    return np.array([[0, 1, 3], [2, 0, 1]]).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip_to_a_backend(backend, dtype):
    """Same values and type, in separate memory. Catches: a type that follows the library, a view for a copy."""
    array = values(dtype)
    there = backend.asarray(array)
    assert backend_of(there) == backend
    assert there.dtype == getattr(backend.xp, dtype)
    back = to_host(there)
    assert isinstance(back, np.ndarray)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("dtype", ["float32"])
def test_to_host_copies(backend, dtype):
    """Writing to the copy does not change the original. Catches: a view, for libraries in host memory."""
    for there in (backend.asarray(values(dtype)), array_api_strict.asarray(values(dtype))):
        if not isinstance(there, np.ndarray):
            to_host(there)[:] = 0
            np.testing.assert_array_equal(to_host(there), values(dtype))


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_asarray_converts_to_a_dtype(backend, dtype):
    """Host arrays, numbers, lists, and arrays of the backend. Catches: a dtype that is ignored."""
    for array in (values("int64"), values("float64"), [[0, 1, 3], [2, 0, 1]], backend.asarray(values("float32"))):
        there = backend.asarray(array, dtype)
        assert there.dtype == getattr(backend.xp, dtype)
        np.testing.assert_array_equal(to_host(there), values(dtype))
    assert to_host(backend.asarray(2.5, dtype)) == 2.5


def test_arrays_of_the_backend_are_not_copied(backend):
    """Catches: an upload of an array that is already on the device."""
    there = backend.asarray(values("float32"))
    assert backend.asarray(there) is there
    assert backend.asarray(there, "float32") is there
    assert to_host(values("bool")).dtype == bool


def test_read_only_arrays_can_be_uploaded(backend):
    """Cached constants are read-only. Catches: libraries that refuse read-only arrays."""
    array = values("float32")
    array.flags.writeable = False
    np.testing.assert_array_equal(to_host(backend.asarray(array)), array)
    np.testing.assert_array_equal(to_host(backend.asarray(np.broadcast_to(array, (2, 2, 3)))), [array, array])
    assert not array.flags.writeable


def test_read_only_arrays_can_be_given_to_torch():
    """Torch warns of read-only memory. Catches: an upload without a copy."""
    torch = pytest.importorskip("torch")
    array = values("float32")
    array.flags.writeable = False
    there = Backend(array_api_compat.array_namespace(torch.zeros(1)), torch.device("cpu")).asarray(array)
    there += 1
    np.testing.assert_array_equal(array, values("float32"))


def test_new_arrays(backend):
    """Catches: the library's default type or device."""
    for array in (backend.empty((2, 3), "complex64"), backend.zeros((2, 3), "complex64")):
        assert backend_of(array) == backend
        assert array.dtype == backend.xp.complex64
        assert array.shape == (2, 3)
    assert not to_host(array).any()


def test_numbers_and_lists_belong_to_the_host():
    for thing in (1.0, [1, 2], (3,), None, np.float32(1), np.ones(2)):
        assert backend_of(thing) == HOST
    assert HOST.name == "numpy"
    assert HOST.on_host


def test_the_strict_backend(strict):
    assert strict.name == "array_api_strict"
    assert not strict.on_host
    assert strict == backend_of(strict.zeros((2,), "float32"))
    assert strict != HOST


def elsewhere():
    """Arrays of the strict library, on the device that the tests do not use."""
    return array_api_strict.ones(3, device=array_api_strict.Device("CPU_DEVICE"))


@pytest.mark.parametrize(
    "make", [elsewhere, lambda: array_api_strict.ones(3, device=array_api_strict.Device("device2"))]
)
def test_arrays_of_other_backends_are_refused(backend, make):
    """One line names both backends, even if numpy could convert. Catches: ``np.asarray`` of any input."""
    for act in (lambda: backend.asarray(make()), lambda: require(backend, make(), "array")):
        with pytest.raises(ValueError, match=r"^array must be a .* array on .*, got a array_api_strict array on ") as e:
            act()
        assert "\n" not in str(e.value)
    require(backend, backend.zeros((1,), "float32"), "array")


def test_host_arrays_are_required_too(strict):
    with pytest.raises(ValueError, match=r"^field must be a array_api_strict array on .*, got a numpy array on cpu$"):
        require(strict, np.ones(2), "field")


@pytest.mark.parametrize("name", ["gpu", "cpu:0", "cuda:", "cuda:-1", ["cpu"]])
def test_bad_names_are_refused(name):
    """Of any type. Catches: "cuda:" for "cuda", a TypeError from a cache."""
    with pytest.raises(ValueError, match=r"^device must be 'cpu', 'cuda' or 'cuda:<number>', got ") as error:
        find_backend(name)
    assert str(error.value).endswith(repr(name))


def test_cpu_is_the_host():
    assert find_backend("cpu") is HOST


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_without_cupy(monkeypatch, name):
    """One line names the package to install. Catches: an ImportError, a silent fall-back to the host."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", None)
    with pytest.raises(ValueError, match=r"^device 'cuda' needs cupy: pip install -e .*cuda13.* \(or cuda12\)$"):
        find_backend(name)


@pytest.mark.parametrize(("count", "name"), [(0, "cuda"), (2, "cuda:2")])
def test_more_gpus_than_there_are(fake_cupy, count, name):
    """Cupy can be imported without a GPU. Catches: an error of CUDA later on."""
    fake_cupy(count)
    with pytest.raises(ValueError, match=rf"^device must be one of {count} GPUs, got '{name}'$"):
        find_backend(name)


def test_gpus_are_selected_by_number(fake_cupy):
    """Equality, hash and pickling follow the number. Catches: a hash of the device, device 0 for all."""
    fake_cupy(2)
    first, second = find_backend("cuda"), find_backend("cuda:1")
    assert (first.name, first.device.id, second.device.id) == ("cupy", 0, 1)
    assert first == find_backend("cuda:0") != second
    with pytest.raises(TypeError):
        hash(second.device)
    assert hash(second) == hash(find_backend("cuda:1"))
    assert {first: 1, second: 2}[find_backend("cuda:1")] == 2
    for backend in (first, second, HOST):
        assert pickle.loads(pickle.dumps(backend)) == backend
        assert copy.deepcopy(backend) == backend


def test_another_gpu_than_the_current_one_is_refused(fake_cupy):
    """Cupy and numba use the current GPU of the thread. Catches: arrays and kernels of GPU 0 for "cuda:1"."""
    fake_cupy(2)
    opu, wrong = presets.lab_bench(4, 6), r"^device 'cuda:1' must be the current GPU, got 0: call cupy.cuda.Device"
    with pytest.raises(ValueError, match=wrong):
        opu.to("cuda:1")
    assert opu.backend is HOST
    fake_cupy(2, current=1)
    there = opu.to("cuda:1").backend
    assert there.device.id == 1
    assert backend_of(FakeArray()) == there
    fake_cupy(2, current=0)
    for act in (
        lambda: opu.measure(FakeArray()),
        lambda: opu.dark(2),
        lambda: opu.mean(FakeArray()),
        lambda: there.empty((1,), "float32"),
        lambda: backend_of(FakeArray()),
    ):
        with pytest.raises(ValueError, match=wrong):
            act()
    assert opu.clock.frames == 0


def test_backends_key_a_cache(backend):
    """Components cache by backend. Catches: a constant of one backend that is returned for another."""

    @lru_cache
    def constant(where):
        return where.zeros((1,), "float32")

    assert backend_of(constant(backend)) == backend
    assert constant(Backend(*backend)) is constant(backend)
    assert backend.on_host or constant(HOST) is not constant(backend)


@pytest.mark.parametrize("required", ["0", "1"])
def test_skipped_gpu_tests_are_named(required):
    """Without a GPU each skipped test is named; with REQUIRE_GPU=1 it fails. Catches: a suite that tests nothing."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__, "-k", "test_new_arrays"]
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": "", "REQUIRE_GPU": required}
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=hidden, timeout=120)
    outcome = "ERROR" if required == "1" else "SKIPPED"
    assert any(line.startswith(outcome) and "test_new_arrays[gpu]" in line for line in run.stdout.splitlines())
    assert "no GPU: device" in run.stdout
    assert run.returncode == (1 if required == "1" else 0)
    assert "2 passed" in run.stdout
