"""The exceptions that xpnn raises. Each is also a subclass of the built-in exception that a user would expect."""

from __future__ import annotations

from typing import Any

from xpnn import deprecated


def printable(text: str) -> str:
    """Return text in which control characters are visible.

    Parameters
    ----------
    text : str
        A message or a name, which may come from a file.

    Returns
    -------
    str
        The text; what could change the state of a terminal, or the order of its letters, is an escape sequence. Line
        breaks stay.

    Examples
    --------
    >>> printable("rye\\x1b[31m")
    'rye\\\\x1b[31m'
    """
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


class XpnnError(Exception):
    """Base class of all errors that xpnn raises. Their messages contain no control characters but line breaks."""

    def __str__(self) -> str:
        return printable(BaseException.__str__(self))


class InputError(XpnnError, ValueError):
    """An argument, an array or an option is invalid. The message states what was given and what is expected."""


class DataError(InputError):
    """The content of a file cannot be used. The message states the file, where in it, what is expected, and a hint."""


class DataFormatError(DataError):
    """The content of a file does not match its name, its header or its checksum."""


class DownloadError(XpnnError, OSError):
    """A file could not be downloaded from any mirror. The message lists each address with its error, and a hint."""


class SaveError(XpnnError, OSError):
    """A file could not be written. The message states the path and the reason; an earlier file is unchanged."""


class DeviceUnavailableError(XpnnError, RuntimeError):
    """A device or an array library that was requested by name cannot be used. The message has the reason and a hint."""


class DeviceMemoryError(XpnnError, MemoryError):
    """A device has too little memory. The message states how much is needed, how much is free, and what would fit."""


class NonFiniteError(XpnnError, ArithmeticError):
    """A loss or a weight became NaN or infinite. The message states the step and the learning rate.

    Parameters
    ----------
    message : str
    epoch, step : int, optional
        Where it happened, counted from 1.
    of_weights : bool, default False
        Whether a weight is not finite, and the loss is.

    Attributes
    ----------
    first : str
        The first value of the step that is not finite, such as "the output of layer 2, ReLU"; empty if unknown.
    rows : array or None
        The indices of the rows of its batch.
    """

    def __init__(
        self, message: str, *, epoch: int | None = None, step: int | None = None, of_weights: bool = False
    ) -> None:
        super().__init__(message)
        self.epoch, self.step, self.of_weights = epoch, step, of_weights
        self.first = ""
        self.rows: Any = None


class CheckFailedError(XpnnError, AssertionError):
    """A layer, a loss or an optimizer computes a wrong result. The message states which one, and where."""


deprecated.attach(__name__)
