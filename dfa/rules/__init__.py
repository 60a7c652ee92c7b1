"""Learning rules: direct feedback alignment, layer-wise feedback, and training one process per block."""
