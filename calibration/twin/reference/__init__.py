"""The reference arm of a bench: intensity and noise, fringes with the speckle, and the tilt of the beam."""
