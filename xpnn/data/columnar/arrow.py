"""Arrow files and streams: the sizes of their batches of rows, in the messages that are FlatBuffers."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple

from xpnn.data.files import fault
from xpnn.data.limits import FLOOR, RATIO
from xpnn.errors import DataError

_MAGIC = b"ARROW1"
_CONTINUES = b"\xff\xff\xff\xff"
_DICTIONARY, _BATCH = 2, 3
_AGAIN = "save it again as Arrow, or download it again"


class _Table(NamedTuple):
    """A table of FlatBuffers: the bytes that hold it, and where it is. Raises struct.error or ValueError."""

    data: memoryview
    at: int

    def field(self, number: int) -> int | None:
        """Return where a field is, or None if the table has none."""
        vtable = self.at - self.number("i", self.at)
        length = self.number("H", vtable)
        offset = self.number("H", vtable + 4 + 2 * number) if 4 + 2 * number < length else 0
        return self.at + offset if offset else None

    def number(self, kind: str, at: int) -> int:
        """Return the number at a position."""
        if not 0 <= at < len(self.data):
            raise ValueError(f"byte {at} of a message of {len(self.data)}")
        return int(struct.unpack_from(f"<{kind}", self.data, at)[0])

    def table(self, number: int) -> _Table | None:
        """Return the table that a field refers to."""
        at = self.field(number)
        return None if at is None else _Table(self.data, at + self.number("I", at))

    def structs(self, number: int, kind: str) -> list[tuple[int, ...]]:
        """Return the structures in the vector that a field refers to."""
        at = self.field(number)
        if at is None:
            return []
        begin = at + self.number("I", at)
        count, size = self.number("I", begin), struct.calcsize(f"<{kind}")
        if count * size > len(self.data) - begin - 4:
            raise ValueError(f"a list of {count} in {len(self.data)} bytes")
        return list(struct.iter_unpack(f"<{kind}", self.data[begin + 4 : begin + 4 + count * size]))


def check_arrow(source: str, data: bytes | mmap) -> int:
    """Compare what an Arrow file or stream declares with its size.

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
        If its structure is damaged. The message names the batch of rows.
    DataError
        If it declares far more values than it can hold.
    """
    place, values, unpacked = "its footer", 0, 0
    try:
        for i, (message, body) in enumerate(_messages(data), 1):
            place = f"message {i}"
            header = message.table(2)
            kind = message.field(1)
            which = 0 if kind is None else message.number("B", kind)
            if which == _DICTIONARY and header is not None:
                header = header.table(1)
            if which not in (_DICTIONARY, _BATCH) or header is None:
                continue
            lengths = [length for length, nulls in header.structs(1, "qq") if _both(length, nulls)]
            values += sum(lengths)
            is_packed = header.field(3) is not None
            for begin, size in header.structs(2, "qq"):
                if begin < 0 or size < 0 or begin + size > len(body):
                    raise ValueError(f"values in bytes {begin} to {begin + size} of {len(body)}")
                if is_packed and size >= 8:
                    unpacked += max(0, struct.unpack_from("<q", body, begin)[0])
    except (ValueError, struct.error) as error:
        raise fault(source, f"is not an Arrow file, or is damaged ({place}: {str(error)[:120]})", _AGAIN) from None
    most = max(4 * FLOOR, 10 * RATIO * len(data))
    if max(8 * values, unpacked) > most:
        raise DataError(
            f"{source!r}: declares {values} values, {unpacked} bytes unpacked, in {len(data)} bytes; expected at most "
            f"{most} bytes; save it as CSV if it is right"
        )
    return values


def _both(length: int, nulls: int) -> bool:
    if length < 0 or nulls < 0:
        raise ValueError(f"{length} values, {nulls} of them missing")
    return True


def _messages(data: bytes | mmap) -> Iterator[tuple[_Table, memoryview]]:
    """Yield each message and its body."""
    view, at = memoryview(data), 0
    if data[:6] == _MAGIC:
        size = struct.unpack("<i", data[-10:-6])[0] if len(data) > 18 and data[-6:] == _MAGIC else -1
        if not 0 < size <= len(data) - 18:
            raise ValueError(f"it needs {size} bytes")
        footer = _Table(part := view[-10 - size : -10], struct.unpack_from("<I", part)[0])
        for number in (2, 3):
            for at, _, _, _ in footer.structs(number, "qiiq"):
                message, body, _ = _message(view, at)
                if message is None:
                    raise ValueError(f"there is no message at byte {at}")
                yield message, body
        return
    while at < len(data):
        message, body, at = _message(view, at)
        if message is None:
            return
        yield message, body


def _message(view: memoryview, at: int) -> tuple[_Table | None, memoryview, int]:
    """Return the message that begins here, its body, and where the next one begins; None at the end of a stream."""
    if not 0 <= at <= len(view) - 4:
        raise ValueError(f"it begins at byte {at} of {len(view)}")
    at += 4 if view[at : at + 4] == _CONTINUES else 0
    size = struct.unpack_from("<i", view, at)[0]
    if not 0 <= size <= len(view) - at - 4:
        raise ValueError(f"it needs {size} bytes, of which {len(view) - at - 4} are there")
    if size == 0:
        return None, view[:0], len(view)
    part, begin = view[at + 4 : at + 4 + size], at + 4 + size
    message = _Table(part, struct.unpack_from("<I", part)[0])
    field = message.field(3)
    length = 0 if field is None else message.number("q", field)
    if not 0 <= length <= len(view) - begin:
        raise ValueError(f"its body needs {length} bytes, of which {len(view) - begin} are there")
    return message, view[begin : begin + length], begin + length
