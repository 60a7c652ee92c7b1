"""The loop of error diffusion, in which each mirror depends on those before it."""

import numpy as np
from numpy.typing import NDArray

from photonics.arrays import BoolArray
from photonics.kernels.compiled import compiled

__all__ = ["diffuse"]


@compiled()
def diffuse(images: NDArray[np.float64], out: BoolArray) -> None:
    """Serpentine Floyd-Steinberg of images (batch, rows, columns) into `out`."""
    batch, rows, columns = images.shape
    # Errors for this row and the next, with one column of margin on either side for errors that leave the image.
    here, below = np.zeros(columns + 2), np.zeros(columns + 2)
    for b in range(batch):
        below[:] = 0.0
        for r in range(rows):
            here, below = below, here
            below[:] = 0.0
            step = 1 - 2 * (r % 2)
            for i in range(columns):
                c = i if step > 0 else columns - 1 - i
                wanted = images[b, r, c] + here[c + 1]
                on = wanted > 0.5
                out[b, r, c] = on
                error = (wanted - on) / 16.0
                here[c + 1 + step] += 7.0 * error
                below[c + 1 - step] += 3.0 * error
                below[c + 1] += 5.0 * error
                below[c + 1 + step] += error
