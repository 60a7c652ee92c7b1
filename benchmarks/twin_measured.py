"""A twin of a bench whose medium was measured: ``python -m benchmarks.twin_measured FOLDER`` from the root.

The folder holds ``TM_modes_5.0.npz``, ``modes_in_after_correction.npy`` and ``modes_out_after_correction.npy`` of
https://github.com/wavefrontshaping/article_MMF_disorder (Data, MIT licence): the transmission matrix of a multimode
fibre, measured with a DMD (M. W. Matthes, Y. Bromberg, J. de Rosny and S. M. Popoff, Phys. Rev. X 11, 021060 (2021)).
It is the medium of a simulated bench, which is recorded and fitted as in `benchmarks.twin`.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.twin_devices import Bench, hidden, truth
from calibration import check_twin, fit_device, record_bench
from photonics import OPU
from photonics.arrays import ComplexArray
from photonics.medium import MatrixMedium

SIDE_IN, BLOCK = 8, 4
"""Inputs along a side, and the input pixels of the measurement along the side of one."""
SIDE_OUT = 20
"""Pixels along a side, the middle ones of the measurement."""


def measured_matrix(folder: Path) -> ComplexArray:
    """Matrix from inputs to pixels in one polarisation, ``out^T TM in^*``: (SIDE_OUT^2, SIDE_IN^2)."""
    modes = np.load(folder / "TM_modes_5.0.npz")["TM_corr_modes"]
    into, out = (np.load(folder / f"modes_{name}_after_correction.npy") for name in ("in", "out"))
    count = len(into)
    whole = out.T @ modes[:count, :count] @ into.conj()
    rows, columns = (int(np.sqrt(n)) for n in whole.shape)
    first, left = (rows - SIDE_OUT) // 2, (columns - SIDE_IN * BLOCK) // 2
    part = whole.reshape(rows, rows, columns, columns)[first : first + SIDE_OUT, first : first + SIDE_OUT]
    lit = part[:, :, left : left + SIDE_IN * BLOCK, left : left + SIDE_IN * BLOCK]
    blocks = lit.reshape(SIDE_OUT**2, SIDE_IN, BLOCK, SIDE_IN, BLOCK).sum(axis=(2, 4))
    return blocks.reshape(SIDE_OUT**2, SIDE_IN**2).astype(np.complex64)


def bench_of(matrix: ComplexArray) -> OPU:
    """Bench with this medium, otherwise hidden device 0."""
    n_out, n_in = matrix.shape
    opu = hidden(0, n_in=n_in, pixels=n_out)
    opu = opu.replace(medium=MatrixMedium(matrix, normalise=True), imaging=replace(opu.imaging, polarisations=1))
    opu.autoexpose(0.3)
    return opu


def main() -> None:
    """Record, fit and check; print parameters that the truth contradicts, the matrix, and what is not reproduced."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.twin_measured", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the data")
    args = parser.parse_args()
    opu = bench_of(measured_matrix(args.folder))
    with threadpool_limits(1), tempfile.TemporaryDirectory() as folder:
        path = record_bench(Bench(opu), Path(folder) / "bench.h5")
        twin = fit_device(path, matrix=True)
        true = truth(opu)
        for p in twin.parameters:
            if p.known and np.isfinite(true[p.name]):
                value, error = p.estimate.value, p.estimate.error
                print(f"{p.name}: {value:.4g} +- {error:.2g}, true {true[p.name]:.4g}")
        print(twin.matrix)
        print(check_twin(twin, path, runs=3))


if __name__ == "__main__":
    main()
