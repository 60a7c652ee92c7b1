"""Planned training runs, compared over methods and seeds."""
