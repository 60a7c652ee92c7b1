"""Files: written atomically, checksummed during a measurement, checked when read."""
