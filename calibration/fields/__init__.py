"""From frames to complex fields: holography, phase stepping, off-axis sidebands, drift and saturated readings."""
