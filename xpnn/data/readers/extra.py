"""The libraries of the extra ``data``, imported when a file needs them."""

from __future__ import annotations

import importlib
from types import ModuleType

from xpnn.errors import InputError


def find(name: str) -> ModuleType | None:
    """Return the module, or None if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def need(name: str, source: str, what: str) -> ModuleType:
    """Return the module that a file needs.

    Parameters
    ----------
    name
        Name of the module.
    source
        Name of the file, for the message.
    what
        What in the file needs the module, for the message.

    Returns
    -------
    module

    Raises
    ------
    InputError
        If the module is not installed. The message says how to install it.
    """
    module = find(name)
    if module is None:
        raise lacking(source, what)
    return module


def lacking(source: str, what: str) -> InputError:
    """Return the error for a file that needs a library which is not installed."""
    return InputError(f"{source!r}: {what}; for this, pip install 'xpnn[data]'")
