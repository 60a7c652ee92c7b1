"""Error of every method against light: ``python -m benchmarks.calibration_photons --out docs/calibration_photons.png``.

The benches are those of the tests (64 inputs, 300 to 1024 pixels) with shot noise and a quantiser only. The full well
goes from 10^3 to 10^7 electrons, and the light is proportional to it. Dots are measured errors; lines are the errors
that the methods state.
"""

import argparse
import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from calibration import recover_transmission_matrix
from calibration.metrics import matrix_error
from photonics import OPU
from photonics.arrays import HostArray
from photonics.plotting.style import STYLE, legend_below
from tests.calibration.benches import METHODS, calibrate, field_matrix, half_on, truth_of, well
from tests.calibration.benches import bench as projection_bench
from tests.calibration.matrix_benches import bench, tilted

WELLS = (1e3, 1e4, 1e5, 1e6, 1e7)
VECTORS = 60
RECOVERIES: dict[str, dict[str, Any]] = {
    "phase-stepping": {},
    "off-axis": {},
    "popoff": {},
    "numerical-interferometry": {"frames_per_input": 14},
    "phase-retrieval": {"frames_per_input": 14},
}


class Point(NamedTuple):
    """Error of a method at one light level."""

    photons: float
    """Mean photons per pixel and frame."""
    error: float
    predicted: float


def shot_noise_only(opu: OPU, depth_e: float, bits: int) -> OPU:
    """Return the bench with shot noise and the quantiser only. Without leakage, anchors have no error of scale."""
    opu, exposure_s = well(opu, depth_e), opu.exposure_s
    camera = dataclasses.replace(opu.camera, bit_depth=bits)
    return opu.replace(camera=camera, dmd=dataclasses.replace(opu.dmd, contrast=None), exposure_s=exposure_s)


def photons_of(opu: OPU, frames: HostArray) -> float:
    """Mean photons per pixel of frames."""
    camera = opu.camera
    return float((np.mean(frames, dtype=np.float64) - camera.offset) / camera.gain / camera.quantum_efficiency)


def projection_error(name: str, depth_e: float, bits: int) -> Point:
    """Measure the error of a projection."""
    opu = shot_noise_only(projection_bench("lab_bench", name, seed=2), depth_e, bits)
    projection = calibrate(opu, name)
    x: HostArray = half_on(VECTORS, projection.n_inputs)
    if name == "reference pairs":  # an error common to vectors of one sign looks like a turn of the phase
        x = x.astype(np.int64) - half_on(VECTORS, projection.n_inputs, 1)
    found = projection.measure(x)
    known = np.where(found.saturated, 0, found.values)
    truth, good = truth_of(projection, x, known), ~found.saturated & projection.valid
    parts = 2.0 if np.iscomplexobj(truth) else 1.0

    def median(squared: HostArray) -> float:
        kept = good.any(axis=0)
        shares = (np.sum(part, axis=0, where=good)[kept] for part in (squared, np.abs(truth) ** 2))
        return float(np.median(np.sqrt(np.divide(*shares))))

    error = median(np.abs(found.values - truth) ** 2)
    predicted = median(np.where(good, parts * found.standard_error**2, 0.0))
    return Point(photons_of(opu, projection._frames(x)), error, predicted)


def recovery_error(name: str, depth_e: float, bits: int) -> Point:
    """Measure the error of a recovered matrix."""
    options = RECOVERIES[name]
    opu = tilted("lab_bench", 64, seed=2) if name == "off-axis" else bench(2, n=128 if name == "popoff" else 64, m=300)
    opu = shot_noise_only(opu, depth_e, bits)
    estimate = recover_transmission_matrix(opu, name, **options)
    truth, valid = field_matrix(opu)[:, : estimate.matrix.shape[1]], estimate.valid
    error = matrix_error(estimate.matrix[valid], truth[valid], estimate.gauge)
    phase = 0.0 if METHODS[name].uses_reference else None
    frames = opu.measure(half_on(VECTORS, opu.n_in), reference_phase=phase)
    return Point(photons_of(opu, frames), error, float(np.median(estimate.relative_error[valid])))


def draw(path: Path, found: dict[str, dict[str, dict[int, list[Point]]]]) -> None:
    """Draw projections on the left and matrices on the right."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 6.2), layout="constrained", dpi=110)
        for ax, (title, methods) in zip(figure.subplots(1, 2, sharey=True), found.items(), strict=True):
            panel(ax, methods)
            ax.set(title=title, xlabel="photons per pixel and frame, mean", ylim=(3e-4, 3.0))
            ax.label_outer()
        figure.axes[0].set_ylabel("error, median row of |a - est| / |a|")
        figure.savefig(path, metadata={"Software": None})


def panel(ax: Axes, methods: dict[str, dict[int, list[Point]]]) -> None:
    """Draw the error of some methods against light."""
    for number, (name, curves) in enumerate(methods.items()):
        for bits, points in curves.items():
            photons, error, predicted = np.array(points).T
            fine = bits == 16
            face, label = (None, name) if fine else ("white", None)
            ax.loglog(photons, error, "o", label=label, color=f"C{number}", ms=4, mfc=face)
            ax.loglog(photons, predicted, "-" if fine else ":", color=f"C{number}", lw=1.0)
    light = np.array(ax.get_xlim())
    ax.plot(light, 3.0 / np.sqrt(light), "k--", lw=1.0, label="∝ 1/√photons")
    ax.plot([], [], "k-", lw=1.0, label="predicted, 16 bits")
    ax.plot([], [], "ko:", mfc="white", ms=4, lw=1.0, label="8 bits")
    ax.grid(alpha=0.2)
    legend_below(ax)


def main() -> None:
    """Measure everything and draw it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration_photons", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="file of the picture")
    out = parser.parse_args().out
    groups: dict[str, tuple[Callable[[str, float, int], Point], Iterable[str]]] = {
        "linear projections, half of the inputs ON": (projection_error, METHODS),
        "transmission matrices, n = 64": (recovery_error, RECOVERIES),
    }
    found: dict[str, dict[str, dict[int, list[Point]]]] = {}
    for title, (measure, names) in groups.items():
        found[title] = {}
        for name in names:
            found[title][name] = {bits: [measure(name, depth, bits) for depth in WELLS] for bits in (16, 8)}
            for bits, points in found[title][name].items():
                print(f"{name}, {bits} bits:", *(f"{p.photons:.3g} {p.error:.2g} ({p.predicted:.2g})" for p in points))
    draw(out, found)


if __name__ == "__main__":
    main()
