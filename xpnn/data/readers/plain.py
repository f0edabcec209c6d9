"""Tables of numbers, with at most one column of text, without another library than NumPy."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from xpnn.data.files import fault
from xpnn.data.readers import extra
from xpnn.data.readers.header import Header
from xpnn.data.readers.records import Records
from xpnn.data.text import number_of
from xpnn.devices.cpu_blas import usable_cores

EXACT = 2**53  # from here on, float64 does not hold every integer
_CHUNK = 2**18  # fits into the cache


def read_plain(source: str, header: Header, records: Records, decimal: str) -> dict[str, np.ndarray]:
    """Read the columns with `numpy.loadtxt`.

    Parameters
    ----------
    source
        Name of the source, for messages.
    header, records
        What is known of the file.
    decimal
        The decimal sign.

    Returns
    -------
    dict of str to ndarray
        As in `Frame`.

    Raises
    ------
    InputError
        If a cell is neither a number nor in the one column of text: this needs the extra ``data``.
    """
    names, n_cells = header.names, records.cells
    if decimal != ".":
        raise extra.lacking(source, "its decimal sign is a comma")
    first = [cell.strip() for cell in header.sample[0]] if header.sample else []
    texts = [i for i, cell in enumerate(first[: len(names)]) if number_of(cell) is None]
    if len(texts) > 1:
        raise extra.lacking(source, f"columns {names[texts[0]]!r} and {names[texts[1]]!r} are not numbers")
    if leading_zeros(records.text, records.start, header.separator):
        raise extra.lacking(source, "has numbers with leading zeros")
    codes, known, latest = list[int](), dict[str, int](), [(0, "")]

    def encode(text: str) -> int:
        codes.append(known.setdefault(text.strip(), len(known)))
        return 0

    def lines() -> Iterator[str]:
        with io.TextIOWrapper(io.BytesIO(records.text), encoding="utf-8", newline="\n") as file:
            file.seek(records.start)
            for latest[0] in enumerate(file):
                yield latest[0][1]

    converters: dict[int | str, Callable[[str], int]] = dict.fromkeys(texts, encode)
    try:
        x: np.ndarray = np.loadtxt(
            lines(),
            comments=None,
            delimiter=header.separator,
            quotechar='"',
            usecols=range(len(names)),
            ndmin=2,
            converters=converters,
        )
    except ValueError:
        raise _not_a_number(source, header, records, texts, *latest[0]) from None
    if n_cells > len(names) or len(x) != len(records.lines):
        raise extra.lacking(source, "its lines end with separators, or cells hold line breaks")
    columns: dict[str, np.ndarray] = {}
    for i, name in enumerate(names):
        if i in texts:
            columns[name] = words(np.array(list(known), dtype=object)[codes])
        else:
            columns[name] = _number(source, name, x[:, i], [row[i] for row in header.sample if len(row) > i])
    return columns


def leading_zeros(text: bytes, start: int, separator: str) -> bool:
    """Return whether a cell from `start` on begins with 0 and another digit, as codes do: 007 is not the number 7."""
    view = np.frombuffer(text, np.uint8)

    def found(begin: int) -> bool:
        part = view[begin : begin + _CHUNK + 2]
        before, zero, after = part[:-2], part[1:-1], part[2:]
        first = (zero == ord("0")) & ((after - ord("0")) < 10)  # bytes wrap around: what comes before "0" is large
        first &= (before <= ord('"')) | (before == ord(separator))  # line breaks, tabs, spaces and quotation marks
        return bool(first.any())

    with ThreadPoolExecutor(min(4, usable_cores())) as pool:  # NumPy releases the lock
        return any(pool.map(found, range(max(start - 1, 0), len(view), _CHUNK)))


def _number(source: str, name: str, x: np.ndarray, sample: list[str]) -> np.ndarray:
    """Return a column as integers if all are, and the first ones are written as such."""
    x = np.ascontiguousarray(x)
    if not all(cell.strip().lstrip("+-").isdigit() for cell in sample) or not (x == np.rint(x)).all():
        return x
    if np.abs(x).max() >= EXACT and np.isfinite(x).all():
        raise extra.lacking(source, f"column {name!r} has integers of more than 15 digits")
    return small(x.astype(np.int64)) if np.isfinite(x).all() else x


def small(x: np.ndarray) -> np.ndarray:
    """Return int64 values as uint8 if all are from 0 to 255."""
    return x.astype(np.uint8) if x.size and x.min() >= 0 and x.max() <= 255 else x


def words(x: np.ndarray) -> np.ndarray:
    """Return a column of text with None for what is missing, or as bool if all cells are true or false."""
    texts = set(x.tolist())
    if texts and all(isinstance(text, str) and text.lower() in ("true", "false") for text in texts):
        return np.array([text.lower() == "true" for text in x], dtype=bool)
    missing = {text for text in texts if text in MISSING}
    return np.array([None if text in missing else text for text in x], dtype=object) if missing else x


#: Texts that mean that a value is missing: pandas' and R's, and "?" of the UCI repository.
MISSING = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "nan", "NaN", "NAN", "null", "NULL", "Null", "None", "?")


def _not_a_number(source: str, header: Header, records: Records, texts: list[int], row: int, line: str) -> Exception:
    """Return the error for the first cell of a line that is not a number."""
    number = records.lines[min(row, len(records.lines) - 1)]
    cells = next(csv.reader([line], delimiter=header.separator), [])
    for i, (name, cell) in enumerate(itertools.zip_longest(header.names, cells[: len(header.names)], fillvalue="")):
        if i not in texts and number_of(cell.strip()) is None:
            found = f"{cell.strip()[:40]!r} is not a number" if cell.strip() else "the cell is empty"
            return extra.lacking(source, f"line {number}, column {name!r}: {found}")
    return fault(source, f"line {number} cannot be read as numbers", "correct the line")
