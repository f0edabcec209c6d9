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
from xpnn.nn.sizes import ensure_weights_fit
from xpnn.validation import Problems, as_count


class LinearParams(NamedTuple):
    """The parameters of a `Linear` layer.

    Attributes
    ----------
    weight : array, (in_features, out_features)
    bias : array, (out_features,), or None
    """

    weight: Array
    bias: Array | None


@dataclass(frozen=True)
class Linear:
    """Affine map, y = x @ weight + bias.

    Parameters
    ----------
    in_features, out_features : int
        Sizes of the rows of x, (batch, in_features), and of y, (batch, out_features).
    bias : bool
        Whether to add a bias.
    weight_init : str or Initializer
        A name in `xpnn.nn.initializers.INITIALIZERS`, or an initializer.
    bias_init : str or Initializer
        The same for the bias. Its fans are those of the weight: "fan_in_uniform" is uniform in ±1/√in_features.

    Raises
    ------
    InputError
        If a size is not a positive integer or an initializer is unknown. `forward` raises it if x has another shape.

    Notes
    -----
    The result has the dtype of the weight; bytes and other integers are converted to it. ``torch.nn.Linear`` stores the
    transposed weight, (out_features, in_features).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> from xpnn.arrays import random
    >>> layer = nn.Linear(3, 2, bias_init=nn.Constant(0.5))
    >>> params = layer.init(random.key(0, "init"))
    >>> params.weight.shape, params.bias
    ((3, 2), array([0.5, 0.5]))
    >>> x = np.ones((4, 3))
    >>> y, residuals = layer.forward(params, x)
    >>> dx, grads = layer.backward(params, residuals, np.ones_like(y))
    >>> y.shape, dx.shape, grads.bias
    ((4, 2), (4, 3), array([4., 4.]))
    """

    accepts_integers: ClassVar[bool] = True
    fused_role: ClassVar[str] = "linear"

    in_features: int
    out_features: int
    bias: bool = True
    weight_init: str | Initializer = "glorot_uniform"
    bias_init: str | Initializer = "zeros"

    def __post_init__(self) -> None:
        problems = Problems()
        for name in ("in_features", "out_features"):
            with problems:
                object.__setattr__(self, name, as_count(f"Linear: {name}", getattr(self, name)))
        for init in (self.weight_init, self.bias_init):
            with problems:
                initializers.get(init)
        problems.raise_found()

    @property
    def features_in(self) -> int:
        """The number of features of x."""
        return self.in_features

    @property
    def features_out(self) -> int:
        """The number of features of y."""
        return self.out_features

    @property
    def weight_count(self) -> int:
        """How many weights there are, without the bias."""
        return self.in_features * self.out_features

    def init(self, key: Key) -> LinearParams:
        ensure_weights_fit(self)
        shape = (self.in_features, self.out_features)
        weight = initializers.first_values(self.weight_init, key.child("weight"), shape)
        if not self.bias:
            return LinearParams(weight, None)
        # The first row of a matrix of the shape of the weight, so that the initializer sees the same fans.
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
        """Return dx = dy @ weightᵀ, dweight = xᵀ @ dy, dbias = Σ_batch dy."""
        xp = array_namespace(dy)
        dweight = matmul(x.T, dy)
        dbias = None if params.bias is None else xp.sum(dy, axis=0)
        dx = matmul(dy, params.weight.T) if need_dx else None
        return dx, LinearParams(dweight, dbias)
