"""Frames, recordings and results on disk: written aside, synced, renamed, and checked when they are read."""
