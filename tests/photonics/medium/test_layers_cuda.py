"""The phase screens of the GPU on numba's simulator, against those of the processor; in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
CODE = """
import numpy as np
from photonics import draws
from photonics.kernels import cuda
from photonics.kernels.screens import screen, screen_into as processor
from photonics.kernels.screens_cuda import screen_into

cuda.MIN_BLOCKS = 1
key, stream = draws.key(2**40 + 7), 12
rng = np.random.default_rng(0)
for modes in (21, 1, 521):
    field = (rng.normal(size=(2, modes)) + 1j * rng.normal(size=(2, modes))).astype(np.complex64)
    for layer, conj in [(0, False), (2, True)]:
        ours, theirs = field.copy(), field.copy()
        which = modes, layer, stream, *key, np.float32(0.3), np.float32(-1 if conj else 1)
        screen_into(ours, ours, layer, key, conj, 0.3)
        screen(theirs, *which)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
        assert np.all(ours != field)
for given, width in [(10, 21), (21, 10), (600, 521), (0, 3)]:
    wide = rng.normal(size=(2, given)) + 1j * rng.normal(size=(2, given))
    for source in (wide.real.astype(np.float32), wide.astype(np.complex64)):
        ours, theirs = np.full((2, width), np.nan, np.complex64), np.zeros((2, width), np.complex64)
        before, turned = source.copy(), min(given, width)
        screen_into(source, ours, 1, key, True, 0.3)
        processor(source, turned, 1, stream, *key, np.float32(0.3), np.float32(-1), theirs)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
        assert not ours[:, turned:].any()
        np.testing.assert_array_equal(source, before)
screen_into(field[:0], field[:0], 0, key)
print("same screens")
"""


def test_screens_agree_on_the_simulator():
    """Every mode of every frame, to 1e-6, in place or into an array of another width, and the conjugate.

    Catches: a word for the wrong mode, modes beyond the end, dark modes left as they were, a sign.
    """
    simulated = os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore::RuntimeWarning", "-c", CODE]  # scalars of numpy warn where words wrap
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=simulated, timeout=120)
    assert run.returncode == 0, run.stderr
    assert "same screens" in run.stdout
