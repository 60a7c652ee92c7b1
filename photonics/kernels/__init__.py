"""Compiled code: the laws of the generator and of the sensor, and the loops that run them."""
