"""Frames of a Gaussian matrix for methods without a reference, by the camera alone: no laser, no mirrors."""

from typing import NamedTuple

import numpy as np

from calibration.camera.noise import NoiseModel
from calibration.fields.readings import Bench
from calibration.metrics import matrix_row_errors
from photonics.parts.camera import Camera

MEAN_OF_WELL = 1.0 / 6.9
"""Mean over full well at which one reading in 1000 saturates: exp(-6.9)."""
CAMERA = Camera(read_noise_e=3.0)


class Outcome(NamedTuple):
    """Rows solved, and their errors."""

    errors: np.ndarray
    block: object
    predicted: np.ndarray
    """Relative error of each row that the block states."""


def gaussian(rows, n, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(rows, n)) + 1j * rng.normal(size=(rows, n))) / np.sqrt(2 * n)


def intensities(matrix, patterns, leak=0.0):
    """``|sum_j t_j (x_j + leak (1 - x_j))|^2``: (frames, rows)."""
    x = patterns[:, : matrix.shape[1]]
    return np.abs((x + leak * ~x) @ matrix.T) ** 2


def bench(rows, n, unit_dn, saturation_dn, noise, scale_error=0.0):
    return Bench(
        n_in=n,
        n_out=rows,
        unit_dn=unit_dn,
        saturation_dn=saturation_dn,
        leakage=0j,
        carrier=(0.0, 0.0),
        frame_shape=(1, rows),
        scale_error=scale_error,
        noise=noise,
    )


def exact(method, matrix, leak=0.0):
    """Frames without noise, with 100 DN for unit intensity; and their bench."""
    frames = 100.0 * intensities(matrix, method.shots(0, method.frames).patterns, leak)
    return frames, bench(*matrix.shape, 100.0 * abs(1 - leak) ** 2, 10**9, NoiseModel(1e-5, 1e-5, 0.0))


def photographed(method, matrix, camera=CAMERA, leak=0.03, share=MEAN_OF_WELL):
    """Frames of the camera, half-ON patterns at a share of the full well on average; and their bench."""
    unit_e = 2.0 * share * camera.full_well_e  # all ON is twice as bright
    mean = intensities(matrix, method.shots(0, method.frames).patterns, leak) * unit_e / camera.quantum_efficiency
    frames = camera.expose(mean.astype(np.float32), 1e-4, np.arange(method.frames))
    noise = NoiseModel(1.0 / 12.0 + (camera.gain * camera.read_noise_e) ** 2, camera.gain, camera.offset)
    unit_dn = camera.gain * unit_e * abs(1 - leak) ** 2
    return frames, bench(*matrix.shape, unit_dn, camera.saturation_dn, noise, camera.prnu / 2.0)


def solve(method, matrix, frames, about):
    block = method.solve(frames, slice(0, len(matrix)), about, None)
    truth = matrix[:, : method.n_inputs]
    predicted = block.standard_error * np.sqrt(method.n_inputs) / np.linalg.norm(truth, axis=1)
    return Outcome(matrix_row_errors(block.matrix, truth, method.gauge), block, predicted)


class Frames:
    """Frames in memory for `RecoveryMethod.prepare`."""

    def __init__(self, frames):
        self.all = frames
        self.count = len(frames)

    def rows(self, rows):
        return self.all[:, rows]

    def frames(self, start, stop):
        return self.all[start:stop]
