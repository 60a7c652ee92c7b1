"""Characterisation of a device: findings, verdicts, and the pages that show them."""
