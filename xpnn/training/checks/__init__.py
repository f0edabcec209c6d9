"""Checks of the arguments and the data of a trainer, before anything is uploaded or trained."""
