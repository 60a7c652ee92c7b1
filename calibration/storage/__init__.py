"""Files: written whole or not at all, checksummed while a measurement is under way, checked when they are read."""
