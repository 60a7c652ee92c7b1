"""The camera: its noise model from dark frames, and the photon transfer method of EMVA 1288."""
