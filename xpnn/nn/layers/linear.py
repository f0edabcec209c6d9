"""The affine layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from xpnn.arrays.matmul import matmul
from xpnn.arrays.namespace import Array, array_namespace
from xpnn.arrays.random import Key
from xpnn.errors import InputError
from xpnn.nn import initializers
from xpnn.nn.initializers import Initializer
from xpnn.validation import as_count


class LinearParams(NamedTuple):
    """weight: (in_features, out_features); bias: (out_features,), or None without one."""

    weight: Array
    bias: Array | None


@dataclass(frozen=True)
class Linear:
    """Affine map y = x @ weight + bias, with x (batch, in_features) and y (batch, out_features).

    weight_init: a name in `xpnn.nn.initializers.INITIALIZERS`, or an object
    bias_init:   the same for the bias, whose fans are the weight's: "fan_in_uniform" is uniform on ±1/√in_features

    Computed in the dtype of the weight: bytes and other numbers are converted.
    Raises InputError for an x of another shape.
    """

    accepts_integers: ClassVar[bool] = True
    fused_role: ClassVar[str] = "linear"

    in_features: int
    out_features: int
    bias: bool = True
    weight_init: str | Initializer = "glorot_uniform"
    bias_init: str | Initializer = "zeros"

    def __post_init__(self) -> None:
        for name in ("in_features", "out_features"):
            object.__setattr__(self, name, as_count(f"Linear: {name}", getattr(self, name)))
        initializers.get(self.weight_init)
        initializers.get(self.bias_init)

    def init(self, key: Key) -> LinearParams:
        shape = (self.in_features, self.out_features)
        weight = initializers.first_values(self.weight_init, key.child("weight"), shape)
        if not self.bias:
            return LinearParams(weight, None)
        # The first row of a weight: so every initializer sees the fans.
        return LinearParams(weight, np.array(initializers.first_values(self.bias_init, key.child("bias"), shape)[0]))

    def forward(self, params: LinearParams, x: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        if x.ndim != 2 or x.shape[1] != self.in_features:
            hint = ". Flatten the images first: nn.Flatten()" if x.ndim > 2 else ""
            raise InputError(
                f"Linear({self.in_features}, {self.out_features}): x has shape {tuple(x.shape)}; "
                f"expected (batch, {self.in_features}){hint}"
            )
        if x.dtype != params.weight.dtype:
            x = array_namespace(x).astype(x, params.weight.dtype)
        return matmul(x, params.weight, params.bias), x

    def backward(
        self, params: LinearParams, x: Array, dy: Array, *, need_dx: bool = True
    ) -> tuple[Array | None, LinearParams]:
        """dweight = xᵀ @ dy, dbias = Σ_batch dy, dx = dy @ weightᵀ."""
        xp = array_namespace(dy)
        dweight = matmul(x.T, dy)
        dbias = None if params.bias is None else xp.sum(dy, axis=0)
        dx = matmul(dy, params.weight.T) if need_dx else None
        return dx, LinearParams(dweight, dbias)
