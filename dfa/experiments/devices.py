"""Devices of a plan: a description with some parameters changed."""

from collections.abc import Mapping

from photonics import OPU

__all__ = ["change_device"]


def change_device(opu: OPU, changes: Mapping[str, object]) -> OPU:
    """Return the device with other parameters, values by dotted name: ``opu.replace(**changes)``."""
    return opu.replace(**changes)
