"""Direct Feedback Alignment in PyTorch, with feedback that passes through the device."""
