"""Layers made of layers."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from xpnn.arrays import tree
from xpnn.arrays.namespace import Array
from xpnn.arrays.random import Key
from xpnn.errors import InputError
from xpnn.nn import traits
from xpnn.nn.fused import dense, dense_length
from xpnn.nn.initializers import Initializer
from xpnn.nn.layers.activations import ACTIVATIONS
from xpnn.nn.layers.dropout import Dropout
from xpnn.nn.layers.linear import Linear
from xpnn.nn.layers.normalization import BatchNorm1d, LayerNorm, RMSNorm
from xpnn.nn.protocols import Layer, Params, Residuals
from xpnn.validation import one_of


@dataclass(frozen=True, init=False)
class Sequential:
    """y = f_n(… f_2(f_1(x))): Sequential(f_1, f_2, …, f_n). Its parameters are the tuple of theirs.

    Each `Linear → activation → Dropout`, or part of it, runs through the accelerated pair of `xpnn.nn.fused`.
    """

    layers: tuple[Layer, ...]
    blocks: tuple[tuple[int, int, bool], ...] = field(repr=False, compare=False)  # derived: see `_blocks`

    def __init__(self, *layers: Layer) -> None:
        for layer in layers:
            if isinstance(layer, (list, tuple, int, float, str, dict)) or layer is None:
                raise InputError(f"Sequential: {layer!r} is no layer; write Sequential(layer, layer, …)")
            if isinstance(layer, type):
                raise InputError(f"Sequential: {layer.__name__} is a class; write {layer.__name__}(…)")
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "blocks", _blocks(layers))

    @property
    def accepts_integers(self) -> bool | None:
        """What the first layer states that does not just pass its input on; None if all do."""
        return None if self._reader is None else traits.accepts_integers(self._reader)

    @property
    def gathers_rows(self) -> bool:
        """What the first layer states."""
        return bool(self.layers) and traits.gathers_rows(self.layers[0])

    @property
    def uses_batch_statistics(self) -> bool:
        """Whether any of the layers does."""
        return any(map(traits.uses_batch_statistics, self.layers))

    def check_input(self, name: str, x: Array) -> None:
        """Raise InputError if the first layer that reads the values of x cannot."""
        if self._reader is not None:
            traits.check_input(self._reader, name, x)

    @property
    def _reader(self) -> Layer | None:
        """The first layer that does something with the values."""
        return next((layer for layer in self.layers if traits.accepts_integers(layer) is not None), None)

    def init(self, key: Key) -> tuple[Params, ...]:
        return tuple(layer.init(key.child(i)) for i, layer in enumerate(self.layers))

    def forward(
        self, params: tuple[Params, ...], x: Array, *, key: Key | None = None
    ) -> tuple[Array, tuple[Residuals, ...]]:
        residuals = []
        for start, stop, is_dense in self.blocks:
            if is_dense:
                x, kept = dense.forward(x, params[start:stop], self.layers[start:stop], key, start)
            else:
                child = None if key is None else key.child(start)
                x, kept = self.layers[start].forward(params[start], x, key=child)
            residuals.append(kept)
        return x, tuple(residuals)

    def backward(
        self, params: tuple[Params, ...], residuals: tuple[Residuals, ...], dy: Array, *, need_dx: bool = True
    ) -> tuple[Array | None, tuple[Params, ...]]:
        """Last to first. Without need_dx, nothing is computed below the first trained layer but carried values."""
        grads: list[Params] = list(params)  # what is skipped has no leaves, and keeps its type
        trained_from = 0 if need_dx else self._first_trained(params)
        dx: Array | None = dy
        for (start, stop, is_dense), kept in zip(reversed(self.blocks), reversed(residuals), strict=True):
            need = need_dx or start > trained_from
            if (dx is None or start < trained_from) and not tree.leaves(params[start]):  # None: it was integers
                continue
            if is_dense:
                parts = self.layers[start:stop]
                dx, grads[start:stop] = dense.backward(dx, kept, params[start:stop], parts, need)
            else:
                dx, grads[start] = self.layers[start].backward(params[start], kept, dx, need_dx=need)
        return (dx if need_dx else None), tuple(grads)

    def _first_trained(self, params: tuple[Params, ...]) -> int:
        for i, branch in enumerate(params):
            if tree.leaves(tree.trained(branch)):
                return i
        return len(params)


def _blocks(layers: tuple[Layer, ...]) -> tuple[tuple[int, int, bool], ...]:
    """(start, stop, is_dense) of each stretch of layers that runs as one."""
    blocks, start = [], 0
    while start < len(layers):
        length = dense_length(layers[start:])
        blocks.append((start, start + max(length, 1), length > 0))
        start += max(length, 1)
    return tuple(blocks)


@dataclass(frozen=True)
class Residual:
    """y = x + block(x), for a block whose y has the shape of its x; its parameters are the block's.

    Raises InputError where the shapes differ. Source: He et al. 2016.
    """

    accepts_integers: ClassVar[bool] = False

    block: Layer

    @property
    def uses_batch_statistics(self) -> bool:
        """Whether the block does."""
        return traits.uses_batch_statistics(self.block)

    def init(self, key: Key) -> Params:
        return self.block.init(key)

    def forward(self, params: Params, x: Array, *, key: Key | None = None) -> tuple[Array, Residuals]:
        y, residuals = self.block.forward(params, x, key=key)
        if y.shape != x.shape:
            raise InputError(f"Residual: the block turns shape {tuple(x.shape)} into {tuple(y.shape)}; both must agree")
        return x + y, residuals

    def backward(
        self, params: Params, residuals: Residuals, dy: Array | None, *, need_dx: bool = True
    ) -> tuple[Array | None, Params]:
        """dx = dy + the block's dx."""
        dx, grads = self.block.backward(params, residuals, dy, need_dx=need_dx)
        return (None if dx is None or dy is None else dy + dx), grads


#: By the name that MLP takes.
NORMS: dict[str, type[BatchNorm1d] | type[LayerNorm] | type[RMSNorm]] = {
    "batch": BatchNorm1d,
    "layer": LayerNorm,
    "rms": RMSNorm,
}


def MLP(
    in_features: int,
    out_features: int,
    hidden_sizes: Sequence[int] = (),
    *,
    activation: str | Layer | Sequence[str | Layer] = "relu",
    output_activation: str | Layer | None = None,
    norm: str | None = None,
    dropout: float | Sequence[float] = 0.0,
    bias: bool = True,
    weight_init: str | Initializer | None = None,
    bias_init: str | Initializer = "zeros",
) -> Sequential:
    """A multilayer perceptron, in_features → hidden_sizes… → out_features.

    A hidden layer is Linear, norm, activation, Dropout, as far as they are wanted.

    activation:  a name in `xpnn.nn.layers.activations.ACTIVATIONS` ("relu", "gelu", "tanh", …) or a layer (nn.LeakyReLU(0.2));
                 one for all hidden layers, or one each
    output_activation: the same for the last layer; by default none, and its outputs are logits
    norm:        "batch", "layer" or "rms" before each activation, or None
    dropout:     probability of dropping after each hidden layer; one for all, or one each
    bias:        whether the Linear layers have one; a layer before "batch" never has, as the norm would cancel it
    weight_init: an initializer for all layers; by default Glorot uniform for the last layer and
                 for those that sigmoid or tanh follows, He normal elsewhere
    bias_init:   an initializer for all biases

    Returns a Sequential. Raises InputError.
    """
    if isinstance(hidden_sizes, numbers.Integral):
        raise InputError(f"MLP: hidden_sizes is {hidden_sizes!r}; expected a list of widths: [{hidden_sizes}]")
    if isinstance(activation, str):
        one_of("activation", activation, ACTIVATIONS)  # also where there is no hidden layer
    if norm is not None:
        one_of("norm", norm, NORMS)
    rates = _one_each("dropout rates", dropout, hidden_sizes)
    activations = [_activation(each) for each in _one_each("activations", activation, hidden_sizes)]
    layers: list[Layer] = []
    size = in_features
    for width, follows, rate in zip(hidden_sizes, activations, rates, strict=True):
        normalization: list[Layer] = [] if norm is None else [NORMS[norm](width)]
        init = traits.preferred_init(follows) if weight_init is None else weight_init
        layers.append(Linear(size, width, bias and not any(map(traits.cancels_bias, normalization)), init, bias_init))
        layers += [*normalization, follows]
        if rate:
            layers.append(Dropout(rate))
        size = width
    last = "glorot_uniform" if weight_init is None else weight_init
    layers.append(Linear(size, out_features, bias, last, bias_init))
    if output_activation is not None:
        layers.append(_activation(output_activation))
    return Sequential(*layers)


def _one_each(what: str, given: Any, hidden_sizes: Sequence[int]) -> list[Any]:
    """`given` for each hidden layer: a list as it stands, anything else repeated."""
    if isinstance(given, str) or not isinstance(given, Sequence):
        return [given] * len(hidden_sizes)
    if len(given) != len(hidden_sizes):
        raise InputError(
            f"MLP: {len(given)} {what} for {len(hidden_sizes)} hidden layers; give one for all, or one each"
        )
    return list(given)


def _activation(given: str | Layer) -> Layer:
    layer: Layer = ACTIVATIONS[one_of("activation", given, ACTIVATIONS)]() if isinstance(given, str) else given
    return layer
