"""Text in files: numbers as they are written, and names for messages."""

from __future__ import annotations

import re
from collections.abc import Iterable

# No text can match in two ways: with `\d+\.?\d*`, a cell of 20,000 digits and a letter would take 19 seconds.
_NUMBER = re.compile(r"[+-]?((\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|nan|inf(inity)?)", re.ASCII | re.IGNORECASE)


def number_of(text: str) -> float | None:
    """Return the number that `text` represents, or None."""
    return float(text) if _NUMBER.fullmatch(text) else None


def shortest_integer(text: str) -> str:
    """Return the text of an integer of any length without the plus sign and leading zeros, as `str(int(text))`."""
    digits = text.lstrip("+-").lstrip("0") or "0"  # int() refuses more than 4,300 digits
    return f"-{digits}" if text.startswith("-") and digits != "0" else digits


def listed(names: Iterable[str], most: int = 8) -> str:
    """Return the first few names, escaped, and the number of the others."""
    names = list(names)
    shown = ", ".join(repr(name[:40]) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
