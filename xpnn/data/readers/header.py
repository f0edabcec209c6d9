"""The header of a table in text: separator and names of the columns."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from xpnn.data.files import fault
from xpnn.data.text import listed, number_of
from xpnn.errors import DataError, InputError

SEPARATORS = ",;\t|"
_SPELLED = {"\\t": "\t", "tab": "\t", "comma": ",", "semicolon": ";"}
_SAMPLE = 20  # rows
_EXCEL = re.compile(rb'"?sep=([^"\r\n])"?\r?\n', re.IGNORECASE)
_LONGEST = 2**24  # bytes of the header: a million columns
_NO_LINES = "check that the file has lines"
_ROW = "the first row looks like data"


class Header(NamedTuple):
    """What the first lines say, and a sample of the rows.

    Attributes
    ----------
    names : list of str
        Names of the columns, all different.
    separator : str
    start : int
        Where the first row begins in the text, in bytes.
    line : int
        Its line.
    sample : list of list of str
        Cells of the first rows.
    """

    names: list[str]
    separator: str
    start: int
    line: int
    sample: list[list[str]]


def read_header(name: str, text: bytes, separator: str | None, decimal: str) -> Header:
    """Read the names of the columns.

    Parameters
    ----------
    name
        Name of the source, for messages.
    text
        The file as UTF-8.
    separator
        The separator. By default that of Excel's line ``sep=;``, or else the most frequent of comma, semicolon, tab and
        bar in the header.
    decimal
        The decimal sign, which is then no separator.

    Returns
    -------
    Header

    Raises
    ------
    InputError
        If the separator is not one ASCII character.
    DataFormatError
        If the first row is empty, looks like data, or has a name twice. The message names it.

    Examples
    --------
    >>> read_header("t.csv", b"a;b\\n1,5;x\\n", None, ",").names
    ['a', 'b']
    """
    separator = _SPELLED.get(separator or "", separator)
    if separator is not None and (len(separator) != 1 or not separator.isascii() or separator in '"\r\n'):
        raise InputError(f"separator: got {separator!r}; expected one character, such as ',', ';' or '\\t'")
    if decimal not in (".", ",") or separator == decimal:
        raise InputError(f"decimal: got {decimal!r} with separator {separator!r}; expected '.' or ',', and another one")
    start, first = 0, 1
    if excel := _EXCEL.match(text):
        separator = separator or excel[1].decode(errors="replace")
        start, first = excel.end(), 2
        if len(separator) != 1 or not separator.isascii():
            raise fault(name, f"line 1: the separator {separator!r} is not one ASCII character", "remove the line")
    end = _end(name, text, start, first)
    if end - start > _LONGEST:
        raise DataError(f"{name!r}: line {first} holds {end - start} bytes, expected at most {_LONGEST}; {_NO_LINES}")
    head = text[start:end].decode()
    if not head.strip():
        raise fault(name, "the first line is empty" if text else "found an empty file", "write the column names there")
    if separator is None:
        bare = re.sub(r'"[^"]*"', "", head)
        separator = max(SEPARATORS.replace(decimal, ""), key=bare.count)
    try:
        cells = next(csv.reader(io.StringIO(head, newline=""), delimiter=separator, strict=True))
    except (csv.Error, StopIteration) as error:
        hint = "close each quotation mark of the header, and shorten long names"
        raise fault(name, f"line {first}: {error}", hint) from None
    names, line = [cell.strip() for cell in cells], first + head.count("\n")
    sample = _sample(text, end, separator, len(head))
    if len(names) > 1 and not names[-1] and all(len(row) < len(names) or not row[-1].strip() for row in sample):
        names.pop()  # each line ends with a separator; `records.scan` finds one cell more, which must be empty
    _check(name, names, sample)
    return Header(names, separator, end, line, sample)


def _end(name: str, text: bytes, start: int, first: int) -> int:
    """Return where the row after the header begins: a name in quotation marks can hold line breaks."""
    quotes, begin = 0, start
    while (end := text.find(b"\n", begin)) >= 0:
        quotes += text.count(b'"', begin, end)
        begin = end + 1
        if quotes % 2 == 0:
            return begin
    if (quotes + text.count(b'"', begin)) % 2:
        raise fault(name, f"line {first}: a quotation mark is not closed", "close each one of the header")
    return len(text)


def _sample(text: bytes, start: int, separator: str, length: int) -> list[list[str]]:
    part = text[start : start + max(2**16, 8 * length)]
    rows = []
    try:
        for row in csv.reader(io.StringIO(part.decode(errors="replace"), newline=""), delimiter=separator):
            rows.append(row)
            if len(rows) > _SAMPLE:
                break
    except csv.Error:  # a cell longer than csv accepts
        pass
    whole = start + len(part) >= len(text) and len(rows) <= _SAMPLE
    return [row for row in (rows if whole else rows[:-1]) if any(cell.strip() for cell in row)]


def _check(name: str, names: list[str], sample: list[list[str]]) -> None:
    numbers = [number_of(text) for text in names]
    fractions = any(
        number is not None and not text.lstrip("+-").isdigit() for text, number in zip(names, numbers, strict=True)
    )
    counted = names == [str(i) for i in range(len(names))]  # the names that pandas gives to unnamed columns
    if (fractions or (None not in numbers and not counted)) and not _axis(names, numbers, sample):
        raise fault(name, f"{_ROW} ({listed(names)})", "add a header row that names the columns")
    if "" in names:
        hint = "name it or remove it (if pandas wrote its index there, use to_csv(..., index=False))"
        raise fault(name, f"column {names.index('') + 1} of {len(names)} has no name", hint)
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(text for text in names if text in seen or seen.add(text))  # type: ignore[func-returns-value]
        hint = "give each column a different name, and check that the first row is a header"
        raise fault(name, f"two columns are called {twice[:40]!r}", hint)


def _axis(names: list[str], numbers: Sequence[float | None], sample: list[list[str]]) -> bool:
    """Return whether the numbers among the names are an axis, as of wavelengths or pixels.

    They ascend, in about equal steps or over at least eight columns. In some row below, the values do not ascend. A
    name that is text does not occur as a value below it.
    """
    where = [i for i, number in enumerate(numbers) if number is not None]
    axis = [number for number in numbers if number is not None]
    steps = [b - a for a, b in pairwise(axis)]
    if len(axis) < 3 or not all(step > 0 for step in steps) or (max(steps) > 3 * min(steps) and len(axis) < 8):
        return False
    rows = [row for row in sample if len(row) == len(names)]
    for i in set(range(len(names))) - set(where):
        if any(row[i].strip() == names[i] for row in rows):
            return False
    values = [[number_of(row[i].strip()) for i in where] for row in rows]
    return any(not all(a is not None and b is not None and a < b for a, b in pairwise(row)) for row in values)
