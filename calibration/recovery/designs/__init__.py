"""Sets of binary patterns with a fast inverse, with which a transmission matrix is probed."""
