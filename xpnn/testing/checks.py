"""Does this computer compute what the formulas say? A layer, a loss or an optimizer, on every library and device here.

Of each is asked
    its promises   nothing is written to, gradients have the type of the parameters, need_dx=False changes none of them
    its gradient   against finite differences, in float64 on NumPy
    its values     on every place, in float32 and float64, against NumPy's float64
    its bits       whether initial weights and random bits are the same on every place
    a run          50 training steps on every place, against the same run on NumPy
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from xpnn import nn, optim
from xpnn.arrays import random, tree
from xpnn.arrays.namespace import is_array
from xpnn.arrays.random import Key
from xpnn.arrays.tree import Tree
from xpnn.devices.place import Place, to_numpy
from xpnn.errors import CheckFailedError, InputError
from xpnn.nn.traits import reduction
from xpnn.testing.deviation_measures import gradient_error
from xpnn.testing.deviations import KEY, Subject, at_place
from xpnn.testing.places import usable_places
from xpnn.testing.report import PlaceReport, Report
from xpnn.training import Trainer

_ENTRIES = 200  # of each array that finite differences try


def check_layer(layer: nn.Layer, x: Any, *, places: Sequence[Place] | None = None, raise_error: bool = True) -> Report:
    """Check a layer on an input x, (batch, …), that lies on no kink of its formula; in training and in inference.

    places: where, as `xpnn.find_place` gives them; None for everywhere on this machine. JAX is tried in float64 only
    where it is switched on.

    Raises CheckFailedError, which says all that is wrong; with raise_error=False the report does.
    """
    return _finish("layer", layer, lambda: _layer(layer, _host(x)), places, raise_error)


def check_loss(
    loss: nn.Loss,
    prediction: Any,
    target: Any,
    sample_weight: Any = None,
    *,
    places: Sequence[Place] | None = None,
    raise_error: bool = True,
) -> Report:
    """Check a loss on a prediction, (batch, outputs), and the target that belongs to it; see `check_layer`."""
    weight = None if sample_weight is None else _host(sample_weight)
    return _finish("loss", loss, lambda: _loss(loss, _host(prediction), _host(target), weight), places, raise_error)


def check_optimizer(
    optimizer: optim.Optimizer, *, places: Sequence[Place] | None = None, raise_error: bool = True
) -> Report:
    """Check an optimizer on a matrix and a vector, five steps, and on a small network; see `check_layer`."""
    return _finish("optimizer", optimizer, lambda: _optimizer(optimizer), places, raise_error)


def _layer(layer: nn.Layer, x: np.ndarray) -> Subject:
    def start() -> tuple[Tree, np.ndarray]:
        """(params, dy)"""
        first = layer.init(random.key(1, "init"))
        if not isinstance(first, tuple) or not all(isinstance(leaf, np.ndarray) for leaf in tree.leaves(first)):
            raise CheckFailedError(f"init gave {first!r}; expected NumPy arrays in a NamedTuple or a tuple")
        moved = [leaf + 0.1 * _draw(leaf.shape) for leaf in tree.leaves(tree.trained(first))]  # a bias of 0 hides much
        params = tree.merge(tree.rebuild(tree.trained(first), moved), first)
        return params, _draw(layer.forward(params, x)[0].shape)

    def promises() -> Iterator[str]:
        params, dy = start()
        fixed, x_fixed, dy_fixed = (_read_only(part) for part in (params, x, dy))
        for key in (None, KEY):
            y, residuals = layer.forward(fixed, x_fixed, key=key)
            dx, grads = layer.backward(fixed, residuals, dy_fixed)
            if not _same(layer.forward(fixed, x_fixed, key=key)[0], y):
                yield "forward gives another y for the same arguments: is there state outside the parameters?"
            if not _same(layer.backward(fixed, residuals, dy_fixed), (dx, grads)):
                yield "backward gives other gradients when it is called again: does it write into its residuals?"
            came, wanted = tree.outline(grads), tree.outline(params)
            if came != wanted:
                yield f"backward: the gradients are {came}; expected what init gives: {wanted}"
            if dx is None and x.dtype.kind == "f":
                yield "backward gives no dx although need_dx is on: nothing below this layer can be trained"
            if not _same(layer.backward(fixed, residuals, dy_fixed, need_dx=False)[1], grads):
                yield "backward gives other gradients with need_dx off"

    def gradients() -> Iterator[tuple[float, str]]:
        params, dy = start()
        trained = tree.trained(params)
        leaves, names = tree.leaves(trained), [name for name, _ in tree.named(trained, "parameters")]
        for key, when in ((None, "in inference"), (KEY, "in training")):
            dx, grads = layer.backward(params, layer.forward(params, x, key=key)[1], dy)

            def value(new: list[np.ndarray], x: np.ndarray, key: Key | None = key) -> float:
                here = tree.merge(tree.rebuild(trained, new), params)
                return float(np.sum(layer.forward(here, x, key=key)[0] * dy))

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
        width = math.prod(start()[1].shape[1:])
        model = nn.Sequential(layer, nn.Flatten(), nn.Linear(width, 3))
        return Trainer(model, nn.CrossEntropyLoss(), optim.SGD(0.01), device=place, dtype=dtype)

    params, dy = start()
    labels = np.arange(x.shape[0], dtype=np.int32) % 3
    name = type(layer).__name__
    return Subject("layer", name, promises, gradients, compute, (params, x, dy), trainer, x, labels)


def _loss(loss: nn.Loss, prediction: np.ndarray, target: np.ndarray, weight: np.ndarray | None) -> Subject:
    inputs = (loss.init(), prediction, target, weight)

    def promises() -> Iterator[str]:
        fixed = _read_only(inputs)
        value, residuals = loss.forward(*fixed)
        slope = loss.backward(fixed[0], residuals)
        if not _same(loss.forward(*fixed)[0], value) or not _same(loss.backward(fixed[0], residuals), slope):
            yield "another loss or gradient for the same arguments: is there state outside of them?"
        if np.shape(value) != () and reduction(loss) != "none":
            yield f"forward: the loss has shape {np.shape(value)}; expected one number, 0-d"
        if weight is not None and np.ptp(weight) > 0 and _same(loss.forward(*fixed[:3])[0], value):
            yield "forward: the loss is the same without sample_weight: is it left out?"
        if slope.shape != prediction.shape:
            yield f"backward: the gradient has shape {slope.shape}; expected the prediction's, {prediction.shape}"

    def gradients() -> Iterator[tuple[float, str]]:
        constants = inputs[0]
        slope = loss.backward(constants, loss.forward(*inputs)[1])

        def value(z: np.ndarray) -> float:
            return float(np.sum(loss.forward(constants, z, target, weight)[0]))

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


def _optimizer(optimizer: optim.Optimizer) -> Subject:
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
        first = run(*_read_only(inputs))
        if not _same(run(*_read_only(inputs)), first):
            yield "update gives other parameters for the same arguments: is there state outside of them?"

    def trainer(place: Place, dtype: str) -> Trainer:
        model = nn.MLP(6, 3, (8,), activation="tanh")
        return Trainer(model, nn.CrossEntropyLoss(), optimizer, device=place, dtype=dtype)

    def compute(inputs: Tree, key: Key) -> Tree:
        return run(*inputs)

    x, labels = _draw((24, 6)), np.arange(24, dtype=np.int32) % 3
    return Subject("optimizer", type(optimizer).__name__, promises, tuple, compute, inputs, trainer, x, labels)


def _finish(
    kind: str, part: Any, make: Callable[[], Subject], places: Sequence[Place] | None, raise_error: bool
) -> Report:
    if isinstance(part, type):
        raise InputError(f"check_{kind}: {part.__name__} is a class; give an instance, {part.__name__}(…)")
    places = [places] if isinstance(places, Place) else places
    if places is not None and not (places and all(isinstance(place, Place) for place in places)):
        raise InputError(
            f"places: {places!r} holds no places; give [xpnn.find_place('cpu', 'torch'), …], or None for all"
        )
    problems: list[str] = []
    found: tuple[PlaceReport, ...] = ()
    gradient, gradient_of, cause = None, "", None
    try:
        subject = make()
        for problem in subject.promises():
            if problem not in problems:
                problems.append(problem)
        gradient, gradient_of = max(subject.gradients(), default=(None, ""))
        found = tuple(at_place(subject, place) for place in (usable_places() if places is None else places))
    except Exception as error:
        cause = error
        problems.append(f"it raised {type(error).__name__}: {error}")
    report = Report(kind, type(part).__name__, gradient, gradient_of, tuple(problems), found)
    if raise_error and not report.ok:
        raise CheckFailedError(f"{report.name}: " + "; ".join(report.failures())) from cause
    return report


def _host(x: Any) -> np.ndarray:
    """On the host; floats in float64."""
    host = np.asarray(to_numpy(x) if is_array(x) else x)
    return host.astype(np.float64) if host.dtype.kind == "f" else host


def _draw(shape: tuple[int, ...], i: int = 0) -> np.ndarray:
    return random.normal(random.key(0, "check").child(i), tuple(shape))


def _read_only(host: Tree) -> Tree:
    def copy(x: np.ndarray) -> np.ndarray:
        fixed = np.array(x)
        fixed.setflags(write=False)
        return fixed

    return tree.map(copy, host)


def _same(one: Tree, other: Tree) -> bool:
    pairs = zip(tree.leaves(one), tree.leaves(other), strict=True)
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)
