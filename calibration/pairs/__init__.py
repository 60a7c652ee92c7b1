"""Fits to pairs of patterns and frames as a lab has them, in any order."""
