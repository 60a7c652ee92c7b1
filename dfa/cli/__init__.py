"""The command line, `opu`."""
