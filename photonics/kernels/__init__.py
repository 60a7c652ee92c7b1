"""Compiled code for CPU and GPU: the distributions of the generator and of the sensor, and loops over them."""
