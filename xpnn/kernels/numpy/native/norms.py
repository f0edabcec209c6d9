"""Sums of many elements, in NumPy's order, and the loops that need them: normalization and norms.

NumPy adds what is contiguous in pairs: blocks of at most 128 elements, each by eight sums side by side, and then the
sums of halves. Along the first axis of a matrix it adds row after row. The same order gives the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnn.kernels.numpy.native.caching import compiled, inlined

#: Elements that NumPy adds without a division into halves.
BLOCK = 128
_U0, _U1, _U2, _U3, _U4, _U5, _U6, _U7, _U8 = map(np.uint64, range(9))  # unsigned: a negative index would be checked


@inlined
def _block(x: Any) -> Any:
    """Σ x of one block."""
    size = np.uint64(x.size)
    i = _U8
    if size < _U8:
        total = x.dtype.type(0)
        i = _U0
    else:
        a, b, c, d, e, f, g, h = x[_U0], x[_U1], x[_U2], x[_U3], x[_U4], x[_U5], x[_U6], x[_U7]
        while i + _U8 <= size:
            a, b, c, d = a + x[i], b + x[i + _U1], c + x[i + _U2], d + x[i + _U3]
            e, f, g, h = e + x[i + _U4], f + x[i + _U5], g + x[i + _U6], h + x[i + _U7]
            i += _U8
        total = ((a + b) + (c + d)) + ((e + f) + (g + h))
    while i < size:
        total += x[i]
        i += _U1
    return total


@inlined
def half_of(size: Any) -> Any:
    """Where NumPy divides a sum of so many elements; it does not divide a block."""
    return size if size <= BLOCK else size // 2 - size // 2 % 8


@compiled
def _sum(x: Any) -> Any:
    """Σ x; flat."""
    if x.size <= BLOCK:
        return _block(x)
    half = half_of(x.size)
    return _sum(x[:half]) + _sum(x[half:])


@inlined
def _one_over_root(variance: Any) -> Any:
    return np.sqrt(variance) / variance


@compiled
def row_norm(x: Any, weight: Any, bias: Any, eps: Any, centred: Any, xhat: Any, scale: Any, y: Any) -> None:
    """As `layer_norm` if centred, else `rms_norm`; x, xhat, y: (rows, features), scale: (rows,)."""
    count = type(eps)(x.shape[1])
    for i in range(x.shape[0]):
        row, hat, out = x[i], xhat[i], y[i]
        if centred:
            for j in range(row.size):
                hat[j] = row[j] - row[0]
            mean = _sum(hat) / count
            for j in range(row.size):
                hat[j] = hat[j] - mean
        else:
            for j in range(row.size):
                hat[j] = row[j]
        for j in range(row.size):
            out[j] = hat[j] * hat[j]
        factor = _one_over_root(_sum(out) / count + eps)
        scale[i] = factor
        for j in range(row.size):
            hat[j] = hat[j] * factor
        if centred:
            for j in range(row.size):
                out[j] = hat[j] * weight[j] + bias[j]
        else:
            for j in range(row.size):
                out[j] = hat[j] * weight[j]


@compiled
def row_norm_backward(dy: Any, xhat: Any, scale: Any, weight: Any, centred: Any, dx: Any, products: Any) -> None:
    """dx of `layer_norm` if centred, else of `rms_norm`; dy, xhat, dx: (rows, features), products: (features,)."""
    count = weight.dtype.type(dy.shape[1])
    for i in range(dy.shape[0]):
        row, hat, out = dy[i], xhat[i], dx[i]
        for j in range(row.size):
            out[j] = row[j] * weight[j]
            products[j] = out[j] * hat[j]
        along = _sum(products) / count
        factor = scale[i]
        if centred:
            mean = _sum(out) / count
            for j in range(row.size):
                out[j] = factor * (out[j] - mean - hat[j] * along)
        else:
            for j in range(row.size):
                out[j] = factor * (out[j] - hat[j] * along)


@compiled
def column_sums(dy: Any, xhat: Any, first: Any, last: Any, dweight: Any, dbias: Any) -> None:
    """dweight = Σ_rows dy · x̂, dbias = Σ_rows dy in columns first to last; dy, xhat: (rows, features)."""
    of_weight, of_bias = dweight[first:last], dbias[first:last]
    of_weight[:] = 0
    of_bias[:] = 0
    for i in range(dy.shape[0]):
        row, hat = dy[i, first:last], xhat[i, first:last]
        for j in range(row.size):
            of_weight[j] += row[j] * hat[j]
            of_bias[j] += row[j]


@compiled
def batch_norm(x: Any, weight: Any, bias: Any, eps: Any, first: Any, last: Any,
               xhat: Any, mean: Any, variance: Any, scale: Any, y: Any) -> None:  # fmt: skip
    """As `batch_norm` in training, in columns first to last; mean: less the first row; x, xhat, y: (rows, features)."""
    rows, count = x.shape[0], type(eps)(x.shape[0])
    w, b, top = weight[first:last], bias[first:last], x[0, first:last]
    m, v, factor = mean[first:last], variance[first:last], scale[first:last]
    m[:] = 0
    v[:] = 0
    for i in range(rows):
        row = x[i, first:last]
        for j in range(row.size):
            m[j] += row[j] - top[j]
    for j in range(m.size):
        m[j] /= count
    for i in range(rows):
        row, hat = x[i, first:last], xhat[i, first:last]
        for j in range(row.size):
            centred = row[j] - top[j] - m[j]
            hat[j] = centred
            v[j] += centred * centred
    for j in range(v.size):
        v[j] /= count
        factor[j] = _one_over_root(v[j] + eps)
    for i in range(rows):
        hat, out = xhat[i, first:last], y[i, first:last]
        for j in range(hat.size):
            hat[j] = hat[j] * factor[j]
            out[j] = hat[j] * w[j] + b[j]


@compiled
def batch_norm_backward(dy: Any, xhat: Any, scale: Any, weight: Any, first: Any, last: Any,
                        dweight: Any, dbias: Any, sums: Any, dx: Any) -> None:  # fmt: skip
    """As `batch_norm_backward` after training, in columns first to last; sums: (2, features), of g and g · x̂."""
    count = weight.dtype.type(dy.shape[0])
    factor, w = scale[first:last], weight[first:last]
    mean, along = sums[0, first:last], sums[1, first:last]
    column_sums(dy, xhat, first, last, dweight, dbias)
    mean[:] = 0
    along[:] = 0
    for i in range(dy.shape[0]):
        row, hat = dy[i, first:last], xhat[i, first:last]
        for j in range(row.size):
            g = row[j] * w[j]
            mean[j] += g
            along[j] += g * hat[j]
    for j in range(w.size):
        mean[j] /= count
        along[j] /= count
    for i in range(dy.shape[0]):
        row, hat, out = dy[i, first:last], xhat[i, first:last], dx[i, first:last]
        for j in range(row.size):
            out[j] = factor[j] * (row[j] * w[j] - mean[j] - hat[j] * along[j])


@compiled
def largest(x: Any) -> Any:
    """The largest magnitude, as an integer with the bits of it; x: the bits, unsigned, flat.

    Of magnitudes, the larger one has the larger bits, and NaN the largest.
    """
    bits = x.dtype.type
    all_but_sign = bits(~bits(0)) >> bits(1)
    most = bits(0)
    for i in range(x.size):
        most = max(most, bits(x[i] & all_but_sign))
    return most


@compiled
def sum_of_squares(x: Any, unit: Any, scratch: Any) -> Any:
    """Σ (x / unit)²; flat; scratch: a block."""
    if x.size <= BLOCK:
        for i in range(x.size):
            quotient = x[i] / unit
            scratch[i] = quotient * quotient
        return _block(scratch[: x.size])
    half = half_of(x.size)
    return sum_of_squares(x[:half], unit, scratch) + sum_of_squares(x[half:], unit, scratch)
