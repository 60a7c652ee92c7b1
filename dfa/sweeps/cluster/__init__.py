"""The points of a sweep on the workers of a dask cluster."""
