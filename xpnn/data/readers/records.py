"""The rows of a table in text: which lines each takes, and whether it has as many cells as the header.

Libraries fill short rows with missing values, and lose count of the lines. Therefore the rows are counted here, by
NumPy, before a library reads them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from xpnn.data.files import fault
from xpnn.devices.cpu_blas import usable_cores

_CHUNK = 2**20
_LINE, _RETURN, _QUOTE = b'\n\r"'
_CELLS = "each line needs as many cells as the header"
_QUOTES = "put a cell that holds one between two of them, and double it inside"


class Records(NamedTuple):
    """The rows that hold data.

    Attributes
    ----------
    text : bytes
        The text from `start` on holds these rows, without empty lines.
    start : int
        Where the first row begins in `text`.
    lines : ndarray
        Line of each row, where it begins: int64 of shape (n,).
    cells : int
        Number of cells in each row: one more than the header's if all rows end with a separator.
    quoted : bool
        Whether there are quotation marks.
    """

    text: bytes
    start: int
    lines: np.ndarray
    cells: int
    quoted: bool


class _Part(NamedTuple):
    """What a part of the text holds: the ends of rows; how many separators come before, and line breaks up to, each."""

    ends: np.ndarray
    before: np.ndarray
    after: np.ndarray
    marks: int
    breaks: int
    wrong: tuple[int, bool] | None = None


def scan(name: str, text: bytes, start: int, line: int, separator: str, cells: int) -> Records:
    """Find the rows, and check the number of their cells and their quotation marks.

    Parameters
    ----------
    name
        Name of the source, for messages.
    text
        The file as UTF-8.
    start
        Where the first row after the header begins.
    line
        Its line.
    separator
        The separator, one ASCII character.
    cells
        Number of names in the header.

    Returns
    -------
    Records

    Raises
    ------
    DataFormatError
        If there are no rows, a row has too few or too many cells, or a quotation mark is not closed.
    """
    view = np.frombuffer(text, np.uint8)
    quoted = text.find(b'"', start) >= 0
    places = range(start, len(text), _CHUNK)
    with ThreadPoolExecutor(min(4, usable_cores())) as pool:  # NumPy releases the lock
        inside = [0] * len(places)
        if quoted:
            quotes = pool.map(lambda begin: np.count_nonzero(view[begin : begin + _CHUNK] == _QUOTE), places)
            *inside, last = np.cumsum([0, *quotes]).tolist()
            border = np.zeros(256, bool)
            border[[ord(separator), _LINE, _RETURN, _QUOTE]] = True

        def look(begin: int, before: int) -> _Part:
            chunk = view[begin : begin + _CHUNK]
            if not quoted:
                ends, marks = np.flatnonzero(chunk == _LINE), np.flatnonzero(chunk == ord(separator))
                return _Part(ends, np.searchsorted(marks, ends), np.arange(1, len(ends) + 1), len(marks), len(ends))
            quote, every, outside, is_end = _specials(chunk, ord(separator), bool(before % 2))
            wrong = _wrong_quote(view, quote + begin, before, start, border)
            found = np.flatnonzero(is_end)
            ends, marks = outside[found], found - np.arange(len(found))
            after = np.searchsorted(every, ends) + 1
            return _Part(ends, marks, after, len(outside) - len(found), len(every), wrong)

        parts = list(pool.map(look, places, inside))
    if bad := next((part.wrong for part in parts if part.wrong is not None), None):
        position, opens = bad
        if opens:
            number = line + text.count(b"\n", start, position)
            raise fault(name, f"line {number}: a quotation mark stands inside a cell", _QUOTES)
        raise _unclosed(name, text, text.rfind(b'"', start, position), start, line)
    if quoted and last % 2:
        raise _unclosed(name, text, text.rfind(b'"', start), start, line)
    found_ends, found_marks, found_lines = [], [], []
    marks = breaks = 0
    for begin, part in zip(places, parts, strict=True):
        found_ends.append(part.ends + begin)
        found_marks.append(part.before + marks)
        found_lines.append(part.after + (breaks + line))
        marks, breaks = marks + part.marks, breaks + part.breaks
    if text[-1:] != b"\n":  # the last row ends with the file
        found_ends.append(np.array([len(text)]))
        found_marks.append(np.array([marks]))
        found_lines.append(np.array([0]))
    ends, after = _joined(found_ends), _joined(found_lines)
    counts = np.diff(_joined(found_marks), prepend=0) + 1
    begins, lines = np.append(start, ends[:-1] + 1), np.append(line, after[:-1])
    if not len(ends) or start >= len(text):
        raise fault(name, "no rows follow the header", "add the data")
    blank = _blank(text, view, begins, ends, counts)
    if len(blank):
        keep = np.ones(len(ends), bool)
        keep[blank] = False
        text, start = _without(text, begins[blank], ends[blank] + 1, start), 0
        lines, counts = lines[keep], counts[keep]
    if not len(lines):
        raise fault(name, "no rows follow the header", "add the data")
    if (counts == cells + 1).all():
        return Records(text, start, lines, cells + 1, quoted)
    if (wrong := np.flatnonzero(counts != cells)).size:
        row = wrong[0]
        raise fault(name, f"line {lines[row]} has {counts[row]} cells, the header has {cells}", _CELLS)
    return Records(text, start, lines, cells, quoted)


def _specials(chunk: np.ndarray, mark: int, inside: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return where quotation marks are, where line breaks are, and where the borders of cells are.

    A border is a line break or a separator outside quotation marks. The fourth array is a mask of the third: which are
    line breaks. `inside` is whether the chunk begins between two quotation marks.
    """
    at = np.flatnonzero((chunk == _QUOTE) | (chunk == _LINE) | (chunk == mark))
    kind = chunk[at]
    is_quote, is_line = kind == _QUOTE, kind == _LINE
    outside = np.flatnonzero(~(np.logical_xor.accumulate(is_quote) ^ inside | is_quote))
    return at[is_quote], at[is_line], at[outside], is_line[outside]


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts).astype(np.int64, copy=False) if parts else np.empty(0, np.int64)


def _blank(text: bytes, view: np.ndarray, begins: np.ndarray, ends: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the indices of the rows that are empty lines."""
    first = view[np.minimum(begins, len(view) - 1)]
    maybe = np.flatnonzero((counts == 1) & ((begins == ends) | (first == _RETURN) | (first == 32) | (first == 9)))
    return np.array([i for i in maybe if not text[begins[i] : ends[i]].strip()], dtype=np.int64)


def _without(text: bytes, begins: np.ndarray, ends: np.ndarray, start: int) -> bytes:
    """Return the text from `start` on, without these parts."""
    kept, view = [], memoryview(text)
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        kept.append(view[start:begin])
        start = end
    return b"".join([*kept, view[start:]])


def _wrong_quote(
    view: np.ndarray, quote: np.ndarray, before: int, start: int, border: np.ndarray
) -> tuple[int, bool] | None:
    """Return the first quotation mark that does not begin or end a cell, and whether it opens.

    `quote` has the positions of some of them; `before` is the number of those before.
    """
    if not len(quote):
        return None
    opens = (np.arange(len(quote)) + before) % 2 == 0
    first, last = quote == start, quote == len(view) - 1
    beside = np.where(opens, view[quote - 1], view[np.minimum(quote + 1, len(view) - 1)])
    wrong = np.flatnonzero(~(border[beside] | (opens & first) | (~opens & last)))
    return (int(quote[wrong[0]]), bool(opens[wrong[0]])) if wrong.size else None


def _unclosed(name: str, text: bytes, quote: int, start: int, line: int) -> Exception:
    number = line + text.count(b"\n", start, quote)
    return fault(name, f"line {number}: a quotation mark is not closed", _QUOTES)
