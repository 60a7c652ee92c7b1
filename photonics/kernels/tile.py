"""Sizes of the pieces of a transmission matrix, see `photonics.kernels.product` and `photonics.kernels.tables`."""

__all__ = ["BLOCK", "CHAIN", "GROUP", "INPUTS", "OUTPUTS", "PANEL", "PARTS", "SLICE", "WIDTH"]

GROUP = 64
"""Rows that the three-bit law draws together, by 4 Philox calls; the Gaussian law draws pairs of rows, by one call."""
INPUTS = 256
"""Inputs of a tile."""
OUTPUTS = 256
"""Outputs of a tile."""
PARTS = 2 * OUTPUTS
WIDTH = PARTS + 16
PANEL = 32
"""Real and imaginary parts side by side in a panel, a divisor of `PARTS`."""
SLICE = 128
"""Inputs of a chain of multiply-adds, a divisor of `INPUTS`: their rows of a panel fit in the first-level cache."""
CHAIN = 64
"""Inputs of a chain of sums of four, a divisor of `SLICE`: the tables of their rows fit in the first-level cache."""
BLOCK = 64 * SLICE
"""Inputs that are summed in float32, a multiple of `INPUTS`: equal terms are right to 4e-6."""
