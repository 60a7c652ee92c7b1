"""What follows from a chain without taking a frame: exposure, moments, speckle statistics, time and energy."""
