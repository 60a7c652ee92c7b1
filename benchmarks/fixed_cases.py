"""Digests of frames, projections, recovered matrices and trained weights on fixed cases.

A change that must not change behaviour is checked by running this before and after it, on one machine::

    python -m benchmarks.fixed_cases before.json
    python -m benchmarks.fixed_cases after.json --against before.json

Another processor may round differently, so a file is comparable with files of the same machine only.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calibration import measure_projection, recover_transmission_matrix
from dfa import DirectFeedback, LayerFeedback, OpticalFeedback, RandomFeedback, Ternary, train
from dfa.data import digits
from dfa.models import mlp
from photonics import (
    OPU,
    Ballistic,
    Camera,
    Dispersive,
    Drifting,
    GaussianMedium,
    Imaging,
    LeeHologram,
    Lossy,
    MatrixMedium,
    Modes,
    Reference,
    ScatteringLayers,
    Superpixel,
    presets,
)

__all__ = ["CASES", "main"]

OFF_AXIS = Imaging(
    numerical_aperture=0.0077,
    sensor=(20, 25),
    reference=Reference(intensity=2.0, angle_x_rad=0.0252, angle_y_rad=0.0252),
)


def matrix(n_in: int, n_out: int) -> Any:
    """Return a transmission matrix for `MatrixMedium`."""
    rng = np.random.default_rng(1)
    return (rng.normal(size=(n_out, n_in)) + 1j * rng.normal(size=(n_out, n_in))) / np.sqrt(2 * n_in)


def patterns(count: int, n_in: int) -> Any:
    """Random half-ON patterns."""
    return np.random.default_rng(2).random((count, n_in)) < 0.5


def ternary(count: int, n_in: int) -> Any:
    """Random vectors of -1, 0 and 1."""
    return np.random.default_rng(3).integers(-1, 2, (count, n_in))


DEVICES: dict[str, Callable[[], OPU]] = {
    "lab_bench": lambda: presets.lab_bench(301, 1203, seed=7),
    "ideal": lambda: presets.ideal(64, 100, seed=2**63),
    "aurora": lambda: presets.lighton_aurora(128, 500, seed=1),
    "streamed": lambda: OPU(medium=GaussianMedium(1100, 300, seed=5, storage="streamed"), seed=3),
    "3bit": lambda: OPU(medium=GaussianMedium(128, 300, seed=5, entries="3bit"), seed=3),
    "layers": lambda: OPU(medium=ScatteringLayers(256, 1024, seed=5, oversample=4), seed=3),
    "matrix": lambda: OPU(medium=MatrixMedium(matrix(64, 100)), seed=3),
    "drifting": lambda: OPU(medium=Drifting(GaussianMedium(64, 100, seed=3), 50), seed=3),
    "effects": lambda: OPU(medium=Lossy(Ballistic(GaussianMedium(64, 100, seed=3), 0.5), 0.3), seed=3),
    "modes": lambda: OPU(medium=Modes.polarised(GaussianMedium(64, 100, seed=3)), seed=3),
    "dispersive": lambda: OPU(medium=Dispersive(GaussianMedium(64, 100, seed=3), 1e-10), seed=3),
    "grains": lambda: OPU(medium=GaussianMedium(64, 4 * 500, seed=3), imaging=OFF_AXIS, seed=3),
    "camera": lambda: OPU(
        medium=GaussianMedium(64, 100, seed=3), camera=Camera(bit_depth=12, prnu=0.05, dead_pixels=0.01, seed=9), seed=3
    ),
}


def frames() -> Iterator[tuple[str, Any]]:
    """Frames of every kind of device, mean and variance, dark frames, the reference arm."""
    for name, make in DEVICES.items():
        opu = make()
        exposure = opu.autoexpose()
        x = patterns(21, opu.n_in)
        yield f"frames {name}", [opu.measure(x), opu.dark(2), exposure, opu.unit_dn]
        yield f"frames {name}, reference", opu.measure(x[:5], reference_phase=np.arange(5.0))
        yield f"frames {name}, moments", [opu.mean(x[:3]), opu.variance(x[:3])]
    field = matrix(64, 3).reshape(3, 8, 8)
    for encoding in (LeeHologram(), Superpixel()):
        yield f"encoding {type(encoding).__name__}", encoding.encode(field / np.abs(field).max())


PROJECTIONS: dict[str, tuple[Callable[[], OPU], dict[str, Any]]] = {
    "anchor, complement": (lambda: presets.lab_bench(128, 300, seed=1), {}),
    "anchor, spare": (lambda: presets.lab_bench(40, 300, seed=1), {"n_inputs": 20}),
    "anchors": (lambda: presets.lab_bench(60, 300, seed=1), {"n_inputs": 20, "anchors": 3}),
    "phase-stepping": (lambda: presets.lab_bench(64, 300, seed=1), {"method": "phase-stepping"}),
    "phase-stepping, 5": (lambda: presets.lab_bench(64, 300, seed=1), {"method": "phase-stepping", "steps": 5}),
    "off-axis": (DEVICES["grains"], {"method": "off-axis"}),
    "multilateration": (lambda: presets.lab_bench(60, 300, seed=1), {"method": "multilateration", "n_inputs": 20}),
    "reference-pairs": (lambda: presets.lab_bench(64, 300, seed=1), {"method": "reference-pairs"}),
}


def projections() -> Iterator[tuple[str, Any]]:
    """Every projection method, on ternary and real vectors."""
    for name, (make, options) in PROJECTIONS.items():
        opu = make()
        opu.autoexpose(0.3)
        projection = measure_projection(opu, **options)
        x = ternary(9, projection.n_inputs)
        yield f"projection {name}", [projection.valid, projection(x), *projection.measure(x), opu.clock.frames]
        yield f"projection {name}, real", projection(x * 0.37)


RECOVERIES: dict[str, tuple[Callable[[], OPU], dict[str, Any]]] = {
    "phase-stepping": (lambda: presets.lab_bench(32, 100, seed=1), {"method": "phase-stepping"}),
    "phase-stepping, tracked": (
        lambda: presets.lab_bench(32, 100, seed=1),
        {"method": "phase-stepping", "track_drift": True},
    ),
    "popoff": (lambda: presets.lab_bench(64, 100, seed=1), {"method": "popoff"}),
    "off-axis": (DEVICES["grains"], {"method": "off-axis"}),
    "numerical-interferometry": (
        lambda: presets.lab_bench(32, 100, seed=1),
        {"method": "numerical-interferometry", "seed": 4},
    ),
    "phase-retrieval": (lambda: presets.lab_bench(32, 100, seed=1), {"method": "phase-retrieval", "seed": 4}),
}


def recoveries() -> Iterator[tuple[str, Any]]:
    """Every recovery method."""
    for name, (make, options) in RECOVERIES.items():
        opu = make()
        opu.autoexpose(0.3)
        estimate = recover_transmission_matrix(opu, exposure="auto", **options)
        yield f"recovery {name}", [estimate.matrix, estimate.standard_error, estimate.valid, estimate.frames]


def optical(seed: int, **options: Any) -> OpticalFeedback:
    """Feedback through a small bench."""
    opu = presets.lab_bench(20, 160, seed=seed)
    opu.autoexpose()
    return OpticalFeedback(measure_projection(opu, n_inputs=10), Ternary(deviations=1.0), **options)


LEARNERS: dict[str, Callable[[Any], Any]] = {
    "backpropagation": lambda model: None,
    "DFA": lambda model: DirectFeedback(model, feedback=RandomFeedback(1)),
    "ternary": lambda model: DirectFeedback(model, feedback=RandomFeedback(1, Ternary(threshold=0.2))),
    "stochastic pairs": lambda model: DirectFeedback(
        model, feedback=RandomFeedback(1, Ternary(stochastic=1.0, pairs=True, seed=5))
    ),
    "optical": lambda model: DirectFeedback(model, feedback=optical(1)),
    "optical, recalibrated": lambda model: DirectFeedback(model, feedback=optical(1, recalibrate_every=40)),
    "last layer": lambda model: DirectFeedback(model),
    "feedback alignment": lambda model: LayerFeedback(model, "random", 1),
}


def weights() -> Iterator[tuple[str, Any]]:
    """Networks trained by every rule."""
    torch.set_num_threads(1)
    data = digits()
    for name, make in LEARNERS.items():
        model = mlp([64, 96, 48, 10], seed=3)
        history = train(model, data, make(model), epochs=2, batch_size=32, seed=3, progress=False)
        yield f"weights {name}", [*(p.detach().numpy() for p in model.parameters()), history[-1].loss]


CASES: dict[str, Callable[[], Iterator[tuple[str, Any]]]] = {
    "frames": frames,
    "projections": projections,
    "recoveries": recoveries,
    "weights": weights,
}


def digest(value: Any) -> str:
    """SHA-256 of type, shape and bytes of an array, or of all arrays of a list."""
    sha = hashlib.sha256()
    for array in map(np.ascontiguousarray, value if isinstance(value, list) else [value]):
        sha.update(f"{array.dtype.str} {array.shape} ".encode() + array.tobytes())
    return sha.hexdigest()[:16]


def main(argv: list[str]) -> int:
    """Write the digests; return 1 if any differs from those of an earlier file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fixed_cases", description="Digests of fixed cases.")
    parser.add_argument("out", type=Path, help="JSON file for the digests")
    parser.add_argument("--against", type=Path, help="digests of an earlier run on this machine")
    parser.add_argument("--only", choices=CASES, action="append", help="may be repeated")
    given = parser.parse_args(argv)
    found = {name: digest(value) for group in given.only or CASES for name, value in CASES[group]()}
    given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if given.against is None:
        print(f"{len(found)} cases written to {given.out}")
        return 0
    before = json.loads(given.against.read_text(encoding="utf-8"))
    changed = [name for name in found if before.get(name) != found[name]]
    print(f"{len(found) - len(changed)} of {len(found)} cases are as before", *changed, sep="\n  changed: ")
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
