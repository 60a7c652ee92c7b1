"""Processes that hold parts of one network: their messages and replicas."""
