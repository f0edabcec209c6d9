"""Readers for idx files from untrusted sources, and what the readers of other files share.

The type of a file is detected from its content, never from its name. Memory is allocated only for bytes that the file
really holds, whatever its header declares. Nothing is unpickled. Every fault raises one `DataFormatError`, which names
the file, what was found and a hint.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from xpnn.data.limits import ensure_memory, memory_scope, most_unpacked, too_much
from xpnn.errors import DataFormatError, InputError

LIMIT = 2**31  # limit of the unpacked size in bytes, if no other is given
_CHUNK = 2**20
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_AGAIN = "download or copy it again"
NO_PICKLE = (
    "a pickle can execute arbitrary code when it is loaded, so xpnn never loads one; "
    "if you trust the file, convert it with numpy.save(file, array, allow_pickle=False)"
)
_PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth")


def fault(path: Path | str, found: str, hint: str) -> DataFormatError:
    """Return the error for a file. The file name is escaped, because it may contain terminal control codes."""
    return DataFormatError(f"{str(path)!r}: {found}; {hint}")


def describe(head: bytes) -> str:
    """Describe the type of a file that begins with `head`; return "" if it may be text."""
    start = head.lstrip()[:15].lower()
    if not head:
        return "an empty file"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return "an HTML page"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a Python pickle"
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    return f"binary data beginning {head[:8].hex(' ')}" if b"\0" in head else ""


_MAGIC = {
    b"version https://git": "a Git LFS pointer instead of the file",
    b"PK\x03\x04": "a zip archive",
    b"\x93NUMPY": "a NumPy .npy file",
    b"\x89PNG": "a PNG image",
    b"%PDF": "a PDF document",
    b"PAR1": "a Parquet file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}


@contextmanager
def opened(path: Path | str, stream: BinaryIO | None = None) -> Iterator[BinaryIO]:
    """Open a file as a stream of bytes, unpacked if the content is gzip.

    Errors of the stream inside the ``with`` block are raised as xpnn's own. If the content was read already, `stream`
    holds it, and `path` is its name for messages.

    Raises
    ------
    InputError
        If the file cannot be opened or read.
    DataFormatError
        If the gzip stream is damaged.
    """
    try:
        with _open(path) if stream is None else stream as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not packed:
                yield raw
                return
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield cast(BinaryIO, unpacked)
    except EOFError:
        raise fault(path, "truncated: the gzip stream ends too early", _AGAIN) from None
    except (gzip.BadGzipFile, zlib.error) as error:  # a wrong CRC or length, or trailing bytes
        raise fault(path, f"damaged gzip file ({error})", _AGAIN) from None
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise InputError(f"{str(path)!r} {reason}; check the path") from None


def _open(path: Path | str) -> BinaryIO:
    try:
        return open(path, "rb")
    except ValueError as error:  # a null character
        raise InputError(f"{str(path)!r} cannot be read: {error}; check the path") from None


def read_bytes(path: Path | str, limit: int = LIMIT) -> bytearray:
    """Read a whole file, unpacked if it is gzip.

    Parameters
    ----------
    path
        File to read.
    limit
        Largest number of unpacked bytes to accept.

    Returns
    -------
    bytearray

    Raises
    ------
    InputError
        If the file cannot be read.
    DataFormatError
        If the file is damaged, or holds more than `limit` bytes.
    DataError
        If it unpacks to more than 64 MiB and than 100 times its size.
    """
    data, most = bytearray(), _most(path)
    with memory_scope(path), opened(path) as file:  # in chunks: read(limit) would allocate it for a file of ten bytes
        while len(data) <= min(limit, most) and (chunk := file.read(min(_CHUNK, limit + 1 - len(data)))):
            data += chunk
    if len(data) > limit:
        raise fault(path, f"holds more than {limit} bytes", f"it has trailing bytes: {_AGAIN}")
    if len(data) > most:
        raise too_much(str(path), most)
    return data


def _most(path: Path | str) -> int:
    """Return the most bytes that a file may hold, unpacked."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        return most_unpacked(size) if isinstance(file, gzip.GzipFile) else size


def read_head(path: Path | str, size: int = 512) -> bytes:
    """Read the first bytes of a file, at most `size`, unpacked if the file is gzip."""
    with opened(path) as file:
        return file.read(size)


class IdxHeader(NamedTuple):
    """What an idx file holds: shape and dtype in the order of the file, where the values begin, all bytes, unpacked."""

    shape: tuple[int, ...]
    dtype: np.dtype
    begin: int
    total: int


def read_idx_header(path: Path | str) -> IdxHeader:
    """Read the header of an idx file, plain or gzip, and compare it with the size of the file.

    Raises
    ------
    InputError
        If the file cannot be read.
    DataFormatError
        If the file is not an idx file, or a plain one has not exactly the length that its header declares.
    """
    head = read_head(path, 20)
    kind = describe(head) if head[:2] != b"\0\0" else ""
    if kind or len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _IDX_TYPES or not 1 <= head[3] <= 4:
        found = kind or f"bytes {head[:4].hex(' ')}"
        wanted = "an idx file begins with 00 00, a type from 08 to 0e and a rank from 1 to 4"
        raise fault(path, f"found {found}, not an idx file", f"{wanted}; {_AGAIN}")
    rank, begin = head[3], 4 + 4 * head[3]
    if len(head) < begin:
        raise fault(path, f"truncated: the header ends at byte {len(head)} of {begin}", _AGAIN)
    shape = struct.unpack(f">{rank}I", head[4:begin])
    dtype = np.dtype(_IDX_TYPES[head[2]])
    total, most = begin + math.prod(shape) * dtype.itemsize, _most(path)
    if total > max(most, LIMIT):
        raise fault(path, f"declares shape {shape}, {total} bytes", f"expected at most {max(most, LIMIT)}; {_AGAIN}")
    with opened(path) as file:
        packed = isinstance(file, gzip.GzipFile)
    if packed and total > most:
        raise too_much(str(path), most)
    if not packed and total != most:
        raise _wrong_length(path, most, total)
    return IdxHeader(shape, dtype, begin, total)


def _wrong_length(path: Path | str, found: int, total: int) -> DataFormatError:
    if found < total:
        return fault(path, f"truncated at byte {found} of {total}", _AGAIN)
    return fault(path, f"holds more than {total} bytes", f"it has trailing bytes: {_AGAIN}")


def read_idx(path: Path | str, sha256: str | None = None, size: int | None = None) -> np.ndarray:
    """Read the array in an idx file, plain or gzip.

    Parameters
    ----------
    path
        File to read.
    sha256
        Expected SHA-256 of the unpacked bytes, if given.
    size
        Expected number of unpacked bytes, if given: checked before they are read.

    Returns
    -------
    ndarray
        The array, in the machine's byte order.

    Raises
    ------
    InputError
        If the file cannot be read.
    DataFormatError
        If the file is not an idx file, has another size or hash, or not exactly the length that its header declares.

    Notes
    -----
    The format is that of Y. LeCun's MNIST page: the bytes 00 00, the type, the rank, one big-endian uint32 per
    dimension, then the values.
    """
    header = read_idx_header(path)
    if size is not None and header.total != size:
        raise fault(path, f"declares shape {header.shape}, {header.total} bytes", f"expected {size}; {_AGAIN}")
    ensure_memory(path, header.total, "use fewer rows, or unpack it: a file that is not packed is read in parts")
    data = read_bytes(path, header.total)
    if len(data) < header.total:
        raise _wrong_length(path, len(data), header.total)
    if sha256 is not None and (digest := hashlib.sha256(data).hexdigest()) != sha256:
        raise fault(path, f"its unpacked bytes have SHA-256 {digest}, expected {sha256}", _AGAIN)
    values: np.ndarray = np.frombuffer(data, header.dtype, offset=header.begin).reshape(header.shape)
    return values.astype(header.dtype.newbyteorder("="), copy=False)


def refuse_pickle(path: Path | str) -> None:
    """Raise DataFormatError if the file is a pickle, by its name or its content."""
    if Path(path).suffix.lower() in _PICKLES or describe(read_head(path)) == "a Python pickle":
        raise fault(path, "is a Python pickle", NO_PICKLE)
