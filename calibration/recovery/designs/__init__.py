"""Sets of binary patterns with a fast inverse, which probe a transmission matrix."""
