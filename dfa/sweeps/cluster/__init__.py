"""Computation of the points of a sweep by the workers of a dask cluster."""
