"""Sizes of a tile of a transmission matrix, see `photonics.kernels.product`."""

__all__ = ["BLOCK", "FRAMES", "INPUTS", "OUTPUTS", "PARTS", "SLICE", "WIDTH"]

INPUTS = 256
"""Inputs of a tile."""
OUTPUTS = 256
"""Outputs of a tile."""
PARTS = 2 * OUTPUTS
WIDTH = PARTS + 16
FRAMES = 4
"""Number of frames summed side by side in registers."""
SLICE = 128
"""Inputs of a chain, a divisor of `INPUTS`: as many rows of a register block fit in the first-level cache."""
BLOCK = 64 * SLICE
"""Inputs that are summed in float32, a multiple of `INPUTS`: equal terms are right to 4e-6."""
