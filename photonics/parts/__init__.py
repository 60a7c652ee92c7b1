"""The parts of a bench: laser, mirrors, imaging, reference beam and camera."""
