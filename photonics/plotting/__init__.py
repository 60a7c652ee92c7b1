"""Figures of a device and its frames."""
