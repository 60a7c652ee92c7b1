"""The parts of a bench: laser, mirrors, imaging, reference arm and camera, each a frozen component."""
