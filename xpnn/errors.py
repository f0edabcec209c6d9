"""The exceptions that xpnn raises; each one is also the built-in exception that a user would expect."""

from __future__ import annotations

from xpnn import deprecated


class XpnnError(Exception):
    """The root of every error that xpnn raises on purpose."""


class InputError(XpnnError, ValueError):
    """An argument, an array or an option that cannot be used; the message says what came and what was wanted."""


class DataFormatError(InputError):
    """A file whose content is not what its name, its header or its checksum promises."""


class DownloadError(XpnnError, OSError):
    """A file could not be had from any mirror; the message holds each address with its reason, and the way out."""


class DeviceUnavailableError(XpnnError, RuntimeError):
    """A device or an array library that was asked for by name cannot be used; the message holds reason and hint."""


class DeviceMemoryError(XpnnError, MemoryError):
    """A device has too little memory; the message says how much was wanted, what is free, and what would fit."""


class NonFiniteError(XpnnError, ArithmeticError):
    """A loss or a weight became NaN or infinite; the message names the step and the learning rate."""


class CheckFailedError(XpnnError, AssertionError):
    """A layer, a loss or an optimizer does not compute what it should; the message says what, and where."""


deprecated.attach(__name__)
