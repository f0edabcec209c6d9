"""Parquet files: the numbers of values that their pages declare.

The footer and the headers of the pages are in Thrift's compact protocol; only what is checked here is named.
"""

from __future__ import annotations

import struct
from mmap import mmap
from typing import Any, NamedTuple

from xpnn.data.files import fault
from xpnn.data.limits import FLOOR, RATIO
from xpnn.errors import DataError

_MAGIC = b"PAR1"
_DEPTH = 12  # of structures in structures; Parquet's own have 6
_AGAIN = "save it again as Parquet, or download it again"
_HEADERS = {0: 5, 2: 7, 3: 8}  # kind of a page (data, dictionary, data of version 2): the field of its header


class _Thrift:
    """Reads structures as {number of the field: value}. Raises ValueError or IndexError if there is none."""

    def __init__(self, data: bytes | mmap, at: int, end: int) -> None:
        self.data, self.at, self.end = data, at, end

    def _byte(self) -> int:
        if self.at >= self.end:
            raise ValueError("it ends within a structure")
        self.at += 1
        return self.data[self.at - 1]

    def _number(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 128:
            value, shift = value | (byte & 127) << shift, shift + 7
            if shift > 63:
                raise ValueError("a number has too many digits")
        return value | byte << shift

    def _skip(self, count: int) -> bytes:
        if count > self.end - self.at:
            raise ValueError("a text is longer than the structure")
        self.at += count
        return self.data[self.at - count : self.at]

    def _value(self, kind: int, depth: int) -> Any:
        match kind:
            case 1 | 2:
                return kind == 1
            case 3:
                return self._byte()
            case 4 | 5 | 6:
                return (number := self._number()) >> 1 ^ -(number & 1)
            case 7:
                return self._skip(8)
            case 8:
                return self._skip(self._number())
            case 9 | 10:
                head = self._byte()
                count, inner = head >> 4, head & 15
                count = self._number() if count == 15 else count
                if count > self.end - self.at:
                    raise ValueError("a list is longer than the structure")
                is_bool = inner in (1, 2)
                return [self._byte() == 1 if is_bool else self._value(inner, depth + 1) for _ in range(count)]
            case 12:
                return self.structure(depth + 1)
        raise ValueError(f"a value of kind {kind}")

    def structure(self, depth: int = 0) -> dict[int, Any]:
        """Read a structure, and go on behind it."""
        if depth > _DEPTH:
            raise ValueError("structures are nested too deeply")
        found: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            if head >> 4:
                number += head >> 4
            else:
                number = (encoded := self._number()) >> 1 ^ -(encoded & 1)
            found[number] = self._value(head & 15, depth)
        return found


class _Chunk(NamedTuple):
    """The part of a column that is in a group of rows."""

    name: str
    begin: int
    end: int
    values: int


def check_parquet(source: str, data: bytes | mmap) -> int:
    """Compare what a Parquet file declares with its size.

    Parameters
    ----------
    source : str
        The name of the file, for messages.
    data : bytes or mmap
        Its content.

    Returns
    -------
    int
        How many values it declares.

    Raises
    ------
    DataFormatError
        If its structure is damaged. The message names the group of rows, the column and the page.
    DataError
        If it declares far more values than it can hold.
    """
    place = "its footer"
    try:
        size = struct.unpack("<I", data[-8:-4])[0] if len(data) >= 12 and data[-4:] == _MAGIC else len(data)
        if size > len(data) - 12:
            raise ValueError(f"it needs {size} bytes")
        footer = _Thrift(data, len(data) - 8 - size, len(data) - 8).structure()
        groups = footer[4]
        values = unpacked = rows = 0
        for i, group in enumerate(groups, 1):
            rows += _count(group[3])
            for column in group[1]:
                place = f"row group {i}"
                chunk = _chunk(column[3], len(data) - 8 - size)
                place = f"row group {i}, column {chunk.name[:40]!r}"
                values += max(chunk.values, group[3])
                unpacked += _pages(data, chunk)
        if rows != footer[3]:
            raise ValueError(f"its groups have {rows} rows, and it declares {footer[3]}")
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, struct.error) as error:
        lacks = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
        raise fault(source, f"is not a Parquet file, or is damaged ({place}: {lacks[:120]})", _AGAIN) from None
    most = max(4 * FLOOR, 10 * RATIO * len(data))
    if max(8 * values, unpacked) > most:
        raise DataError(
            f"{source!r}: declares {values} values, {unpacked} bytes unpacked, in {len(data)} bytes; expected at most "
            f"{most} bytes; save it as CSV if it is right"
        )
    return values


def _count(number: int) -> int:
    if number < 0:
        raise ValueError(f"a count of {number}")
    return number


def _chunk(about: dict[int, Any], end: int) -> _Chunk:
    begin, size = min(n for n in (about.get(11), about[9]) if n), _count(about[7])
    name = b".".join(about[3]).decode(errors="replace")
    if begin < 4 or begin + size > end:
        raise ValueError(f"column {name[:40]!r} takes bytes {begin} to {begin + size} of {end}")
    return _Chunk(name, begin, begin + size, _count(about[5]))


def _pages(data: bytes | mmap, chunk: _Chunk) -> int:
    """Check the pages of a column, and return their bytes, unpacked."""
    at, values, unpacked, number = chunk.begin, 0, 0, 0
    while at < chunk.end and values < chunk.values:
        number += 1
        thrift = _Thrift(data, at, chunk.end)
        page = thrift.structure()
        packed, size, at = _count(page[3]), _count(page[2]), thrift.at
        if packed > chunk.end - at:
            raise ValueError(f"page {number} takes {packed} bytes, of which {chunk.end - at} are there")
        at, unpacked = at + packed, unpacked + size
        if page[1] not in _HEADERS:
            continue
        count = _count(page[_HEADERS[page[1]]][1])
        if page[1] == 2:
            if count > size:
                raise ValueError(f"its dictionary declares {count} values in {size} bytes")
            continue
        values += count
    if values != chunk.values:
        raise ValueError(f"its pages hold {values} values, and it declares {chunk.values}")
    return unpacked
