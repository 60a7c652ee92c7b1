"""Chapters of a characterisation: each a function of frames that returns lines with verdicts and curves to draw."""
