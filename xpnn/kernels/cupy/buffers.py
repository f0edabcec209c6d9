"""Buffers: many small copies in few launches. A copy from or to the host takes some 15 µs, whatever its size."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from xpnn.arrays.namespace import array_namespace
from xpnn.arrays.special import concat
from xpnn.devices.buffers import address_of, copies, overwrite, read_all, write_all
from xpnn.devices.libraries import library_of_array
from xpnn.devices.place import current, place_of, to_numpy
from xpnn.kernels.cupy.launch import Memory, launch, tables

_TOGETHER = 2**16  # the most bytes that are copied from or to the host at once


@copies.kernel("cupy")
def _copies(arrays: list[Any]) -> Any:
    with current(place_of(arrays[0])):
        made = [array_namespace(x).empty_like(x) for x in arrays]
        overwrite(made, arrays)
    return made


@overwrite.kernel("cupy")
def _overwrite(buffers: list[Any], values: list[Any]) -> Any:
    parts, library = (*buffers, *values), library_of_array(buffers[0])
    if any(library_of_array(part) is not library for part in parts):  # a custom metric may return NumPy's values
        return NotImplemented
    alike = all(old.dtype == new.dtype for old, new in zip(buffers, values, strict=True))
    if not alike or not all(map(_is_words, parts)):
        return NotImplemented
    _copy([_words(part) for part in buffers], [_words(part) for part in values])
    return None


@read_all.kernel("cupy")
def _read_all(arrays: list[Any]) -> Any:
    ends = _ends(arrays)
    if ends is None:
        return NotImplemented
    with current(place_of(arrays[0])):
        there = array_namespace(arrays[0]).empty(ends[-1], dtype="uint32")
        _copy(_parts(there, ends), [_words(x) for x in arrays])
        parts = np.split(to_numpy(there), ends[:-1])
    return [part.copy().view(x.dtype).reshape(x.shape) for part, x in zip(parts, arrays, strict=True)]


@write_all.kernel("cupy")
def _write_all(buffers: list[Any], values: list[np.ndarray]) -> Any:
    ends = _ends(buffers)
    if ends is None:
        return NotImplemented
    host = np.concatenate([np.ascontiguousarray(value).reshape(-1).view(np.uint32) for value in values])
    with current(place_of(buffers[0])):
        there = array_namespace(buffers[0]).empty(ends[-1], dtype="uint32")
        library_of_array(there).write(host, there)
        _copy([_words(buffer) for buffer in buffers], _parts(there, ends))
    return None


@concat.kernel("cupy")
def _concat(arrays: list[Any], axis: int = 0) -> Any:
    """Copy each array into its part; CuPy itself passes the addresses of many arrays from the host."""
    if len({x.dtype for x in arrays}) > 1:
        return NotImplemented
    ends = list(itertools.accumulate(x.shape[axis] for x in arrays))
    shape = [*arrays[0].shape]
    shape[axis] = ends[-1]
    whole = array_namespace(arrays[0]).empty(tuple(shape), dtype=arrays[0].dtype)
    before = (slice(None),) * (axis % whole.ndim)
    overwrite([whole[*before, end - x.shape[axis] : end] for x, end in zip(arrays, ends, strict=True)], arrays)
    return whole


def _copy(to: list[Memory], values: list[Memory]) -> None:
    for table, n in tables(p=to, g=values):
        launch("overwrite", "float32", n, table, n)


def _is_words(x: Any) -> bool:
    return x.flags.c_contiguous and x.nbytes % 4 == 0 and (not x.size or address_of(x) % 4 == 0)


def _words(x: Any) -> Memory:
    return Memory(address_of(x), x.nbytes // 4)


def _ends(arrays: list[Any]) -> list[int] | None:
    """Where the arrays end in one of words that holds them all; None if they are not copied together."""
    if sum(x.nbytes for x in arrays) > _TOGETHER or not all(_is_words(x) for x in arrays):
        return None
    return list(itertools.accumulate(x.nbytes // 4 for x in arrays))


def _parts(whole: Any, ends: list[int]) -> list[Memory]:
    first = address_of(whole)
    return [Memory(first + 4 * start, end - start) for start, end in itertools.pairwise([0, *ends])]
