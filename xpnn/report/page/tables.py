"""Tables and numbers as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

_LONGEST = 300  # characters of a cell
NOTHING = "\N{EN DASH}"


def as_table(
    head: Sequence[str], rows: Iterable[Sequence[Any]], *, text: Iterable[int] = (), best: int | None = None
) -> dict[str, Any]:
    """Return a table for the template.

    Parameters
    ----------
    head : sequence of str
        The names of the columns.
    rows : iterable of sequences
        The cells; the first of each row is its header.
    text : iterable of int
        Columns whose cells are text and not numbers.
    best : int, optional
        A row to emphasize.
    """
    return {"head": list(head), "rows": [[as_cell(x) for x in row] for row in rows], "text": list(text), "best": best}


def as_cell(value: Any) -> str:
    """Return a value as text.

    Examples
    --------
    >>> as_cell(12345), as_cell(0.000123456), as_cell(None), as_cell(True)
    ('12,345', '0.0001235', '–', 'yes')
    """
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**18 else f"{value:.4e}" if abs(value) < 10**300 else "too large"
    if isinstance(value, float):
        return as_number(value)
    found = str(value)
    return found if len(found) <= _LONGEST else found[: _LONGEST - 1] + "…"


def as_number(value: Any) -> str:
    """Return a figure with four digits."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e300:
        return NOTHING
    return f"{float(value):.4g}"


def as_percent(value: Any) -> str:
    """Return a share in per cent."""
    return f"{value:.2%}" if isinstance(value, (int, float)) and abs(value) < 1e9 else NOTHING


def as_seconds(value: Any) -> str:
    """Return a duration.

    Examples
    --------
    >>> as_seconds(0.0123), as_seconds(75.0), as_seconds(3700)
    ('12.3 ms', '1 min 15 s', '1 h 1 min')
    """
    if not isinstance(value, (int, float)) or not 0 <= value < 1e12:
        return NOTHING
    if value < 1:
        return f"{1000 * value:.3g} ms"
    if value < 60:
        return f"{value:.3g} s"
    if value < 3600:
        return f"{int(value // 60)} min {int(value % 60)} s"
    return f"{int(value // 3600)} h {int(value % 3600 // 60)} min"
