"""Compiled code: the laws of the generator and of the sensor, and the loops over them, for CPU and GPU."""
