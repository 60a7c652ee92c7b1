"""The chip of a camera: its data sheet, maps and flaws of its pixels, and how they are read."""
