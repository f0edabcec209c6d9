"""The model of an estimator, and its parameters as the lists `coefs_` and `intercepts_`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnn import nn
from xpnn.arrays import random, tree
from xpnn.arrays.namespace import Array, is_array
from xpnn.arrays.special import by_rows
from xpnn.devices.place import Place
from xpnn.nn import traits
from xpnn.nn.layers.activations import ACTIVATIONS
from xpnn.nn.layers.containers import NORMS
from xpnn.nn.layers.linear import LinearParams

#: scikit-learn's names, and those of xpnn that it does not have.
NAMES: dict[str, Callable[[], nn.Layer]] = {"logistic": nn.Sigmoid, **ACTIVATIONS}


def widths(hidden_layer_sizes: Any) -> list[int]:
    """Return the sizes of the hidden layers as a list. Raises scikit-learn's ValueError if one is not above 0."""
    sizes = list(hidden_layer_sizes) if hasattr(hidden_layer_sizes, "__iter__") else [hidden_layer_sizes]
    if np.any(np.array(sizes) <= 0):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
    return sizes


def activations(given: Any, count: int) -> list[nn.Layer]:
    """Return one activation for each hidden layer."""
    each = list(given) if isinstance(given, (list, tuple)) else [given] * count
    if len(each) != count:
        raise ValueError(f"activation has {len(each)} entries for {count} hidden layers; expected one each.")
    unknown = [name for name in each if isinstance(name, str) and name not in NAMES]
    if unknown:
        raise ValueError(f"activation {unknown[0]!r} is not known; expected a layer or one of {', '.join(NAMES)}.")
    return [NAMES[part]() if isinstance(part, str) else part for part in each]


def rates(given: Any, count: int) -> list[float]:
    """Return the probability of dropping for each hidden layer."""
    each = [float(rate) for rate in given] if hasattr(given, "__iter__") else [float(given)] * count
    if len(each) != count:
        raise ValueError(f"dropout has {len(each)} entries for {count} hidden layers; expected one each.")
    return each


def build(estimator: Any, sizes: list[int], first: Callable[..., nn.Layer] | None = None) -> nn.Sequential:
    """Return the model for an estimator.

    There is a Dropout layer after each hidden layer, also for a rate of 0: the rates may change after `fit`, and the
    parameters are found by their positions.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    sizes : list of int
        The widths from the features to the outputs.
    first : callable, optional
        Makes the first layer from its two sizes. By default `linear`.
    """
    hidden = len(sizes) - 2
    layers: list[nn.Layer] = []
    bare = biasless(estimator)
    follows, dropped = activations(estimator.activation, hidden), rates(estimator.dropout, hidden)
    for i in range(hidden + 1):
        make = first if first is not None and i == 0 else linear
        layers.append(make(sizes[i], sizes[i + 1], not (bare and i < hidden)))
        if i < hidden:
            layers += [NORMS[estimator.norm](sizes[i + 1])] if estimator.norm is not None else []
            layers += [follows[i], nn.Dropout(dropped[i])]
    return nn.Sequential(*layers)


def linear(inside: int, outside: int, bias: bool) -> nn.Layer:
    """Return a Linear layer whose initial values cost nothing: `draw` draws them."""
    return nn.Linear(inside, outside, bias, "zeros", "zeros")


def draw(estimator: Any, sizes: list[int], state: np.random.RandomState) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return scikit-learn's initial coefs_ and intercepts_, in float64: layer by layer, from one generator."""
    coefs, intercepts = [], []
    factor = 2.0 if estimator.activation == "logistic" else 6.0
    for inside, outside in itertools.pairwise(sizes):
        bound = math.sqrt(factor / (inside + outside))
        coefs.append(state.uniform(-bound, bound, (inside, outside)))
        intercepts.append(state.uniform(-bound, bound, outside))
    if biasless(estimator):
        intercepts[:-1] = [np.zeros_like(part) for part in intercepts[:-1]]
    return coefs, intercepts


def biasless(estimator: Any) -> bool:
    """Return whether the hidden Linear layers have no bias, because the normalization would cancel it.

    Its gradient would be rounding noise, which Adam turns into full steps.
    """
    return estimator.norm is not None and traits.cancels_bias(NORMS[estimator.norm](1))


def first_others(model: nn.Sequential) -> tuple[Any, ...]:
    """Return the initial parameters of the layers between the Linear layers; None for a Linear layer."""
    drawn = model.init(random.key(0, "init"))
    return tuple(None if isinstance(part, LinearParams) else part for part in drawn)


def are_alike(others: tuple[Any, ...], first: tuple[Any, ...]) -> bool:
    """Return whether parameters of the layers between the Linear layers are of the same kinds and shapes."""

    def forms(parts: tuple[Any, ...]) -> list[Any]:
        return [(type(part), [(name, tuple(leaf.shape)) for name, leaf in tree.named(part)]) for part in parts]

    return forms(others) == forms(first)


def joined(others: tuple[Any, ...], coefs: list[Array], intercepts: list[Array]) -> Any:
    """Return the parameters of the model."""
    pairs = iter(zip(coefs, intercepts, strict=True))
    return tuple(LinearParams(*next(pairs)) if part is None else part for part in others)


def parted(params: Any) -> tuple[tuple[Any, ...], list[Array], list[Array]]:
    """Return (others, coefs, intercepts): the inverse of `joined`."""
    pairs: list[Any] = [part for part in params if isinstance(part, LinearParams)]
    others = tuple(None if isinstance(part, LinearParams) else part for part in params)
    return others, [pair.weight for pair in pairs], [pair.bias for pair in pairs]


def outputs(model: nn.Sequential, params: Any, x: Any, place: Place, rows: int = 4096) -> Array:
    """Return the values of the last layer for all rows of x, in inference."""

    def some(part: Any) -> Array:
        with place.lib.compute_scope():
            return model.forward(params, part)[0]

    return (by_rows if is_array(x) else by_rows.reference)(x, some, rows)  # a sparse matrix is none


def is_finite(params: Any) -> bool:
    """Return whether no parameter is NaN or infinite."""
    from xpnn.training.checks.inputs import all_leaves_finite

    return all_leaves_finite(tree.leaves(params))
