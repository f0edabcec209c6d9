"""Runners: how each array library executes training steps."""

from xpnn import deprecated

deprecated.attach(__name__)
