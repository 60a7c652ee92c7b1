"""Analysis of a chain: exposure, moments of the frames, speckle statistics, time and energy."""
