"""The bytes of a file, of standard input or of a pipe: unpacked, and as UTF-8 text."""

from __future__ import annotations

import codecs
import io
import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO

from xpnn.data.files import describe, fault, opened
from xpnn.data.limits import LARGE, ensure_memory, memory_scope, most_unpacked, too_much
from xpnn.data.readers import extra
from xpnn.errors import DataFormatError, InputError

LIMIT = 2**35  # limit of the unpacked size in bytes: a file of some megabytes can unpack to terabytes
STDIN = "-"
_CHUNK = 2**20
_ASKED = 2**26  # bytes after which the free memory is asked for
_ZSTD = b"\x28\xb5\x2f\xfd"
_GZIP = b"\x1f\x8b"
_WINDOW = 2**27  # the largest that zstd itself unpacks unasked
_AGAIN = "download or copy it again"
_NAME_IT = "name its encoding by `encoding`, for example"


def is_pipe(path: str | Path) -> bool:
    """Return whether the path is standard input (``"-"``) or a pipe, which can be read only once."""
    if str(path) == STDIN:
        return True
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def name_of(path: str | Path) -> str:
    """Return the name of a source, for messages."""
    return "<stdin>" if str(path) == STDIN else str(path)


def read_source(path: str | Path, limit: int = LIMIT) -> bytes:
    """Read a file, standard input or a pipe as a whole, unpacked if the content is gzip or Zstandard.

    Parameters
    ----------
    path
        File to read, or ``"-"``.
    limit
        Largest number of bytes to accept, packed and unpacked.

    Returns
    -------
    bytes

    Raises
    ------
    InputError
        If the file cannot be read, or is packed with Zstandard and no library for it is installed.
    DataFormatError
        If the packed data is damaged, or the file holds more than `limit` bytes.
    DataError
        If it unpacks to more than 64 MiB and than 100 times its size.
    """
    name, data = name_of(path), b""
    with memory_scope(name):
        if is_pipe(path):
            try:
                if str(path) == STDIN:
                    data = _all(name, sys.stdin.buffer, limit)
                else:
                    with open(path, "rb") as pipe:
                        data = _all(name, pipe, limit)
            except (OSError, AttributeError) as error:  # AttributeError: without standard input, sys.stdin is None
                reason = getattr(error, "strerror", None) or "it is closed"
                raise InputError(f"{name!r} cannot be read: {reason}") from None
        else:
            data = _content(path, limit)
        if data.startswith(_GZIP):
            with opened(name, io.BytesIO(data)) as unpacked:
                return _all(name, unpacked, limit, most_unpacked(len(data)))
        return _unzstd(name, data, limit) if data.startswith(_ZSTD) else data


def _content(path: str | Path, limit: int) -> bytes:
    """Read a file that has a size, as it is."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise fault(path, f"holds {size} bytes", f"expected at most {limit}; divide it into smaller files")
            ensure_memory(path, size, LARGE)
            return file.read()
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise InputError(f"{str(path)!r} {reason}; check the path") from None
    except ValueError as error:  # a path with a null character
        if isinstance(error, InputError):
            raise
        raise InputError(f"{str(path)!r} cannot be read: {error}; check the path") from None


def _all(name: str, file: BinaryIO, limit: int, most: int | None = None) -> bytes:
    """Read in chunks, so that packed data which unpacks to too much (more than `most`) is refused early."""
    data = io.BytesIO()
    while chunk := file.read(_CHUNK):
        data.write(chunk)
        if data.tell() % _ASKED < len(chunk):  # of a stream without an end, before the memory is full
            ensure_memory(name, data.tell(), LARGE)
        if data.tell() > limit:
            raise fault(name, f"holds more than {limit} bytes", "divide it into smaller files")
        if most is not None and data.tell() > most:
            raise too_much(name, most)
    return data.getvalue()


def _unzstd(name: str, packed: bytes, limit: int) -> bytes:
    zstandard = extra.need("zstandard", name, "is packed with Zstandard")
    data, rest, most = io.BytesIO(), io.BytesIO(packed), min(limit, most_unpacked(len(packed)))
    unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
    chunk = b""
    try:
        while chunk := chunk or rest.read(512):  # small: each may unpack to 16 MB
            if unpacker.eof:
                unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
            data.write(unpacker.decompress(chunk))
            chunk = unpacker.unused_data if unpacker.eof else b""
            if data.tell() > most:
                raise too_much(name, most)
    except zstandard.ZstdError as error:
        raise fault(name, f"damaged Zstandard file ({error})", _AGAIN) from None
    if not unpacker.eof:
        raise fault(name, "truncated: the Zstandard stream ends too early", _AGAIN)
    return data.getvalue()


def to_text(name: str, data: bytes, encoding: str) -> bytes:
    """Return text as UTF-8 without a byte order mark, with lines that end in ``\\n`` or ``\\r\\n``.

    Parameters
    ----------
    name
        Name of the source, for messages.
    data
        Encoded text.
    encoding
        Name of its encoding, as in `bytes.decode`.

    Returns
    -------
    bytes

    Raises
    ------
    InputError
        If there is no such encoding.
    DataFormatError
        If the data is not text in this encoding. The message names the line.
    """
    try:
        "a".encode(encoding)
        codec = codecs.lookup(encoding)
        reader = codec.incrementaldecoder
    except (LookupError, ValueError, UnicodeError):
        reader = None
    if reader is None:
        raise InputError(
            f"`encoding`: {encoding!r} is unknown; use utf-8, cp1252, latin-1, utf-16 or another of Python's"
        )
    if not data and name == name_of(STDIN):
        raise fault(name, "standard input is empty", "pipe the data in, as in: cat FILE | xpnn …")
    if codec.name in ("utf-8", "utf-8-sig"):
        if kind := describe(data[:512]):
            hint = "expected a table as text; save or download it again"
            raise fault(name, f"found {kind}", f"{_NAME_IT} utf-16" if kind.startswith("UTF-16") else hint)
        _check(name, data)
    else:
        data = _decoded(name, data, codec)
    data = data.removeprefix(codecs.BOM_UTF8)
    return data.replace(b"\r", b"\n") if b"\n" not in data else data


def _check(name: str, data: bytes) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    for begin in range(0, len(data), _CHUNK):
        chunk = data[begin : begin + _CHUNK]
        pending = len(decoder.getstate()[0])
        if pending or not chunk.isascii():
            try:
                decoder.decode(chunk, begin + _CHUNK >= len(data))
            except UnicodeDecodeError as error:
                line = 1 + data.count(b"\n", 0, begin - pending + error.start)
                byte = error.object[error.start]
                hint = f"{_NAME_IT} cp1252, or save it in UTF-8"
                raise fault(name, f"line {line}: not UTF-8 text (byte 0x{byte:02x})", hint) from None


def _decoded(name: str, data: bytes, codec: codecs.CodecInfo) -> bytes:
    assert codec.incrementaldecoder is not None
    decoder, text = codec.incrementaldecoder(), bytearray()
    try:
        for begin in range(0, len(data), _CHUNK):
            chunk = data[begin : begin + _CHUNK]
            text += decoder.decode(chunk, begin + _CHUNK >= len(data)).encode()
    except (UnicodeError, ValueError) as error:
        before = error.object[: error.start] if isinstance(error, UnicodeDecodeError) else b""
        line = 1 + text.count(b"\n") + before.count(b"\n")
        raise _wrong(name, line, codec.name) from None
    return bytes(text)


def _wrong(name: str, line: int, encoding: str) -> DataFormatError:
    return fault(name, f"line {line}: not text in {encoding}", f"{_NAME_IT} utf-8 or cp1252")
