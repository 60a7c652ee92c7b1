"""The phase screens of the GPU on numba's simulator, against those of the processor; in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = """
import numpy as np
from photonics import draw
from photonics.kernels.screens import screen
from photonics.kernels.screens_cuda import screen_fields

key, stream = draw.key(2**40 + 7), 12
rng = np.random.default_rng(0)
for modes, turned in [(21, None), (21, 10), (1, None), (521, None), (21, 0)]:
    field = (rng.normal(size=(2, modes)) + 1j * rng.normal(size=(2, modes))).astype(np.complex64)
    for layer, conj in [(0, False), (2, True)]:
        ours, theirs, count = field.copy(), field.copy(), modes if turned is None else turned
        screen_fields(ours, layer, key, conj, 0.3, turned)
        screen(theirs, count, layer, stream, *key, np.float32(0.3), np.float32(-1 if conj else 1))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(ours[:, count:], field[:, count:])
        assert not count or np.all(ours[:, :count] != field[:, :count])
screen_fields(field[:0], 0, key)
print("same screens")
"""


def test_screens_agree_on_the_simulator():
    """Every mode of every frame, to 1e-6, a part of the modes or all, and the conjugate.

    Catches: a word for the wrong mode, the last call's modes beyond the end, a sign.
    """
    simulated = os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore::RuntimeWarning", "-c", CODE]  # scalars of numpy warn where words wrap
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=simulated, timeout=120)
    assert run.returncode == 0, run.stderr
    assert "same screens" in run.stdout
