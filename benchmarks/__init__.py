"""Speed and memory of the simulator, each figure a ratio measured in one run: ``opu bench``."""
