"""``python -m benchmarks``: everything on one core. Libraries read these variables when they are imported."""

import os

os.environ |= dict.fromkeys(
    ("NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
# Some machines pin OpenBLAS to the kernels of an older processor. The reference here is the fastest kernel.
os.environ.pop("OPENBLAS_CORETYPE", None)

import sys

from benchmarks.suite import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
