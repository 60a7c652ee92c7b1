"""The command line, called as a user calls it."""

import pytest

from dfa.cli.main import main

BENCH = """
exposure_s = 4e-4
[dmd]
frame_rate_hz = 1000.0
[camera]
bit_depth = 10
[imaging]
throughput = 2e-8
[medium]
type = "GaussianMedium"
n_in = 32
n_out = 300
"""
"""A device as a TOML file."""


def opu(*arguments):
    """Exit code of a call."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code or 0


def refused(capfd, *arguments):
    """The one line that a call with bad input prints."""
    assert opu(*arguments) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("opu: ")
    return error
