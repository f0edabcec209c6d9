"""Linear → activation → Dropout."""

from __future__ import annotations

from types import NoneType
from typing import Any, NamedTuple

import torch

from xpnn.arrays import random
from xpnn.arrays.random import Key
from xpnn.kernels.common import block_of
from xpnn.kernels.torch.activations import ACTIVATIONS, aten
from xpnn.kernels.torch.autograd import is_recorded
from xpnn.kernels.torch.matmul import affine, affine_backward
from xpnn.nn.fused import dense, parts_of
from xpnn.nn.layers.activations import ReLU
from xpnn.nn.layers.linear import LinearParams

_COVERED = frozenset({NoneType, ReLU, *ACTIVATIONS})


class FusedResiduals(NamedTuple):
    """x, y: input and output of the block.

    inner: what the activation keeps; None for ReLU, whose derivative is y > 0
    keep:  the dropout mask; None for ReLU, for the same reason
    scale: 1 / (1 − p) of Dropout, or 1
    """

    x: torch.Tensor
    y: torch.Tensor
    inner: Any
    keep: torch.Tensor | None
    scale: float


def _forward(x: torch.Tensor, params: Any, layers: Any, key: Key | None, first: int) -> Any:
    block = block_of(x, params, layers, key, first, _COVERED)
    if block is None:
        return NotImplemented
    linear, activation, dropping = block
    is_relu = type(activation) is ReLU
    if linear is None:
        if not x.is_floating_point() or is_recorded(x):
            return NotImplemented
        y = x
    else:
        weight, bias = params[0]
        if is_recorded(x, weight):
            return NotImplemented
        y = affine(x, weight, bias)
    inner, keep, scale = None, None, 1.0
    if is_relu:
        y = torch.relu(y) if linear is None else y.relu_()
    elif activation is not None:
        y, inner = ACTIVATIONS[type(activation)][0](activation, y)
    if dropping is not None:
        # A product with 0 and 1, because `where` with a random mask takes twenty times as long.
        mask: Any = random.keep_mask(dropping.key, dropping.p, tuple(y.shape))
        keep = mask.view(torch.uint8)
        scale = dropping.scale
        y = y.mul_(keep).mul_(scale) if is_relu else (y * keep).mul_(scale)
    return y, FusedResiduals(x, y, inner, None if is_relu else keep, scale)


def _backward(dy: torch.Tensor, residuals: FusedResiduals, params: Any, layers: Any, need_dx: bool) -> Any:
    """Through Dropout and the activation to dz, then through Linear."""
    linear, activation, _ = parts_of(layers)
    x, y, inner, keep, scale = residuals
    dz = dy
    if type(activation) is ReLU:
        dz = aten.threshold_backward(dy, y, 0)
        if scale != 1:
            dz.mul_(scale)
    else:
        if keep is not None:
            dz = (dy * keep).mul_(scale)
        if activation is not None:
            dz = ACTIVATIONS[type(activation)][1](activation, inner, dz)
    if linear is None:
        return dz, ((),) * len(layers)
    weight, bias = params[0]
    dweight, dx = affine_backward(x, weight, dz, need_dx)
    grads = LinearParams(dweight, None if bias is None else torch.sum(dz, 0))
    return dx, (grads, *((),) * (len(layers) - 1))


dense.kernel("torch", _forward, _backward, residuals=FusedResiduals)
