"""Linear projections: one file for each method."""
