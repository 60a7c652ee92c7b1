"""Compile the GPU kernels to PTX for the types of their launches; `test_cuda_compiles.py` runs this.

This needs NVVM under CUDA_HOME, but neither a GPU nor a driver.
"""

import json
import sys
from types import SimpleNamespace

import numba
import numba.cuda.dispatcher
import numpy as np

COMPUTE_CAPABILITY = (9, 0)
KEY = (1, 7, 9)
SCALE = np.float32(0.125)


def launches():
    """Every kernel of the package by its name, with the arguments of a real launch."""
    from photonics.kernels import cuda, screens_cuda

    found = {}

    def note(kernel, width, rows, *arguments, stream=None):
        found[kernel.py_func.__name__] = (kernel.py_func, arguments)

    cuda.launch = screens_cuda.launch = note
    cuda.fill_entries(False, 0, 0, KEY, SCALE, np.zeros((4, 8), np.complex64))
    cuda.fill_entries(True, 0, 0, KEY, SCALE, np.zeros((4, 64), np.complex64))
    cuda.fill_halves(0, 0, KEY, np.zeros((4, 2), np.int64), np.zeros((4, 2), np.int64))
    cuda.project(np.zeros((2, 4), np.float32), 0, KEY, SCALE, np.zeros((1, 2, 8), np.float32))
    pixels = np.zeros(5, np.float32)
    numbers = np.zeros(6, np.float32)
    light, frames = np.zeros((2, 5), np.float32), np.zeros((2, 5), np.uint8)
    cuda.expose(light, np.zeros(2, np.int64), KEY, np.zeros(5, np.uint32), pixels, pixels, *numbers, frames)
    screens_cuda.screen_into(np.zeros((2, 9), np.complex64), np.zeros((2, 9), np.complex64), 1, KEY[1:])
    return found


def main(folder):
    """Write the PTX of each kernel into a folder, and print the names."""
    # numba types the functions that a kernel calls for the current GPU, so this stands in for one.
    numba.cuda.dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=COMPUTE_CAPABILITY)
    found = launches()
    for name, (function, arguments) in found.items():
        signature = tuple(numba.typeof(argument) for argument in arguments)
        ptx, _ = numba.cuda.compile_ptx(function, signature, cc=COMPUTE_CAPABILITY)
        with open(f"{folder}/{name}.ptx", "w") as file:
            file.write(ptx)
    print(json.dumps(list(found)))


if __name__ == "__main__":
    main(sys.argv[1])
