"""The version, where everything can read it without the public face."""

__version__ = "0.1.0"
