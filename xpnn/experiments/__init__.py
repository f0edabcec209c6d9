"""Experiments: what `xpnn train` does, usable from Python."""
