"""Recovery of the transmission matrix: one file for each method."""
