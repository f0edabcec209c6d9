"""What a layer and a loss promise. A class of your own that keeps these promises trains like the built-in ones.

A layer is a frozen dataclass: its fields are its configuration, its methods are pure, nothing is remembered on `self`.
What changes while training is passed in and returned, as NamedTuples of arrays.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from xpnn.arrays.namespace import Array
from xpnn.arrays.random import Key

Params: TypeAlias = Any  # a NamedTuple (or tuple) of arrays; () for a layer that has none
Residuals: TypeAlias = Any  # whatever forward keeps for backward: arrays, in tuples


class Layer(Protocol):
    """A differentiable function of (params, x): write a frozen dataclass with these three methods.

    Params are a NamedTuple (or a tuple) of arrays; residuals are whatever backward needs, arrays in tuples. A value
    that is carried from step to step, not trained, is a field `nn.Carried(array)` of the params: forward computes the
    next one and hands it over in the residuals, backward returns it in that field. The functions of the array's library
    are `xp = xpnn.arrays.namespace.array_namespace(x)`; random numbers come from `xpnn.arrays.random.bits(key, shape)`
    and `keep_mask(key, p, shape)`. `xpnn.testing.check_layer(layer, x)` looks whether all of this is kept, and
    examples/own_parts.py shows one of each kind.
    """

    def init(self, key: Key) -> Params:
        """The first values of the parameters, drawn by `key`: NumPy arrays on the host, in float64."""

    def forward(self, params: Params, x: Array, *, key: Key | None = None) -> tuple[Array, Residuals]:
        """(y, residuals). A key means training, and draws what is random in it; None means inference."""

    def backward(
        self, params: Params, residuals: Residuals, dy: Array, *, need_dx: bool = True
    ) -> tuple[Array | None, Params]:
        """(dx, grads) for dy = ∂loss/∂y. The gradients have the type of the parameters.

        With need_dx=False, dx need not be computed, and None will do. A field that holds `Carried` gets its next value
        instead of a gradient; a layer with nothing else is called with dy=None below the first layer that is trained.
        """


class Loss(Protocol):
    """A scalar function of (prediction, target): write a frozen dataclass with these three methods.

    A row with sample_weight w counts w times: a mean is Σ w ℓ / Σ w. `xpnn.testing.check_loss` looks whether it is so.
    """

    def init(self) -> Params:
        """The constants of the loss (class weights, say): NumPy arrays on the host, placed once."""

    def forward(
        self, constants: Params, prediction: Array, target: Array, sample_weight: Array | None = None
    ) -> tuple[Array, Residuals]:
        """(loss, residuals); the loss is a 0-d array on the device of the prediction."""

    def backward(self, constants: Params, residuals: Residuals) -> Array:
        """∂loss/∂prediction, of the prediction's shape."""
