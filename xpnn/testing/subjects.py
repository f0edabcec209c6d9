"""The subjects of checks: what is computed and compared for a layer, a loss, a penalty or an optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from xpnn import nn, optim
from xpnn.arrays import random, tree
from xpnn.arrays.random import Key
from xpnn.arrays.tree import Tree
from xpnn.devices.place import Place
from xpnn.errors import CheckFailedError
from xpnn.nn import traits
from xpnn.testing.deviation_measures import gradient_error
from xpnn.testing.deviations import KEY, Subject, read_only
from xpnn.training import Trainer

_ENTRIES = 200  # finite differences are computed for at most this many entries of an array


def layer_subject(layer: nn.Layer, x: np.ndarray) -> Subject:
    """Return the subject for a layer and an input x, (batch, …)."""
    params = _moved_params(layer, x)
    dy = _draw(layer.forward(params, x)[0].shape)

    def promises() -> Iterator[str]:
        fixed, x_fixed, dy_fixed = (read_only(part) for part in (params, x, dy))
        for key in (None, KEY):
            y, residuals = layer.forward(fixed, x_fixed, key=key)
            before = _copies(residuals)
            dx, grads = layer.backward(fixed, residuals, dy_fixed)
            if not _same(layer.forward(fixed, x_fixed, key=key)[0], y):
                yield "forward gives another y for the same arguments: is there state outside the parameters?"
            again = layer.backward(fixed, residuals, dy_fixed)
            if not _same(again, (dx, grads)) or not _same(_copies(residuals), before):
                yield "backward gives other gradients when it is called again: does it write into its residuals?"
            came, wanted = tree.outline(grads), tree.outline(params)
            if came != wanted:
                yield f"backward: the gradients are {came}; expected what init gives: {wanted}"
            if dx is None and x.dtype.kind == "f":
                yield "backward gives no dx although need_dx is on: nothing below this layer can be trained"
            if dx is not None and x.dtype.kind != "f":
                yield f"backward gives a dx for an x of {x.dtype}; integers have no gradient, return None"
            without = layer.backward(fixed, residuals, dy_fixed, need_dx=False)[1]
            if tree.outline(without) != came or not _same(without, grads):
                yield "backward gives other gradients with need_dx off"

    def gradients() -> Iterator[tuple[float, str]]:
        trained = tree.trained(params)
        leaves: list[Any] = tree.leaves(trained)
        names = [name for name, _ in tree.named(trained, "parameters")]
        for key, when in ((None, "in inference"), (KEY, "in training")):
            dx, grads = layer.backward(params, layer.forward(params, x, key=key)[1], dy)

            def value(new: list[Any], x: np.ndarray, key: Key | None = key) -> float:
                here = tree.merge(tree.rebuild(trained, new), params)
                y: Any = layer.forward(here, x, key=key)[0]
                return float(np.sum(y * dy))

            if dx is not None:
                at_x = partial(value, leaves)
                yield gradient_error(dx, at_x, x, _ENTRIES), f"x, {when}"
            for i, grad in enumerate(tree.leaves(tree.trained(grads))):

                def at_leaf(leaf: np.ndarray, i: int = i, value: Callable[..., float] = value) -> float:
                    return value([*leaves[:i], leaf, *leaves[i + 1 :]], x)

                yield gradient_error(grad, at_leaf, leaves[i], _ENTRIES), f"{names[i]}, {when}"

    def compute(inputs: Tree, key: Key) -> Tree:
        params, x, dy = inputs
        results = []
        for used in (None, key):
            y, residuals = layer.forward(params, x, key=used)
            results.append((y, layer.backward(params, residuals, dy)))
        return tuple(results)

    def trainer(place: Place, dtype: str) -> Trainer:
        model = nn.Sequential(layer, nn.Flatten(), nn.Linear(math.prod(dy.shape[1:]), 3))
        return Trainer(model, nn.CrossEntropyLoss(), optim.SGD(0.01), device=place, dtype=dtype)

    labels = np.arange(x.shape[0], dtype=np.int32) % 3
    return Subject("layer", type(layer).__name__, promises, gradients, compute, (params, x, dy), trainer, x, labels)


def loss_subject(loss: nn.Loss, prediction: np.ndarray, target: np.ndarray, weight: np.ndarray | None) -> Subject:
    """Return the subject for a loss, a prediction (batch, outputs), its target and the weights of the rows."""
    inputs = (loss.init(), prediction, target, weight)
    reduction = traits.reduction(loss) or "mean"

    def promises() -> Iterator[str]:
        fixed = read_only(inputs)
        value, residuals = loss.forward(*fixed)
        slope = loss.backward(fixed[0], residuals)
        if not _same(loss.forward(*fixed)[0], value) or not _same(loss.backward(fixed[0], residuals), slope):
            yield "another loss or gradient for the same arguments: is there state outside of them?"
        if reduction != "none" and np.shape(value) != ():
            yield f"forward: the loss has shape {np.shape(value)}; expected a scalar, shape ()"
        if weight is not None and np.ptp(weight) > 0 and _same(loss.forward(*fixed[:3])[0], value):
            yield "forward: the loss is the same without sample_weight: is it left out?"
        if slope.shape != prediction.shape:
            yield f"backward: the gradient has shape {slope.shape}; expected the prediction's, {prediction.shape}"
        if reduction != "none" and np.shape(value) == ():
            yield from _reduction_problems(reduction, float(value), float(loss.forward(*_rows_twice(inputs))[0]))

    def gradients() -> Iterator[tuple[float, str]]:
        constants = inputs[0]
        slope = loss.backward(constants, loss.forward(*inputs)[1])

        def value(z: np.ndarray) -> float:
            each: Any = loss.forward(constants, z, target, weight)[0]
            return float(np.sum(each))

        yield gradient_error(slope, value, prediction, _ENTRIES), "the prediction"

    def compute(inputs: Tree, key: Key) -> Tree:
        value, residuals = loss.forward(*inputs)
        return value, loss.backward(inputs[0], residuals)

    def trainer(place: Place, dtype: str) -> Trainer:
        model = nn.Linear(5, prediction.shape[1])
        return Trainer(model, loss, optim.SGD(1e-3), device=place, dtype=dtype)

    is_scalar = np.shape(loss.forward(*inputs)[0]) == ()  # reduction "none" trains nothing
    x, train = _draw((prediction.shape[0], 5)), trainer if is_scalar else None
    return Subject("loss", type(loss).__name__, promises, gradients, compute, inputs, train, x, target)


def penalty_subject(penalty: nn.Penalty) -> Subject:
    """Return the subject for a penalty, on the parameters of a small network."""
    model = nn.MLP(6, 3, (8,), activation="tanh")
    params = _moved_params(model, _draw((4, 6)))
    grads = tree.map(lambda leaf: _draw(leaf.shape, 7), params)
    loss, count = np.asarray(2.5), np.asarray(4.0)
    add: Callable[..., Any] = penalty.add

    def promises() -> Iterator[str]:
        fixed = read_only((loss, grads, params))
        first = add(*fixed, 4)
        if tree.outline(first[1]) != tree.outline(params):
            yield f"add: the gradients are {tree.outline(first[1])}; expected {tree.outline(params)}"
        if not _same(add(*fixed, 4), first):
            yield "add gives something else for the same arguments: is there state outside of them?"
        writable = tree.map(np.array, (loss, grads, params))
        add(*writable, 4)
        if not _same(writable, (loss, grads, params)):
            yield "add writes into its arguments without donate=True"
        value, given = (float(add(loss, grads, params, n)[0] - loss) for n in (1, 4))
        if not math.isclose(value, 4 * given, rel_tol=1e-9, abs_tol=1e-12):
            yield f"add: the penalty is {value:.6g} for a count of 1 and {given:.6g} for 4; expected a quarter"

    def gradients() -> Iterator[tuple[float, str]]:
        leaves: list[Any] = tree.leaves(params)
        slopes: list[Any] = tree.leaves(add(loss, tree.map(np.zeros_like, params), params, 4)[1])
        for i, (name, _) in enumerate(tree.named(params)):

            def value(leaf: np.ndarray, i: int = i) -> float:
                moved = tree.rebuild(params, [*leaves[:i], leaf, *leaves[i + 1 :]])
                return float(add(loss, grads, moved, 4)[0])

            yield gradient_error(slopes[i], value, leaves[i], _ENTRIES), name

    def compute(inputs: Tree, key: Key) -> Tree:
        return add(*inputs), add(*inputs[:3], 4)

    def trainer(place: Place, dtype: str) -> Trainer:
        parts = (model, nn.CrossEntropyLoss(), optim.SGD(0.01))
        return Trainer(*parts, device=place, dtype=dtype, penalty=penalty)

    x, labels = _draw((24, 6)), np.arange(24, dtype=np.int32) % 3
    inputs = (loss, grads, params, count)
    return Subject("penalty", type(penalty).__name__, promises, gradients, compute, inputs, trainer, x, labels)


def optimizer_subject(optimizer: optim.Optimizer) -> Subject:
    """Return the subject for an optimizer: five steps on a matrix and a vector, and a small network."""
    params, grads = (_draw((4, 3)), _draw((3,))), tuple((_draw((4, 3), i), _draw((3,), i)) for i in range(5))
    inputs = (params, grads, np.asarray(0.01))

    def run(params: Tree, grads: Tree, lr: Any) -> Tree:
        state = optimizer.init(params)
        for step in grads:
            params, state = optimizer.update(params, step, state, lr)
        return params, state

    def promises() -> Iterator[str]:
        after = tree.outline(run(params, grads[:1], inputs[2])[0])
        if after != tree.outline(params):
            yield f"update: the parameters became {after}; expected {tree.outline(params)}"
        first = run(*read_only(inputs))
        if not _same(run(*read_only(inputs)), first):
            yield "update gives other parameters for the same arguments: is there state outside of them?"
        given = (params, grads[0], optimizer.init(params), inputs[2])
        step: Callable[..., Any] = optimizer.update
        step(*read_only(given))
        writable = tree.map(np.array, given)
        step(*writable)
        if not _same(writable, given):
            yield "update writes into its arguments without donate=True"

    def trainer(place: Place, dtype: str) -> Trainer:
        model = nn.MLP(6, 3, (8,), activation="tanh")
        return Trainer(model, nn.CrossEntropyLoss(), optimizer, device=place, dtype=dtype)

    def compute(inputs: Tree, key: Key) -> Tree:
        return run(*inputs)

    x, labels = _draw((24, 6)), np.arange(24, dtype=np.int32) % 3
    return Subject("optimizer", type(optimizer).__name__, promises, tuple, compute, inputs, trainer, x, labels)


def _moved_params(layer: nn.Layer, x: np.ndarray) -> Tree:
    """Return parameters that differ from the initial ones: a bias or a running mean of 0 would hide mistakes."""
    first = layer.init(random.key(1, "init"))
    if not isinstance(first, tuple) or not all(isinstance(leaf, np.ndarray) for leaf in tree.leaves(first)):
        raise CheckFailedError(f"init gave {first!r}; expected NumPy arrays in a NamedTuple or a tuple")
    trained = tree.trained(first)
    moved = [leaf + 0.1 * _draw(leaf.shape) for leaf in tree.leaves(trained)]
    params = tree.merge(tree.rebuild(trained, moved), first)
    if len(moved) == len(tree.leaves(first)):
        return params
    y, residuals = layer.forward(params, np.array(x), key=KEY)
    _, grads = layer.backward(params, residuals, _draw(y.shape))
    if tree.outline(grads) != tree.outline(params):  # `promises` reports it
        return params
    return tree.merge(tree.rebuild(trained, moved), grads)  # what is carried, after one step


def _reduction_problems(reduction: str, value: float, twice: float) -> Iterator[str]:
    """Yield what is wrong with a loss that is `value`, and `twice` if each row is given twice."""
    doubles = math.isclose(twice, 2 * value, rel_tol=1e-9)
    if value != 0 and doubles and reduction == "mean":
        yield (
            f"forward: the loss doubles, from {value:.6g} to {twice:.6g}, when each row is given twice: it is a sum; "
            'set reduction = "sum", or divide by the rows\' total weight'
        )
    if reduction == "sum" and not doubles:
        yield (
            f'forward: reduction is "sum", but the loss is {twice:.6g} instead of {2 * value:.6g} '
            "when each row is given twice"
        )


def _rows_twice(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """A loss's arguments with each row twice; the constants stay as they are."""
    constants, *rows = inputs
    return (constants, *(None if x is None else np.concat([x, x]) for x in rows))


def _draw(shape: tuple[int, ...], i: int = 0) -> np.ndarray:
    return random.normal(random.key(0, "check").child(i), tuple(shape))


def _copies(values: Any) -> tuple[np.ndarray, ...]:
    """Copies of the NumPy arrays in a tree; what is opaque is left out."""
    return tuple(np.array(leaf) for leaf in tree.leaves(values) if isinstance(leaf, np.ndarray))


def _same(one: Tree, other: Tree) -> bool:
    pairs: Iterator[Any] = zip(tree.leaves(one), tree.leaves(other), strict=True)
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)
