"""Binary patterns: how bits, grey levels and complex fields are shown on mirrors that are ON or OFF."""
