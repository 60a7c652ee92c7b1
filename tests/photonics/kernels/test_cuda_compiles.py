"""The GPU kernels compile to PTX for the types of their launches: `cuda_ptx.py`, without a GPU or a driver."""

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[3]
WHEEL = "nvidia-cuda-nvcc-cu12"
GENERATORS = ["gaussian_kernel", "halves_kernel", "three_bit_kernel", "project_kernel", "screen_kernel"]
KERNELS = [*GENERATORS, "expose_kernel"]


def nvvm():
    """Folder of NVVM: of an installed CUDA toolkit, or of the wheel."""
    toolkit = Path(os.environ.get("CUDA_HOME", "/nowhere")) / "nvvm"
    if toolkit.is_dir():
        return toolkit
    try:
        files = metadata.files(WHEEL) or []
    except metadata.PackageNotFoundError:
        pytest.skip(f"no NVVM: neither CUDA_HOME/nvvm nor the package {WHEEL} (extra dev, Linux only)")
    return next(Path(str(file.locate())).parents[1] for file in files if file.name == "libnvvm.so")


@pytest.fixture(scope="module")
def ptx(tmp_path_factory):
    """PTX of each kernel, by its name."""
    home, out = tmp_path_factory.mktemp("cuda"), tmp_path_factory.mktemp("ptx")
    (home / "nvvm").symlink_to(nvvm())
    compiling = os.environ | {"CUDA_HOME": str(home), "PYTHONPATH": str(ROOT), "NUMBA_ENABLE_CUDASIM": "0"}
    command = [sys.executable, "-W", "ignore", str(HERE / "cuda_ptx.py"), str(out)]
    run = subprocess.run(command, capture_output=True, text=True, env=compiling, timeout=120)
    assert run.returncode == 0, run.stderr
    return {name: (out / f"{name}.ptx").read_text() for name in json.loads(run.stdout)}


def test_every_kernel_compiles(ptx):
    """For compute capability 9.0. Catches: code that only the simulator accepts, as ``max`` of two floats."""
    assert sorted(ptx) == sorted(KERNELS)
    for name, text in ptx.items():
        assert ".target sm_90" in text
        assert re.search(rf"\.entry \w*{name}", text)


def test_every_kernel_of_the_package_is_among_them():
    """Catches: a new kernel that this test does not compile."""
    sources = (ROOT / "photonics").rglob("*.py")
    assert sum(source.read_text().count("@cuda.jit") for source in sources) == len(KERNELS)


@pytest.mark.parametrize("name", GENERATORS)
def test_generators_need_no_double_precision(ptx, name):
    """Consumer GPUs are 64 times slower in double precision. Catches: a constant that numba takes for float64."""
    assert ".f64" not in ptx[name]


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_stay_in_registers(ptx, name):
    """Neither local memory nor a call. Catches: sums addressed by a loop that is not unrolled, a law not inlined."""
    assert ".local" not in ptx[name]
    assert "call" not in ptx[name]
