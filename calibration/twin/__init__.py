"""A simulated device fitted to the frames of a bench: the questions, one file per estimator, the twin and its test."""
