"""Training loops for images, graphs and text; checkpoints, guards and diagnostics."""
