"""A temporary file for what a large table becomes. It has no name, so nothing remains of it when the process ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from xpnn.arrays.mapped import MappedRows
from xpnn.devices.memory import in_words
from xpnn.errors import SaveError, printable

_LARGE_FILES = "/var/tmp"  # on many systems /tmp is in memory, and this is where large temporary files belong
_ALIGNED = 64


def scratch_folder() -> Path:
    """Return the folder for large temporary files: TMPDIR if it is set, else /var/tmp if it can be written to."""
    named = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    return Path(tempfile.gettempdir() if named or not os.access(_LARGE_FILES, os.W_OK) else _LARGE_FILES)


def free_scratch_bytes() -> int:
    """Return how many bytes the folder for temporary files can still take; 0 if it cannot be used."""
    try:
        return shutil.disk_usage(scratch_folder()).free
    except OSError:
        return 0


def no_space(source: str, wanted: int, reason: str) -> SaveError:
    """Return the error for a table whose temporary file cannot be written."""
    folder, free = scratch_folder(), free_scratch_bytes()
    return SaveError(
        printable(
            f"{source!r}: its temporary file cannot be written to {str(folder)!r}: {reason} ({in_words(wanted)} "
            f"needed, {in_words(free)} free); name another folder by TMPDIR"
        )
    )


class Scratch:
    """A temporary file to which arrays are written one after the other, and which is then mapped into memory.

    Parameters
    ----------
    source : str
        The name of the table, for messages.
    wanted : int
        About how many bytes will be written, for messages.

    Raises
    ------
    SaveError
        From all methods, if the file cannot be written.
    """

    def __init__(self, source: str, wanted: int) -> None:
        self.source, self.wanted = source, wanted
        self._end = 0
        try:
            self._file = tempfile.TemporaryFile(dir=scratch_folder(), prefix="xpnn-")  # noqa: SIM115
        except OSError as error:
            raise no_space(source, wanted, error.strerror or str(error)) from error

    def begin(self) -> int:
        """Return where the next array begins, after it has been aligned."""
        gap = -self._end % _ALIGNED
        self._write(memoryview(bytes(gap)))
        return self._end

    def append(self, values: np.ndarray) -> None:
        """Write an array, in C order."""
        self._write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)

    def mapped(self) -> np.ndarray:
        """Return all bytes, mapped into memory; the file disappears with the last reference to them."""
        try:
            with self._file:
                self._file.flush()
                return np.asarray(np.memmap(self._file, np.uint8, "r"))
        except (OSError, ValueError) as error:  # written with a file system that is full, or not mapped
            raise no_space(self.source, self.wanted, getattr(error, "strerror", None) or str(error)) from error

    def close(self) -> None:
        """Give up the file."""
        with contextlib.suppress(OSError):  # of a disk that is full, once more
            self._file.close()

    def _write(self, data: memoryview) -> None:
        try:
            self._file.write(data)  # and not through the mapping: a full disk would kill the process
        except OSError as error:
            raise no_space(self.source, self.wanted, error.strerror or str(error)) from error
        self._end += data.nbytes


def mapped_rows(source: str, parts: Iterable[np.ndarray], rows: int) -> MappedRows:
    """Write parts of a table of so many rows to a temporary file, and return them as rows that stay in it.

    Raises
    ------
    SaveError
        If the file cannot be written.
    """
    scratch: Scratch | None = None
    try:
        for part in parts:
            scratch = scratch or Scratch(source, rows * part[0].nbytes)
            scratch.append(part)
            dtype, shape = part.dtype, (rows, *part.shape[1:])
        if scratch is None:
            raise ValueError("there are no rows")
        return MappedRows(scratch.mapped().view(dtype).reshape(shape))
    finally:
        if scratch is not None:
            scratch.close()
