"""Speed of the simulator, each figure a ratio measured in one run: ``make bench``."""
