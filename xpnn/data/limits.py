"""How much memory reading a file may take: limits for packed content, and an estimate before the memory is taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xpnn.devices.memory import free_host_bytes, in_words
from xpnn.errors import DataError, DeviceMemoryError, XpnnError

FLOOR = 2**26  # bytes that a file of any size may unpack to
RATIO = 100  # more is unusual for data; gzip reaches 1,030, which only a file that is made for it, or is empty, does
MAPPED_FROM = 2**28  # bytes of an array from which it stays in its file
_ASKED_FROM = 2**24  # the free memory is asked for from here on: that takes some tenths of a millisecond


def most_unpacked(packed: int) -> int:
    """Return the largest number of bytes to which a packed file of this size may unpack."""
    return max(FLOOR, RATIO * packed)


def too_much(name: str, limit: int) -> DataError:
    """Return the error for a packed file that holds more than the limit."""
    return DataError(
        f"{name!r}: unpacks to more than {limit} bytes, {RATIO} times its size; if you trust the file, unpack it first"
    )


def ensure_memory(name: Path | str, wanted: int, hint: str) -> None:
    """Raise DeviceMemoryError if the host has not as much free memory as reading a file takes.

    Parameters
    ----------
    name : str or Path
        The name of the file.
    wanted : int
        The number of bytes that reading it takes.
    hint : str
        What to do if it is too much.
    """
    if wanted < _ASKED_FROM:
        return
    free = free_host_bytes()
    if free is not None and wanted > free:
        raise DeviceMemoryError(
            f"{str(name)!r}: reading it takes about {in_words(wanted)} of memory, of which {in_words(free)} are free; "
            f"{hint}"
        )


@contextmanager
def memory_scope(name: Path | str) -> Iterator[None]:
    """Raise DeviceMemoryError with the name of a file if memory runs out while it is read."""
    try:
        yield
    except MemoryError as error:
        if isinstance(error, XpnnError):
            raise
        reason = str(error).partition("\n")[0][:120]
        raise DeviceMemoryError(
            f"{str(name)!r}: memory ran out while it was read{f' ({reason})' if reason else ''}; {LARGE}"
        ) from None


#: What to do with a table that is too large.
LARGE = "use fewer rows or columns, or save it as x.npy and y.npy, which are read in parts"
