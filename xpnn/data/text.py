"""Text in files: numbers as they are written, and names for messages."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*(e[+-]?\d+)?|\.\d+(e[+-]?\d+)?|nan|inf(inity)?)", re.ASCII | re.IGNORECASE)


def number_of(text: str) -> float | None:
    """Return the number that `text` represents, or None."""
    return float(text) if _NUMBER.fullmatch(text) else None


def listed(names: Iterable[str], most: int = 8) -> str:
    """Return the first few names, escaped, and the number of the others."""
    names = list(names)
    shown = ", ".join(repr(name[:40]) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
