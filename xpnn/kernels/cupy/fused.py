"""Dense blocks, and bytes as they are scaled."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from xpnn.arrays import random
from xpnn.arrays.namespace import array_namespace
from xpnn.arrays.random import Key
from xpnn.kernels.cupy.launch import C_NAMES, launch
from xpnn.kernels.cupy.matmul import NO_MASK, affine, covers, factor, gradients
from xpnn.nn.fused import dense, parts_of
from xpnn.nn.layers import activations as nn
from xpnn.nn.layers.linear import LinearParams
from xpnn.nn.layers.preprocessing import gathered, scaled

_CHUNK = 64  # rows that one thread adds up

#: The numbers that fused.cu has for them, and the name of the setting that each takes.
_KINDS: dict[type, tuple[int, str | None]] = {
    nn.Identity: (0, None),
    nn.ReLU: (1, None),
    nn.LeakyReLU: (2, "negative_slope"),
    nn.ELU: (3, "alpha"),
    nn.GELU: (4, None),
    nn.SiLU: (6, None),
    nn.Softplus: (7, "beta"),
    nn.Sigmoid: (8, None),
    nn.Tanh: (9, None),
}
_IDENTITY, _RELU, _GELU, _GELU_TANH = 0, 1, 4, 5


class FusedResiduals(NamedTuple):
    """x, weight: as products read them (weight None without Linear); held: what `derivative` of fused.cu takes, or None
    where that is 1; mask: the words that the mask was drawn from, as fused.cu takes them, or ().
    """

    x: Any
    weight: Any
    held: Any
    mask: tuple[Any, ...]


def _kind_of(activation: Any) -> tuple[int, float] | None:
    """(fused.cu's number, its setting) of an activation; None for one that it does not have."""
    if activation is None:
        return _IDENTITY, 0.0
    if type(activation) not in _KINDS:
        return None
    kind, setting = _KINDS[type(activation)]
    if kind == _GELU and activation.approximate == "tanh":
        kind = _GELU_TANH
    return kind, getattr(activation, setting) if setting else 0.0


def _dropping(dropout: Any) -> tuple[int, float]:
    """(threshold, scale) of a Dropout that drops."""
    return round(dropout.p * 2**24), 1 / (1 - dropout.p)


def _dense_forward(x: Any, params: Any, layers: Any, key: Key | None, first: int) -> Any:
    linear, activation, dropout = parts_of(layers)
    xp, kind = array_namespace(x), _kind_of(activation)
    if kind is None or x.dtype.name not in C_NAMES:
        return NotImplemented
    drops = dropout is not None and key is not None and dropout.p
    bias = weight = None
    if linear is None:
        z, y, columns = x, xp.empty_like(x), 1
    else:
        weight, bias = params[0]
        if x.ndim != 2 or x.shape[1] != linear.in_features or not covers(x, weight):
            return NotImplemented
        x, weight = factor(x), factor(weight)
        if kind[0] in (_IDENTITY, _RELU) and not drops:  # the product does it by the way
            y = affine(x, weight, bias, relu=kind[0] == _RELU)
            return y, FusedResiduals(x, weight, y if kind[0] == _RELU else None, ())
        z = y = affine(x, weight)
        columns = y.shape[1]
    if not z.flags.c_contiguous:
        return NotImplemented
    threshold, scale = 0, 1.0
    mask: tuple[Any, ...] = ()
    if key is not None and drops:
        threshold, scale = _dropping(dropout)
        start, is_odd = divmod(key.first_word(y.shape), 2)
        if is_odd:
            return NotImplemented
        path = random.path_words(key.child(first + len(layers) - 1))
        mask = (*key.words, *path, key.step, start % 2**32)
    # ReLU's output tells where something came through; the other activations are told what came in
    held = y if kind[0] == _RELU else xp.empty_like(y)
    words, size = mask or NO_MASK, y.size
    rest = (size, columns, *kind, *words, threshold, scale)
    launch("dense_forward", y.dtype, (size + 1) // 2, z, bias, y, None if held is y else held, *rest)
    return y, FusedResiduals(x, weight, held, mask)


def _dense_backward(dy: Any, kept: FusedResiduals, params: Any, layers: Any, need_dx: bool) -> Any:
    """Through dropout and activation to dz, and then as Linear's."""
    linear, activation, dropout = parts_of(layers)
    xp, kind = array_namespace(dy), _kind_of(activation)
    assert kind is not None
    dz = xp.ascontiguousarray(dy)
    if kept.held is not None:
        dz = xp.empty_like(kept.held)
        threshold, scale = _dropping(dropout) if kept.mask else (0, 1.0)
        rest = (dz.size, *kind, *(kept.mask or NO_MASK), threshold, scale)
        launch("dense_backward", dz.dtype, (dz.size + 1) // 2, xp.ascontiguousarray(dy), kept.held, dz, *rest)
    if linear is None:
        return dz, ((),) * len(layers)
    slope = factor(dz)
    dweight, dbias = gradients(kept.x, slope)
    if params[0].bias is None:
        dbias = None
    elif dbias is None:
        dbias = column_sums(dz)
    dx = affine(slope, kept.weight.T) if need_dx else None
    return dx, (LinearParams(dweight, dbias), *((),) * (len(layers) - 1))


dense.kernel("cupy", _dense_forward, _dense_backward, residuals=FusedResiduals)


def column_sums(x: Any) -> Any:
    """The sum over the rows of x, (rows, columns), always in the same order."""
    xp, (rows, columns) = array_namespace(x), x.shape
    while True:
        chunk = rows if rows <= _CHUNK else min(_CHUNK, max(8, math.isqrt(rows)))
        parts = -(-rows // chunk)
        y = xp.empty((parts, columns), dtype=x.dtype)
        launch("column_sums", x.dtype, parts * columns, x, y, rows, columns, chunk)
        if parts == 1:
            return y[0]
        x, rows = y, parts


@scaled.kernel("cupy")
def _scaled(x: Any, factor: Any) -> Any:
    xp = array_namespace(x)
    if x.dtype != xp.uint8 or not x.flags.c_contiguous or factor.dtype.name not in C_NAMES:
        return NotImplemented
    y = xp.empty(x.shape, dtype=factor.dtype)
    launch("scaled_bytes", y.dtype, y.size, x, factor, y, y.size)
    return y


@gathered.kernel("cupy")
def _gathered(whole: Any, rows: Any, factor: Any) -> Any:
    xp = array_namespace(whole)
    if whole.dtype != xp.uint8 or not whole.flags.c_contiguous or factor.dtype.name not in C_NAMES:
        return NotImplemented
    if rows.dtype != xp.int32:
        return NotImplemented
    y = xp.empty((rows.shape[0], *whole.shape[1:]), dtype=factor.dtype)
    columns = math.prod(whole.shape[1:])
    launch("gathered_bytes", y.dtype, y.size, whole, rows, factor, y, y.size, columns)
    return y
