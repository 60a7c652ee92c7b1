"""Compiled code without a place for its cache."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
USE = """
import numpy as np
from photonics import presets
from photonics.kernels import entries, product, screens
from photonics.patterns.halftone import ErrorDiffusion
ErrorDiffusion().encode(np.linspace(0, 1, 64).reshape(1, 8, 8))
print(presets.lab_bench(9, 6).measure(np.eye(9)).tolist())
"""
READ_ONLY = """
import numba.core.caching as caching
def refuse(self):
    raise PermissionError(13, "Permission denied")  # of every folder: the installation, the home, NUMBA_CACHE_DIR
caching._CacheLocator.ensure_cache_path = refuse
"""


def test_a_read_only_installation_works():
    """With a read-only home: the same frames, one warning that names NUMBA_CACHE_DIR, and one line before compiling.

    Catches: an import that ends in "cannot cache function", a warning for each function, a first run of a minute in
    silence.
    """
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=os.environ | {"PYTHONWARNINGS": "default"},
            capture_output=True,
            text=True,
        )
        for code in (USE, READ_ONLY + USE)
    ]
    assert [run.returncode for run in runs] == [0, 0], runs[1].stderr
    assert runs[0].stdout == runs[1].stdout
    assert [run.stderr.count("set NUMBA_CACHE_DIR") for run in runs] == [0, 1]
    assert runs[1].stderr.count("compiles its kernels") == 1
