"""Readers for .npy files. What a file holds is known from its header before memory is allocated for it."""

from __future__ import annotations

import io
import math
import os
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xpnn.arrays.mapped import MappedRows
from xpnn.data import limits
from xpnn.data.files import NO_PICKLE, describe, fault, read_head
from xpnn.data.limits import ensure_memory, memory_scope
from xpnn.errors import DataFormatError, InputError

HEAD = 2**16  # bytes that hold each header that is read; NumPy itself reads at most 10,000
_AGAIN = "download or copy it again"
_MOST_AXES = 32


class NpyHeader(NamedTuple):
    """What a .npy file holds.

    Attributes
    ----------
    shape : tuple of int
    fortran : bool
        Whether the first index changes fastest.
    dtype : dtype
        Of real numbers or text, in the byte order of the file.
    begin : int
        Where the values begin, in bytes.
    total : int
        The bytes of the values.
    """

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    begin: int
    total: int


def read_npy_header(name: Path | str, head: bytes, size: int) -> NpyHeader:
    """Read the header, and compare it with the size of the file.

    Parameters
    ----------
    name : str or Path
        The name of the file, for messages.
    head : bytes
        Its first `HEAD` bytes, or all if it has fewer.
    size : int
        The size of the file in bytes.

    Returns
    -------
    NpyHeader

    Raises
    ------
    DataFormatError
        If it is no .npy file, holds something else than real numbers or text, or has another size than declared.
    """
    file = io.BytesIO(head)  # a declared length of 4 GiB reads no more than there is
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy warns of what Python 2 wrote
            version = np.lib.format.read_magic(file)
            if version not in ((1, 0), (2, 0), (3, 0)):
                raise ValueError(f"version {version[0]}.{version[1]} of the format is unknown")
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
    except (Exception, RecursionError, MemoryError) as error:  # of any type: Python's parser reads the header
        raise fault(name, f"not a .npy file, or a damaged one ({_short(error)})", _AGAIN) from None
    if dtype.hasobject:
        raise fault(name, "holds Python objects, which are pickled", NO_PICKLE)
    if dtype.kind not in "biufU":
        raise fault(name, f"holds values of dtype {str(dtype)[:40]}, expected real numbers", "convert them first")
    if len(shape) > _MOST_AXES or not all(0 <= n < 2**63 for n in shape):
        raise fault(name, f"declares {len(shape)} axes, or one of an impossible length", _AGAIN)
    total, begin = math.prod(shape) * dtype.itemsize, file.tell()
    if size - begin != total:
        raise _wrong_size(name, size - begin, shape, total)
    return NpyHeader(tuple(int(n) for n in shape), bool(fortran), dtype, begin, total)


def _wrong_size(name: Path | str, found: int, shape: tuple[int, ...], total: int) -> DataFormatError:
    return fault(name, f"holds {found} bytes of values, but shape {shape} needs {total}", _AGAIN)


def map_array(path: Path | str, dtype: np.dtype, begin: int, shape: tuple[int, ...]) -> MappedRows:
    """Return the array that begins at this byte of a file, in C order: its rows are read when they are used.

    Raises
    ------
    InputError
        If the file cannot be mapped.
    """
    try:
        return MappedRows(np.memmap(path, dtype, "r", begin, shape))
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{str(path)!r} cannot be mapped into memory: {reason}; check the limits of memory") from None


def map_npy(path: Path | str) -> MappedRows | None:
    """Return a large .npy file of numbers as rows that stay in it; None for any other file, which is read.

    Raises
    ------
    DataFormatError
        As `read_npy_header`.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < limits.MAPPED_FROM or file.read(6) != b"\x93NUMPY":
                return None
            file.seek(0)
            header = read_npy_header(path, file.read(HEAD), size)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        return None  # `read_source` says why
    if header.fortran or header.dtype.kind == "U" or not header.shape or not header.total:
        return None
    return map_array(path, header.dtype, header.begin, header.shape)


def parse_npy(name: Path | str, data: bytes | bytearray) -> np.ndarray:
    """Return the array in the bytes of a .npy file, in the dtype that it has and the machine's byte order.

    Raises
    ------
    DataFormatError
        As `read_npy_header`, and for text that is none.
    """
    header = read_npy_header(name, bytes(data[:HEAD]), len(data))
    if not header.total:
        raise fault(name, f"holds no samples (shape {header.shape})", "expected (n, …)")
    x: np.ndarray = np.frombuffer(data, header.dtype, offset=header.begin)
    x = x.reshape(header.shape, order="F" if header.fortran else "C")
    if header.dtype.kind == "U":
        _check_text(name, x)
    return x.astype(header.dtype.newbyteorder("="), order="C")  # copied: the bytes cannot be written to


def read_npy(path: Path | str) -> np.ndarray:
    """Read the array in a .npy file.

    Parameters
    ----------
    path
        File to read, not compressed.

    Returns
    -------
    ndarray
        The array, as uint8 if the file holds uint8 or booleans, otherwise as float64.

    Raises
    ------
    InputError
        If the file cannot be read.
    DataFormatError
        If the file is damaged, or its values are not real numbers. Python objects would need unpickling.
    """
    head = read_head(path)
    if describe(head) != "a NumPy .npy file":
        raise fault(path, f"found {describe(head) or 'text'}, not a .npy file", "write it with numpy.save")
    with open(path, "rb") as file:
        head = file.read(HEAD)
        if head[:1] != b"\x93":
            raise fault(path, "is compressed with gzip", "decompress it first (gunzip)")
        header = read_npy_header(path, head, os.fstat(file.fileno()).st_size)
        if header.dtype.kind == "U":
            raise fault(path, f"holds values of dtype {header.dtype}, expected real numbers", "convert them first")
        dtype = np.dtype(np.uint8 if header.dtype in (np.bool_, np.uint8) else np.float64)
        ensure_memory(path, header.total + math.prod(header.shape) * dtype.itemsize, "predict fewer rows at a time")
        file.seek(0)
        with memory_scope(path):
            return parse_npy(path, file.read()).astype(dtype, copy=False)


def _check_text(name: Path | str, x: np.ndarray) -> None:
    if int(np.frombuffer(x.tobytes(), np.dtype(np.uint32).newbyteorder(x.dtype.byteorder)).max(initial=0)) > 0x10FFFF:
        raise fault(name, "holds text with characters that do not exist", _AGAIN)


def _short(error: BaseException) -> str:
    return str(error).partition("\n")[0][:120] or type(error).__name__
