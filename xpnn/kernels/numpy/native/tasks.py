"""Work that several threads do together: `run` does a task by its name, each thread a part of it.

A task is compiled when it is first needed, for each dtype. Its words are numbers, then addresses of arrays; what they
are is said at each task. Parts are cut so that no result depends on how many there are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import carray

from xpnn.devices.libraries.openblas import TRANSPOSED
from xpnn.kernels.numpy.native import activations, loops, norms
from xpnn.kernels.numpy.native.caching import c_function, compiled, inlined
from xpnn.kernels.numpy.native.memory import at, dgemm, sgemm, word
from xpnn.kernels.numpy.native.threads import Pool, divide

_SIGNATURE = numba.void(numba.int64, numba.int64, numba.int64)
_GRAIN = 16  # elements between two cuts

_pool = functools.cache(Pool)


def run(name: str, kind: np.dtype, parts: int, numbers: np.ndarray, *arrays: np.ndarray) -> None:
    """Do a task.

    Parameters
    ----------
    name : str
        One of `TASKS`.
    kind : numpy.dtype
        float32 or float64, of the arrays.
    parts : int
        How many threads do it.
    numbers : array of int64
    *arrays : array
        In C order.
    """
    pool = _pool()
    if parts > pool.size:
        pool.grow(parts)
    divide(pool.words, _address(name, kind), parts, numbers, arrays)


@functools.cache
def _address(name: str, kind: np.dtype) -> int:
    """The C function of a task."""
    return c_function(TASKS[name](kind.type), _SIGNATURE)


@inlined
def _cut(size: Any, i: Any, parts: Any) -> Any:
    """Where part i begins."""
    return min(size, (size + parts * _GRAIN - 1) // (parts * _GRAIN) * _GRAIN * i)


@inlined
def _piece(words: Any, i: Any, part: Any, parts: Any, kind: Any) -> Any:
    """This part of the flat array whose address is word i; word 0: its size."""
    n = word(words, 0)
    return carray(at(words, i), n, kind)[_cut(n, part, parts) : _cut(n, part + 1, parts)]


@inlined
def _two(words: Any, part: Any, parts: Any, kind: Any) -> Any:
    """This part of two flat arrays, and the settings; words: size; those."""
    first, second = _piece(words, 1, part, parts, kind), _piece(words, 2, part, parts, kind)
    return first, second, carray(at(words, 3), 16, kind)


@inlined
def _three(words: Any, part: Any, parts: Any, kind: Any) -> Any:
    first, second = _piece(words, 1, part, parts, kind), _piece(words, 2, part, parts, kind)
    return first, second, _piece(words, 3, part, parts, kind), carray(at(words, 4), 16, kind)


@inlined
def _four(words: Any, part: Any, parts: Any, kind: Any) -> Any:
    first, second = _piece(words, 1, part, parts, kind), _piece(words, 2, part, parts, kind)
    third, fourth = _piece(words, 3, part, parts, kind), _piece(words, 4, part, parts, kind)
    return first, second, third, fourth, carray(at(words, 5), 16, kind)


@inlined
def _five(words: Any, part: Any, parts: Any, kind: Any) -> Any:
    first, second = _piece(words, 1, part, parts, kind), _piece(words, 2, part, parts, kind)
    third, fourth = _piece(words, 3, part, parts, kind), _piece(words, 4, part, parts, kind)
    return first, second, third, fourth, _piece(words, 5, part, parts, kind), carray(at(words, 6), 16, kind)


def _sgd(kind: Any) -> Callable[..., Any]:
    def sgd(words: Any, part: Any, parts: Any) -> None:
        loops.sgd(*_two(words, part, parts, kind))

    return sgd


def _sgd_momentum(kind: Any) -> Callable[..., Any]:
    def sgd_momentum(words: Any, part: Any, parts: Any) -> None:
        loops.sgd_momentum(*_three(words, part, parts, kind))

    return sgd_momentum


def _lion(kind: Any) -> Callable[..., Any]:
    def lion(words: Any, part: Any, parts: Any) -> None:
        loops.lion(*_three(words, part, parts, kind))

    return lion


def _rmsprop(kind: Any) -> Callable[..., Any]:
    def rmsprop(words: Any, part: Any, parts: Any) -> None:
        loops.rmsprop(*_three(words, part, parts, kind))

    return rmsprop


def _rmsprop_momentum(kind: Any) -> Callable[..., Any]:
    def rmsprop_momentum(words: Any, part: Any, parts: Any) -> None:
        loops.rmsprop_momentum(*_four(words, part, parts, kind))

    return rmsprop_momentum


def _adagrad(kind: Any) -> Callable[..., Any]:
    def adagrad(words: Any, part: Any, parts: Any) -> None:
        loops.adagrad(*_three(words, part, parts, kind))

    return adagrad


def _adam(kind: Any) -> Callable[..., Any]:
    def adam(words: Any, part: Any, parts: Any) -> None:
        loops.adam(*_four(words, part, parts, kind))

    return adam


def _amsgrad(kind: Any) -> Callable[..., Any]:
    def amsgrad(words: Any, part: Any, parts: Any) -> None:
        loops.amsgrad(*_five(words, part, parts, kind))

    return amsgrad


def _average(kind: Any) -> Callable[..., Any]:
    def average(words: Any, part: Any, parts: Any) -> None:
        loops.average(*_two(words, part, parts, kind))

    return average


def _nadam(kind: Any) -> Callable[..., Any]:
    def nadam(words: Any, part: Any, parts: Any) -> None:
        loops.nadam(*_four(words, part, parts, kind))

    return nadam


def _blend(kind: Any) -> Callable[..., Any]:
    def blend(words: Any, part: Any, parts: Any) -> None:
        loops.blend(*_two(words, part, parts, kind))

    return blend


def _muon(kind: Any) -> Callable[..., Any]:
    def muon(words: Any, part: Any, parts: Any) -> None:
        loops.muon(*_two(words, part, parts, kind))

    return muon


def _gelu(kind: Any) -> Callable[..., Any]:
    """As `_four`, without settings: z, e, t, y."""

    def gelu(words: Any, part: Any, parts: Any) -> None:
        z, e = _piece(words, 1, part, parts, kind), _piece(words, 2, part, parts, kind)
        activations.gelu(z, e, _piece(words, 3, part, parts, kind), _piece(words, 4, part, parts, kind))

    return gelu


def _largest(kind: Any) -> Callable[..., Any]:
    """size; x as unsigned integers, y: the largest magnitude of each part."""
    bits = np.dtype(f"u{np.dtype(kind).itemsize}").type

    def largest(words: Any, part: Any, parts: Any) -> None:
        carray(at(words, 2), parts, bits)[part] = norms.largest(_piece(words, 1, part, parts, bits))

    return largest


def _squares(kind: Any) -> Callable[..., Any]:
    """size; x, unit, y: Σ (x / unit)² of both halves, scratch: two blocks."""

    def squares(words: Any, part: Any, parts: Any) -> None:
        n, half = word(words, 0), norms.half_of(word(words, 0))
        x, unit = carray(at(words, 1), n, kind), carray(at(words, 2), 1, kind)
        y, scratch = carray(at(words, 3), 2, kind), carray(at(words, 4), (2, norms.BLOCK), kind)
        for i in range(part, 2, parts):
            y[i] = norms.sum_of_squares(x[half:] if i else x[:half], unit[0], scratch[i])

    return squares


@compiled
def _multiply(words: Any, part: Any, size: Any) -> Any:
    """y = x @ w in the rows or columns of a part. Words: `Division.numbers`; x, w, y. size: bytes of an element.

    Returns its first row, the row after its last one, and likewise for columns.
    """
    f, of_x, of_w = word(words, 0), word(words, 1), word(words, 2)
    m, n, k = word(words, 3), word(words, 4), word(words, 5)
    along_x, along_w, by_columns, each = word(words, 6), word(words, 7), word(words, 8), word(words, 9)
    x, w, y = word(words, 10), word(words, 11), word(words, 12)
    first = part * each
    last = min(first + each, n if by_columns else m)
    top, bottom, left, right = (0, m, first, last) if by_columns else (first, last, 0, n)
    x += top * (1 if of_x == TRANSPOSED else along_x) * size
    w += left * (along_w if of_w == TRANSPOSED else 1) * size
    y += (top * n + left) * size
    if size == 4:
        sgemm(f, of_x, of_w, bottom - top, right - left, k, x, along_x, w, along_w, y, n)
    else:
        dgemm(f, of_x, of_w, bottom - top, right - left, k, x, along_x, w, along_w, y, n)
    return top, bottom, left, right


def _product(kind: Any) -> Callable[..., Any]:
    """As `_multiply`."""
    size = np.dtype(kind).itemsize

    def product(words: Any, part: Any, parts: Any) -> None:
        _multiply(words, part, size)

    return product


def _relu_product(kind: Any) -> Callable[..., Any]:
    """As `_multiply`; then bias: y = max(x @ w + bias, 0)."""
    size = np.dtype(kind).itemsize

    def relu_product(words: Any, part: Any, parts: Any) -> None:
        top, bottom, left, right = _multiply(words, part, size)
        m, n = word(words, 3), word(words, 4)
        y = carray(at(words, 12), (m, n), kind)[top:bottom]
        activations.relu(y, carray(at(words, 13), n, kind), left, right)

    return relu_product


def _dropout_product(kind: Any) -> Callable[..., Any]:
    """As `_relu_product`; then keep, scale: times scale where keep is True, else 0."""
    size = np.dtype(kind).itemsize

    def dropout_product(words: Any, part: Any, parts: Any) -> None:
        top, bottom, left, right = _multiply(words, part, size)
        m, n = word(words, 3), word(words, 4)
        y, bias = carray(at(words, 12), (m, n), kind)[top:bottom], carray(at(words, 13), n, kind)
        keep, scale = carray(at(words, 14), (m, n), np.bool_)[top:bottom], carray(at(words, 15), 1, kind)
        activations.relu_dropout(y, bias, keep, scale[0], left, right)

    return dropout_product


def _words(kind: Any) -> Callable[..., Any]:
    """k0, k1, step, start, size; y."""

    def random_words(words: Any, part: Any, parts: Any) -> None:
        n = word(words, 4)
        lo, hi = _cut(n, part, parts), _cut(n, part + 1, parts)
        k0, k1, step = np.uint32(word(words, 0)), np.uint32(word(words, 1)), np.uint32(word(words, 2))
        loops.words(k0, k1, step, np.uint32(word(words, 3) + lo // 2), carray(at(words, 5), n, np.uint32)[lo:hi])

    return random_words


def _mask(kind: Any) -> Callable[..., Any]:
    """k0, k1, step, start, size, threshold; y."""

    def mask(words: Any, part: Any, parts: Any) -> None:
        n = word(words, 4)
        lo, hi = _cut(n, part, parts), _cut(n, part + 1, parts)
        k0, k1, step = np.uint32(word(words, 0)), np.uint32(word(words, 1)), np.uint32(word(words, 2))
        start, threshold = np.uint32(word(words, 3) + lo // 2), np.uint32(word(words, 5))
        loops.mask(k0, k1, step, start, threshold, carray(at(words, 6), n, np.bool_)[lo:hi])

    return mask


def _rows(kind: Any) -> Callable[..., Any]:
    """count, samples, bytes of a row; x, indices, y: rows of x."""

    def rows(words: Any, part: Any, parts: Any) -> None:
        count, samples, size = word(words, 0), word(words, 1), word(words, 2)
        x, y = carray(at(words, 3), (samples, size), np.uint8), carray(at(words, 5), (count, size), np.uint8)
        index = carray(at(words, 4), count, np.int32)
        loops.rows(x, index, y, count * part // parts, count * (part + 1) // parts)

    return rows


@inlined
def _matrix(words: Any, i: Any, kind: Any) -> Any:
    """The matrix whose address is word i; words 0 and 1: its shape."""
    return carray(at(words, i), (word(words, 0), word(words, 1)), kind)


@inlined
def _vector(words: Any, i: Any, along: Any, kind: Any) -> Any:
    """As `_matrix`: a vector as long as that axis of the matrix."""
    return carray(at(words, i), word(words, along), kind)


def _row_norm(kind: Any) -> Callable[..., Any]:
    """rows, features, centred; x, weight, bias, eps, xhat, scale, y: rows of x."""

    def row_norm(words: Any, part: Any, parts: Any) -> None:
        lo, hi = _cut(word(words, 0), part, parts), _cut(word(words, 0), part + 1, parts)
        x, weight, bias = _matrix(words, 3, kind)[lo:hi], _vector(words, 4, 1, kind), _vector(words, 5, 1, kind)
        eps, xhat, scale = carray(at(words, 6), 1, kind), _matrix(words, 7, kind), _vector(words, 8, 0, kind)
        y = _matrix(words, 9, kind)[lo:hi]
        norms.row_norm(x, weight, bias, eps[0], word(words, 2), xhat[lo:hi], scale[lo:hi], y)

    return row_norm


def _row_norm_backward(kind: Any) -> Callable[..., Any]:
    """rows, features, centred; dy, xhat, scale, weight, dx, dweight, dbias, scratch (a row for each part).

    Rows of dx, and columns of the sums.
    """

    def row_norm_backward(words: Any, part: Any, parts: Any) -> None:
        rows, features, centred = word(words, 0), word(words, 1), word(words, 2)
        lo, hi = _cut(rows, part, parts), _cut(rows, part + 1, parts)
        dy, xhat, scale = _matrix(words, 3, kind), _matrix(words, 4, kind), _vector(words, 5, 0, kind)
        scratch = carray(at(words, 10), (parts, features), kind)[part]
        weight, dx = _vector(words, 6, 1, kind), _matrix(words, 7, kind)[lo:hi]
        norms.row_norm_backward(dy[lo:hi], xhat[lo:hi], scale[lo:hi], weight, centred, dx, scratch)
        lo, hi = _cut(features, part, parts), _cut(features, part + 1, parts)
        norms.column_sums(dy, xhat, lo, hi, _vector(words, 8, 1, kind), _vector(words, 9, 1, kind))

    return row_norm_backward


def _batch_norm(kind: Any) -> Callable[..., Any]:
    """rows, features; x, weight, bias, eps, xhat, mean, variance, scale, y: columns."""

    def batch_norm(words: Any, part: Any, parts: Any) -> None:
        lo, hi = _cut(word(words, 1), part, parts), _cut(word(words, 1), part + 1, parts)
        x, weight, bias = _matrix(words, 2, kind), _vector(words, 3, 1, kind), _vector(words, 4, 1, kind)
        eps, xhat, mean = carray(at(words, 5), 1, kind), _matrix(words, 6, kind), _vector(words, 7, 1, kind)
        variance, scale, y = _vector(words, 8, 1, kind), _vector(words, 9, 1, kind), _matrix(words, 10, kind)
        norms.batch_norm(x, weight, bias, eps[0], lo, hi, xhat, mean, variance, scale, y)

    return batch_norm


def _batch_norm_backward(kind: Any) -> Callable[..., Any]:
    """rows, features; dy, xhat, scale, weight, dweight, dbias, sums, dx: columns."""

    def batch_norm_backward(words: Any, part: Any, parts: Any) -> None:
        lo, hi = _cut(word(words, 1), part, parts), _cut(word(words, 1), part + 1, parts)
        dy, xhat, scale = _matrix(words, 2, kind), _matrix(words, 3, kind), _vector(words, 4, 1, kind)
        weight, dweight, dbias = _vector(words, 5, 1, kind), _vector(words, 6, 1, kind), _vector(words, 7, 1, kind)
        sums, dx = carray(at(words, 8), (2, word(words, 1)), kind), _matrix(words, 9, kind)
        norms.batch_norm_backward(dy, xhat, scale, weight, lo, hi, dweight, dbias, sums, dx)

    return batch_norm_backward


TASKS = {
    "product": _product,
    "relu_product": _relu_product,
    "dropout_product": _dropout_product,
    "words": _words,
    "mask": _mask,
    "rows": _rows,
    "sgd": _sgd,
    "sgd_momentum": _sgd_momentum,
    "lion": _lion,
    "rmsprop": _rmsprop,
    "rmsprop_momentum": _rmsprop_momentum,
    "adagrad": _adagrad,
    "adam": _adam,
    "amsgrad": _amsgrad,
    "average": _average,
    "nadam": _nadam,
    "blend": _blend,
    "muon": _muon,
    "gelu": _gelu,
    "largest": _largest,
    "squares": _squares,
    "row_norm": _row_norm,
    "row_norm_backward": _row_norm_backward,
    "batch_norm": _batch_norm,
    "batch_norm_backward": _batch_norm_backward,
}
