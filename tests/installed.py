"""Use of an installed distribution from another folder; `make package` runs it in an empty environment.

It is no test of pytest, because the packages must not come from the checkout.
"""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np

import calibration
import opu_sim
from calibration import characterize, measure_projection
from photonics import OPU, presets

ROOT = Path(__file__).resolve().parents[1]


def opu(*arguments: str) -> str:
    """Output of a call of the command line."""
    command = [str(Path(sys.executable).with_name("opu")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> None:
    """Import, project, report and call the command line."""
    assert Path(calibration.__file__).parents[1] != ROOT, calibration.__file__
    assert opu_sim.collisions() == {}
    projection = measure_projection(presets.lab_bench(20, 160), n_inputs=10)
    assert projection(np.eye(10, dtype=np.int8)).shape == (10, 160)
    assert (files("calibration") / "reports" / "templates" / "page.html.j2").is_file()
    assert all((files(name) / "py.typed").is_file() for name in opu_sim.PACKAGES)
    assert len(characterize(presets.lab_bench(16, 64)).html()) > 10_000
    assert opu("--version") == f"opu-sim {opu_sim.__version__}\n"
    assert "--resume" in opu("demo", "--help")
    Path("bench.toml").write_text(opu("device", "ideal", "--n-in", "9", "--n-out", "8"))
    assert OPU.from_toml("bench.toml").n_in == 9
    opu("doctor")
    sys.stdout.write(f"opu-sim {opu_sim.__version__} works on Python {sys.version.split()[0]}\n")


if __name__ == "__main__":
    main()
