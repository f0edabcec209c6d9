"""Linear → activation → Dropout."""

from __future__ import annotations

import contextlib
from types import NoneType
from typing import Any, NamedTuple

from xpnn.arrays import random
from xpnn.arrays.namespace import array_namespace
from xpnn.arrays.random import Key
from xpnn.kernels.common import Dropping, block_of
from xpnn.kernels.cupy.launch import ACTIVATIONS, C_NAMES, launch
from xpnn.kernels.cupy.matmul import NO_MASK, affine, as_matrices, covers, factor, is_small, small_product
from xpnn.kernels.cupy.totals import column_sums
from xpnn.nn.fused import aside, dense, parts_of
from xpnn.nn.layers import activations as nn
from xpnn.nn.layers.linear import LinearParams

#: type -> (the name in fused.cu, the field whose value it takes); GELU_TANH is a GELU with approximate="tanh".
_NAMES: dict[type, tuple[str, str | None]] = {
    NoneType: ("IDENTITY", None),
    nn.Identity: ("IDENTITY", None),
    nn.ReLU: ("RELU", None),
    nn.LeakyReLU: ("LEAKY_RELU", "negative_slope"),
    nn.ELU: ("ELU", "alpha"),
    nn.GELU: ("GELU", None),
    nn.SiLU: ("SILU", None),
    nn.Softplus: ("SOFTPLUS", "beta"),
    nn.Sigmoid: ("SIGMOID", None),
    nn.Tanh: ("TANH", None),
}
_IDENTITY, _RELU = ACTIVATIONS["IDENTITY"], ACTIVATIONS["RELU"]


class FusedResiduals(NamedTuple):
    """x, weight: as products read them (weight is None without Linear).

    kept: what `derivative` of fused.cu takes; None without activation and dropout
    mask: the arguments of fused.cu from which it draws the dropout mask
    """

    x: Any
    weight: Any
    kept: Any
    mask: tuple[Any, ...]


def _number_of(activation: Any) -> tuple[int, float]:
    """(the number in fused.cu, the value of its field) of an activation."""
    name, field = _NAMES[type(activation)]
    if name == "GELU" and activation.approximate == "tanh":
        name = "GELU_TANH"
    return ACTIVATIONS[name], getattr(activation, field) if field else 0.0


def _forward(x: Any, params: Any, layers: Any, key: Key | None, first: int) -> Any:
    block = block_of(x, params, layers, key, first, _NAMES)
    if block is None or x.dtype.name not in C_NAMES:
        return NotImplemented
    linear, activation, dropping = block
    xp, number, real, shape = array_namespace(x), _number_of(activation), x.dtype, x.shape
    bias = weight = None
    if linear is not None:
        weight, bias = params[0]
        x, weight = as_matrices(x, weight)
        if not covers(x, weight):
            return NotImplemented
        x, weight = factor(x), factor(weight)
        shape = (x.shape[0], weight.shape[1])
    mask = _mask_of(dropping, shape)
    if mask is None or (linear is None and not x.flags.c_contiguous):
        return NotImplemented
    is_plain, is_relu = number[0] == _IDENTITY and dropping is None, number[0] == _RELU
    # ReLU's derivative is seen from the output, and without an activation it is 1; the others keep their input
    kept = None if is_relu or number[0] == _IDENTITY else xp.empty(shape, dtype=real)
    if linear is not None and is_small(x, weight, finishes=not is_plain):
        y = small_product(x, weight, bias, kept, (*number, *mask))
    elif linear is not None and is_plain:
        y = affine(x, weight, bias)
    else:
        z = x if linear is None else affine(x, weight)
        y = xp.empty_like(z) if linear is None else z
        columns = 1 if linear is None else shape[1]
        launch("fused_forward", real, (y.size + 1) // 2, z, bias, y, kept, y.size, columns, *number, *mask)
    return y, FusedResiduals(x, weight, None if is_plain else y if kept is None else kept, mask)


def _mask_of(dropping: Dropping | None, shape: tuple[int, ...]) -> tuple[Any, ...] | None:
    """Return the arguments from which fused.cu draws the mask; None if it cannot, as it begins with a whole block."""
    if dropping is None:
        return NO_MASK
    key, start = dropping.key, dropping.key.first_word(shape)
    if start % 2:
        return None
    return *key.words, *random.path_words(key), key.step, start // 2 % 2**32, dropping.threshold, dropping.scale


def _backward(dy: Any, residuals: FusedResiduals, params: Any, layers: Any, need_dx: bool) -> Any:
    """Through Dropout and the activation to dz, then through Linear."""
    linear, activation, _ = parts_of(layers)
    x, weight, kept, mask = residuals
    xp = array_namespace(dy)
    dz = xp.ascontiguousarray(dy)
    if kept is not None:
        dz, contiguous = xp.empty_like(kept), dz
        rest = (dz.size, *_number_of(activation), *mask)
        launch("fused_backward", dz.dtype, (dz.size + 1) // 2, contiguous, kept, dz, *rest)
    if linear is None:
        return dz, ((),) * len(layers)
    dz_factor, dbias = factor(dz), None
    # Only the optimizer waits for the gradients. Without dx, there is nothing that could run beside that of the weight.
    if params[0].bias is not None:
        with aside(dz):
            dbias = column_sums(dz)
    with aside(x, dz_factor) if need_dx else contextlib.nullcontext():
        dweight = affine(x.T, dz_factor)
    dx = affine(dz_factor, weight.T) if need_dx else None
    return dx, (LinearParams(dweight, dbias), *((),) * (len(layers) - 1))


dense.kernel("cupy", _forward, _backward, residuals=FusedResiduals)
