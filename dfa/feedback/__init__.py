"""Sources of teaching signals: fixed random matrices, and the device; encodings of the error."""
