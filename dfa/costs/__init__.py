"""Time and energy of a training step: backpropagation, Direct Feedback Alignment on chips, and through a device."""

from dfa.costs.parts import Chips, Device, Links, Network
from dfa.costs.steps import METHODS, Step, step
from dfa.costs.table import Point, Scaling, scaling

__all__ = ["METHODS", "Chips", "Device", "Links", "Network", "Point", "Scaling", "Step", "scaling", "step"]
