"""Matrix products: large ones in parts, each by OpenBLAS on one thread; and those that a ReLU follows.

OpenBLAS's own threads wait for each other actively, and stand still if another process takes a core from one of them.
Here a thread that waits for long sleeps, and the caller does the parts that no thread has begun.

How a large product is divided depends on its shape, and not on the number of threads if there are at most two, so that
the bits are the same. More threads divide it into more parts, which may change the last bits.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from xpnn.arrays.matmul import matmul
from xpnn.arrays.special import by_rows
from xpnn.devices.libraries.openblas import AS_IT_IS, ROW_MAJOR, TRANSPOSED, openblas
from xpnn.devices.threads import step_threads
from xpnn.kernels.numpy.compiled import constant, loops

_LARGE = 4_000_000  # multiplications from which a product is divided: some 50 µs on one thread
_EACH = 2_000_000  # at least so many in a part
_FOR_PYTHON = 8_000_000  # multiplications from which Python's threads save time: they wake up later
_GRAIN = 16  # rows or columns between two cuts
_SAVED = 1e-4  # seconds that compiled threads save for a large product
_SAVED_BY_RELU = 0.4e-9  # and a loop for each element: median on an AMD EPYC, 2026-11-21


class Division(NamedTuple):
    """How a product is computed.

    kind:    the dtype
    parts:   how many
    numbers: gemm's address; transpositions of x and w; m, n, k; leading dimensions of x and w; whether each part has
             some columns of y, otherwise some rows; how many
    """

    kind: np.dtype
    parts: int
    numbers: np.ndarray


@matmul.kernel("numpy")
def _matmul(x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None, *, exact: bool = False) -> Any:
    """As `xpnn.arrays.matmul.matmul`."""
    y = product(x, w)
    if bias is not None:
        y += bias
    return y


def product(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """x @ w, a new array."""
    if not isinstance(w, np.ndarray) or x.ndim != 2 or w.ndim != 2 or x.size * w.shape[1] < _LARGE:
        return x @ w
    blas, found = openblas(), _division_of(x, w)
    if not blas or not found:
        return x @ w
    y = np.empty((x.shape[0], w.shape[1]), x.dtype)
    with blas:
        fast = loops(_SAVED) if blas.is_wide else None
        if fast:
            fast.run("product", found.kind, found.parts, found.numbers, _rows(x), _rows(w), y)
        else:
            _by_python(blas.gemm[found.kind.name], found, x, w, y)
    return y


def relu_product(
    x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, keep: np.ndarray | None, scale: float
) -> np.ndarray | None:
    """max(x @ w + bias, 0), times `scale` where keep is True, else 0; None if there is no compiled code for it."""
    blas = openblas() if isinstance(w, np.ndarray) else None
    fast = loops(_SAVED_BY_RELU * x.shape[0] * w.shape[1], x.shape[0] * w.shape[1]) if blas and blas.is_wide else None
    found = _division_of(x, w) if fast else None
    if not fast or not blas or not found or not x.flags.c_contiguous or (bias is not None and bias.dtype != found.kind):
        return None
    y = np.empty((x.shape[0], w.shape[1]), x.dtype)
    bias = np.zeros(y.shape[1], y.dtype) if bias is None else np.ascontiguousarray(bias)
    with blas:
        if keep is None:
            fast.run("relu_product", found.kind, found.parts, found.numbers, x, _rows(w), y, bias)
        else:
            extra = (bias, keep, constant(scale, found.kind))
            fast.run("dropout_product", found.kind, found.parts, found.numbers, x, _rows(w), y, *extra)
    return y


def _division_of(x: np.ndarray, w: np.ndarray) -> Division | None:
    """The division of x @ w; None if the functions of OpenBLAS do not cover it."""
    threads = step_threads() if x.shape[0] * x.shape[1] * w.shape[1] >= _LARGE else 1
    return _division(x.shape, x.strides, x.dtype, w.shape, w.strides, w.dtype, threads)


@functools.lru_cache(maxsize=1024)
def _division(
    shape: tuple[int, ...], strides: tuple[int, ...], kind: np.dtype,
    w_shape: tuple[int, ...], w_strides: tuple[int, ...], w_kind: np.dtype, threads: int,
) -> Division | None:  # fmt: skip
    """Each part reads all of x or all of w, and OpenBLAS copies what it reads: the cut is where this is little."""
    (m, k), n, blas = shape, w_shape[1], openblas()
    x_layout, w_layout = _layout(shape, strides, kind.itemsize), _layout(w_shape, w_strides, kind.itemsize)
    if blas is None or x_layout is None or w_layout is None or kind != w_kind or k != w_shape[0]:
        return None
    if kind.name not in blas.gemm or min(m, n, k) < 2:  # NumPy has other functions for vectors
        return None
    most = max(threads, 2) if m * n * k >= _LARGE else 1
    (of_x, along_x), (of_w, along_w) = x_layout, w_layout
    by_columns = m < k if of_x == TRANSPOSED else m < 2 * n  # measured for the products of layers
    whole, parts = (n if by_columns else m), min(most, m * n * k // _EACH)
    each = -(-whole // (_GRAIN * parts)) * _GRAIN if parts > 1 else whole
    numbers = (blas.gemm_address(kind.name), of_x, of_w, m, n, k, along_x, along_w, by_columns, each)
    return Division(kind, -(-whole // each), np.array(numbers, np.int64))


def _layout(shape: tuple[int, ...], strides: tuple[int, ...], size: int) -> tuple[int, int] | None:
    """(CBLAS_TRANSPOSE, leading dimension) of a matrix that is in C order but for its rows' distance, or transposed."""
    (rows, columns), (down, along) = shape, strides
    if along == size and down % size == 0 and down >= size * columns:
        return AS_IT_IS, down // size
    if down == size and along % size == 0 and along >= size * rows:
        return TRANSPOSED, along // size
    return None


def _rows(x: np.ndarray) -> np.ndarray:
    """x, or x.T if that is the matrix in C order; its address is the same, and less is compiled."""
    return x if x.flags.c_contiguous else x.T


def _by_python(gemm: Any, division: Division, x: np.ndarray, w: np.ndarray, y: np.ndarray) -> None:
    """Compute the parts by calls of OpenBLAS from Python; the bits are those of the compiled threads."""
    _, of_x, of_w, m, n, k, along_x, along_w, by_columns, each = division.numbers.tolist()
    size, at_x, at_w, at_y = x.itemsize, x.ctypes.data, w.ctypes.data, y.ctypes.data

    def part(i: int) -> None:
        first = i * each
        last = min(first + each, n if by_columns else m)
        top, bottom, left, right = (0, m, first, last) if by_columns else (first, last, 0, n)
        a = at_x + size * top * (1 if of_x == TRANSPOSED else along_x)
        b = at_w + size * left * (along_w if of_w == TRANSPOSED else 1)
        c = at_y + size * (top * n + left)
        gemm(ROW_MAJOR, of_x, of_w, bottom - top, right - left, k, 1.0, a, along_x, b, along_w, 0.0, c, n)

    if step_threads() > 1 and m * n * k >= _FOR_PYTHON:
        _in_threads(part, division.parts)
    else:
        for i in range(division.parts):
            part(i)


@by_rows.kernel("numpy")
def _by_rows(x: np.ndarray, function: Callable[[np.ndarray], np.ndarray], rows: int) -> Any:
    """In threads, unless the loops of the function are compiled: these have threads of their own."""
    threads = step_threads()
    if not isinstance(x, np.ndarray) or len(x) <= rows or threads == 1 or loops(0.0):
        return NotImplemented
    count = -(-len(x) // (rows * threads)) * threads  # as many for each thread
    each = -(-len(x) // count)
    return np.concatenate(_in_threads(lambda i: function(x[i * each : (i + 1) * each]), -(-len(x) // each)))


def _in_threads(part: Callable[[int], Any], count: int) -> list[Any]:
    """[part(0), part(1), …]; this thread begins with part 0, and goes on from the last one that no other has begun."""
    offered = {i: _executor().submit(part, i) for i in range(1, count)}
    own = {0: part(0)}
    for i in reversed(offered):
        if offered[i].cancel():
            own[i] = part(i)
    return [own[i] if i in own else offered[i].result() for i in range(count)]


_executor = functools.cache(lambda: ThreadPoolExecutor(max(step_threads() - 1, 1), thread_name_prefix="xpnn"))
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_executor.cache_clear)  # a forked process has none of its parent's threads
