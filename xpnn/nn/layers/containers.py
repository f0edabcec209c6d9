"""Containers: layers that consist of other layers."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from xpnn.arrays import tree
from xpnn.arrays.namespace import Array
from xpnn.arrays.random import Key
from xpnn.errors import InputError
from xpnn.nn import initializers, traits
from xpnn.nn.fused import dense, dense_length, joined
from xpnn.nn.initializers import Initializer
from xpnn.nn.layers.activations import ACTIVATIONS
from xpnn.nn.layers.dropout import Dropout
from xpnn.nn.layers.linear import Linear
from xpnn.nn.layers.normalization import BatchNorm1d, LayerNorm, RMSNorm
from xpnn.nn.protocols import Layer, Params, Residuals
from xpnn.nn.sizes import described, ensure_weights_fit, features_through
from xpnn.validation import Problems, as_count, ensure_methods, one_of

_METHODS = ("init", "forward", "backward")  # of a layer


@dataclass(frozen=True, init=False)
class Sequential:
    """Apply layers one after the other, y = f_n(… f_2(f_1(x))).

    Parameters
    ----------
    *layers : Layer
        f_1, …, f_n. Without any, the model is the identity.

    Attributes
    ----------
    layers : tuple of Layer
    blocks : tuple of (start, stop, is_dense)
        Derived: consecutive layers that run as one fused block, and single layers.

    Raises
    ------
    InputError
        If an argument is not a layer, or a layer takes another number of features than the layer before it gives, as
        far as they state it (`xpnn.nn.traits`).

    Notes
    -----
    The parameters are the tuple of the parameters of the layers. Layer i draws its initial parameters and random
    numbers by ``key.child(i)``. Consecutive Linear, activation and Dropout layers, or some of them in this order, run
    through the pair of functions in `xpnn.nn.fused`, which may have a kernel.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> from xpnn.arrays import random
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> params = model.init(random.key(0, "init"))
    >>> params[0], params[1].weight.shape
    ((), (4, 3))
    >>> y, residuals = model.forward(params, np.ones((5, 2, 2)))
    >>> dx, grads = model.backward(params, residuals, np.ones_like(y))
    >>> y.shape, dx.shape, grads[3].weight.shape
    ((5, 2), (5, 2, 2), (3, 2))
    """

    layers: tuple[Layer, ...]
    blocks: tuple[tuple[int, int, bool], ...] = field(repr=False, compare=False)  # see `_blocks`

    def __init__(self, *layers: Layer) -> None:
        problems = Problems()
        for layer in layers:
            with problems:
                if isinstance(layer, (list, tuple, int, float, str, dict)) or layer is None:
                    raise InputError(f"Sequential: {layer!r} is not a layer; write Sequential(layer, layer, …)")
                if isinstance(layer, type):
                    raise InputError(f"Sequential: {layer.__name__} is a class; write {layer.__name__}(…)")
                ensure_methods("a layer", layer, _METHODS, "nn.ReLU()")
        problems.raise_found()
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "blocks", _blocks(layers))
        features_through(layers)

    @property
    def accepts_integers(self) -> bool | None:
        """The trait of the first layer that does not only pass its input on; None if all layers do."""
        return None if self._reader is None else traits.accepts_integers(self._reader)

    @property
    def gathers_rows(self) -> bool:
        """The trait of the first layer."""
        return bool(self.layers) and traits.gathers_rows(self.layers[0])

    def centred(self) -> tuple[Any, Layer] | None:
        """The trait of the first layer, with this model around the layer that it returns."""
        found = traits.centred(self.layers[0]) if self.layers else None
        return None if found is None else (found[0], Sequential(found[1], *self.layers[1:]))

    @property
    def uses_batch_statistics(self) -> bool:
        """Whether any of the layers does."""
        return any(map(traits.uses_batch_statistics, self.layers))

    @property
    def sums_over_ranks(self) -> bool:
        """Whether all layers do."""
        return all(map(traits.sums_over_ranks, self.layers))

    @property
    def features_in(self) -> int | None:
        """What the first layer that states it takes."""
        return features_through(self.layers)[0]

    @property
    def features_out(self) -> int | str | None:
        """What the last layer gives."""
        return features_through(self.layers)[1]

    @property
    def weight_count(self) -> int:
        """How many weights all layers have."""
        return sum(map(traits.weight_count, self.layers))

    def check_input(self, name: str, x: Array) -> None:
        """Raise InputError if the first layer that reads the values of `x` does not accept them."""
        if self._reader is not None:
            traits.check_input(self._reader, name, x)

    @property
    def _reader(self) -> Layer | None:
        """The first layer that does not only pass its input on."""
        return next((layer for layer in self.layers if traits.accepts_integers(layer) is not None), None)

    def init(self, key: Key) -> tuple[Params, ...]:
        ensure_weights_fit(self)
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
        """Return dx and the tuple of the gradients of the layers, computed from the last layer to the first.

        With need_dx=False, the layers before the first trained layer only return their carried values.
        """
        grads: list[Params] = list(params)  # the layers that are skipped have no arrays: this is their type
        trained_from = 0 if need_dx else self._first_trained(params)
        dx: Any = dy  # None below a layer that takes integers
        for (start, stop, is_dense), kept in zip(reversed(self.blocks), reversed(residuals), strict=True):
            need = need_dx or start > trained_from
            if (dx is None or start < trained_from) and not tree.leaves(params[start]):  # dx is None for integers
                continue
            if is_dense:
                parts = self.layers[start:stop]
                dx, grads[start:stop] = dense.backward(dx, kept, params[start:stop], parts, need)
            else:
                dx, grads[start] = self.layers[start].backward(params[start], kept, dx, need_dx=need)
        if dy is not None:
            joined(dy)  # a layer around this one may read the gradients
        return (dx if need_dx else None), tuple(grads)

    def _first_trained(self, params: tuple[Params, ...]) -> int:
        """Return the index of the first layer that has trained parameters."""
        for i, branch in enumerate(params):
            if tree.leaves(tree.trained(branch)):
                return i
        return len(params)


def _blocks(layers: tuple[Layer, ...]) -> tuple[tuple[int, int, bool], ...]:
    """Return (start, stop, is_dense) for each run of layers that are computed together."""
    blocks, start = [], 0
    while start < len(layers):
        length = dense_length(layers[start:])
        blocks.append((start, start + max(length, 1), length > 0))
        start += max(length, 1)
    return tuple(blocks)


@dataclass(frozen=True)
class Residual:
    """Residual connection, y = x + block(x).

    Parameters
    ----------
    block : Layer
        Any layer whose result has the shape of x, (batch, …). Its parameters are those of this layer.

    Raises
    ------
    InputError
        If the shapes of x and block(x) differ: at once if the block states its numbers of features, or by `forward`.

    References
    ----------
    He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> nn.Residual(nn.Scale(3.0)).forward(nn.Scale(3.0).init(None), np.array([[1.0, 2.0]]))[0]
    array([[4., 8.]])
    """

    accepts_integers: ClassVar[bool] = False
    features_out: ClassVar[str] = "same"

    block: Layer

    def __post_init__(self) -> None:
        ensure_methods("a layer", self.block, _METHODS, "nn.MLP(8, 8, (16,))")
        takes, gives = traits.features_in(self.block), traits.features_out(self.block)
        if isinstance(takes, int) and isinstance(gives, int) and takes != gives:
            raise InputError(f"Residual: the block {described(self.block)} takes {takes} features and gives {gives}")

    @property
    def features_in(self) -> int | None:
        """What the block takes."""
        return traits.features_in(self.block)

    @property
    def weight_count(self) -> int:
        """How many weights the block has."""
        return traits.weight_count(self.block)

    @property
    def uses_batch_statistics(self) -> bool:
        """Whether the block does."""
        return traits.uses_batch_statistics(self.block)

    @property
    def sums_over_ranks(self) -> bool:
        """Whether the block does."""
        return traits.sums_over_ranks(self.block)

    def init(self, key: Key) -> Params:
        return self.block.init(key)

    def forward(self, params: Params, x: Array, *, key: Key | None = None) -> tuple[Array, Residuals]:
        y, residuals = self.block.forward(params, x, key=key)
        if y.shape != x.shape:
            raise InputError(f"Residual: x has shape {tuple(x.shape)}, block(x) {tuple(y.shape)}; expected the same")
        return x + y, residuals

    def backward(
        self, params: Params, residuals: Residuals, dy: Any, *, need_dx: bool = True
    ) -> tuple[Array | None, Params]:
        """Return dx = dy + (dx of the block), and the gradients of the block."""
        dx, grads = self.block.backward(params, residuals, dy, need_dx=need_dx)
        return (None if dx is None or dy is None else dy + dx), grads


#: The normalization layers by the names that `MLP` accepts.
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
    """Build a multilayer perceptron, in_features → hidden_sizes… → out_features.

    Parameters
    ----------
    in_features, out_features : int
        Sizes of the rows of x, (batch, in_features), and of y, (batch, out_features).
    hidden_sizes : sequence of int
        Sizes of the hidden layers. Each is Linear, normalization, activation, Dropout, as far as they are requested.
    activation : str or Layer, or a sequence of them
        One for all hidden layers, or one each: a name in `xpnn.nn.layers.activations.ACTIVATIONS` ("relu", "gelu",
        "tanh", …) or a layer, such as nn.LeakyReLU(0.2).
    output_activation : str or Layer, optional
        The activation after the last layer. By default there is none: the outputs are logits.
    norm : {"batch", "layer", "rms"}, optional
        The normalization before each hidden activation.
    dropout : float or sequence of float
        Probability of dropping after each hidden layer: one for all, or one each.
    bias : bool
        Whether the Linear layers have a bias. A layer before norm="batch" never has, because it would have no effect.
    weight_init : str or Initializer, optional
        The initializer of all weights. By default, each hidden layer uses the `preferred_init` of its activation
        (Glorot uniform for sigmoid and tanh, He normal for the others), and the last layer uses Glorot uniform.
    bias_init : str or Initializer
        The initializer of all biases.

    Returns
    -------
    Sequential

    Raises
    ------
    InputError
        If an argument is out of range or unknown, or a sequence does not have one entry per hidden layer.

    Examples
    --------
    >>> from xpnn import nn
    >>> model = nn.MLP(784, 10, [128], activation="tanh", dropout=0.2)
    >>> [type(layer).__name__ for layer in model.layers]
    ['Linear', 'Tanh', 'Dropout', 'Linear']
    """
    if isinstance(hidden_sizes, numbers.Integral):
        raise InputError(f"MLP: hidden_sizes is {hidden_sizes!r}; expected a list of widths: [{hidden_sizes}]")
    problems, rates, activations = Problems(), [], []
    sizes = {"in_features": in_features, "out_features": out_features}
    sizes |= {f"hidden_sizes[{i}]": width for i, width in enumerate(hidden_sizes)}
    for name, size in sizes.items():
        with problems:
            as_count(f"MLP: {name}", size)
    with problems:
        if isinstance(activation, str):
            one_of("activation", activation, ACTIVATIONS)  # even if there is no hidden layer
        activations = _one_each("activations", activation, hidden_sizes)
    for i, each in enumerate(activations):
        with problems:
            activations[i] = _activation(each)
    with problems:
        if output_activation is not None:
            _activation(output_activation)
    with problems:
        if norm is not None:
            one_of("norm", norm, NORMS)
    with problems:
        rates = _one_each("dropout rates", dropout, hidden_sizes)
    for rate in rates or [dropout]:
        with problems:
            if not isinstance(rate, Sequence):
                Dropout(rate)
    for init in (weight_init, bias_init):
        with problems:
            if init is not None:
                initializers.get(init)
    problems.raise_found()
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
    """Return one value per hidden layer: a sequence as it is, anything else repeated."""
    if isinstance(given, str) or not isinstance(given, Sequence):
        return [given] * len(hidden_sizes)
    if len(given) != len(hidden_sizes):
        raise InputError(
            f"MLP: {len(given)} {what} for {len(hidden_sizes)} hidden layers; give one for all, or one per layer"
        )
    return list(given)


def _activation(given: str | Layer) -> Layer:
    """Return the activation of that name, or the layer as it is."""
    layer: Layer = ACTIVATIONS[one_of("activation", given, ACTIVATIONS)]() if isinstance(given, str) else given
    return layer
