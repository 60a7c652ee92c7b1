"""``python -m benchmarks``: one core, BLAS at its best. Libraries read these variables when they are imported."""

import os

os.environ |= dict.fromkeys(
    ("NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
# Some machines pin OpenBLAS to the kernel of an older processor. A ceiling is what the fastest one reaches.
os.environ.pop("OPENBLAS_CORETYPE", None)

import sys

from benchmarks.suite import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
