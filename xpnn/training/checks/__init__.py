"""Checks of what a trainer is given, before anything is uploaded or trained."""
