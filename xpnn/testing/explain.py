"""One training step in parts: what each layer computes, forward and backward, and whether its gradients are right."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from xpnn import nn
from xpnn.arrays import random, tree
from xpnn.arrays.dispatch import reference_only
from xpnn.arrays.tree import Tree
from xpnn.testing.deviation_measures import differences
from xpnn.testing.report import GRADIENT
from xpnn.testing.sources import Source, configuration_of, formula_of, source_of

ENTRIES = 200  # of each array that are compared with finite differences


class Gradient(NamedTuple):
    """A gradient from `backward`, and finite differences to compare it with.

    name : str, "dx", "dweight", …
    value : ndarray, from `backward`
    entries : ndarray, positions in ``value.ravel()``
    differences : ndarray, the finite differences at these entries
    error : float, the largest difference of the two, relative to the largest finite difference and at least 1
    """

    name: str
    value: np.ndarray
    entries: np.ndarray
    differences: np.ndarray
    error: float

    @property
    def ok(self) -> bool:
        """Whether the error is within the tolerance of `xpnn check`."""
        return bool(self.error <= GRADIENT)


@dataclass(frozen=True, eq=False)
class Step:
    """What one layer, or the loss, does in a training step.

    Parameters
    ----------
    number : int
        Its position, counted from 1; the loss is the last.
    name : str
        Its class.
    configuration : str
        Its class and the fields that differ from their defaults, as "Linear(in_features=64, out_features=16)".
    forward_formula, backward_formula : str
        From its docstrings.
    forward_source, backward_source : Source
        The source code that ran.
    arrays : dict of str to ndarray
        "x", the parameters by name, "y" and "dy"; of the loss "prediction", "target" and "loss".
    gradients : tuple of Gradient
        "dx" and those of the parameters.
    """

    number: int
    name: str
    configuration: str
    forward_formula: str
    backward_formula: str
    forward_source: Source
    backward_source: Source
    arrays: dict[str, np.ndarray]
    gradients: tuple[Gradient, ...]


@dataclass(frozen=True, eq=False)
class Explanation:
    """One training step: see `explain`.

    Parameters
    ----------
    steps : tuple of Step
        The layers, first to last, and then the loss.
    loss : float
        Before the update.
    loss_after : float
        After the update ``parameter - lr * gradient``.
    lr : float
        The learning rate of the update.
    """

    steps: tuple[Step, ...]
    loss: float
    loss_after: float
    lr: float

    @property
    def ok(self) -> bool:
        """Whether all gradients agree with finite differences."""
        return all(gradient.ok for step in self.steps for gradient in step.gradients)


def explain(
    model: nn.Sequential, loss: nn.Loss, x: np.ndarray, target: np.ndarray, *, seed: int = 0, lr: float = 0.1
) -> Explanation:
    """Run one training step in NumPy's float64, layer by layer, and keep every array.

    The reference code runs, without kernels: the lines that `Step.forward_source` and `Step.backward_source` name.
    Every gradient is compared with finite differences of the loss.

    Parameters
    ----------
    model : nn.Sequential
        The network, with its initial parameters.
    loss : nn.Loss
        The loss.
    x : ndarray, (batch, …)
        A few samples.
    target : ndarray
        As the loss expects it.
    seed : int
        Decides the initial parameters and dropout.
    lr : float
        The learning rate of the update.

    Returns
    -------
    Explanation

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> from xpnn.testing.explain import explain
    >>> model = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    >>> explanation = explain(model, nn.CrossEntropyLoss(), np.ones((4, 3)), np.array([0, 1, 0, 1]))
    >>> [(step.name, step.arrays["y"].shape) for step in explanation.steps[:-1]]
    [('Linear', (4, 2)), ('Tanh', (4, 2))]
    >>> explanation.steps[0].forward_formula, explanation.ok
    ('y = x @ weight + bias', True)
    """
    with reference_only():
        return _explain(model, loss, np.asarray(x, dtype=np.float64), np.asarray(target), seed, lr)


def _explain(
    model: nn.Sequential, loss: nn.Loss, x: np.ndarray, target: np.ndarray, seed: int, lr: float
) -> Explanation:
    layers, constants = model.layers, loss.init()
    params, key = model.init(random.key(seed, "init")), random.key(seed, "dropout")

    def loss_from(first: int, params: tuple[Tree, ...], x: Any) -> float:
        """The loss, for the input `x` of the layer number `first`."""
        for i in range(first, len(layers)):
            x = layers[i].forward(params[i], x, key=key.child(i))[0]
        return float(loss.forward(constants, x, target)[0])

    inputs: list[Any] = [x]
    residuals = []
    for i, layer in enumerate(layers):
        y, kept = layer.forward(params[i], inputs[i], key=key.child(i))
        inputs.append(y)
        residuals.append(kept)
    value, kept = loss.forward(constants, inputs[-1], target)
    dy: Any = loss.backward(constants, kept)
    last = len(layers)
    dprediction = _compare("dprediction", dy, partial(loss_from, last, params), inputs[-1])
    arrays = {"prediction": inputs[-1], "target": target, "loss": np.asarray(value)}
    steps = [_step(last, loss, arrays, (dprediction,))]
    new_params = list(params)
    for i in reversed(range(last)):
        dx, grads = layers[i].backward(params[i], residuals[i], dy)
        gradients = []
        if dx is not None:
            gradients.append(_compare("dx", dx, partial(loss_from, i, params), inputs[i]))
        trained, dtrained = tree.trained(params[i]), tree.trained(grads)
        old, new = tree.leaves(trained), tree.leaves(dtrained)
        for j, (name, _) in enumerate(tree.named(trained)):

            def at(leaf: np.ndarray, i: int = i, j: int = j, old: list[Any] = old, trained: Tree = trained) -> float:
                moved = tree.merge(tree.rebuild(trained, [*old[:j], leaf, *old[j + 1 :]]), params[i])
                return loss_from(i, (*params[:i], moved, *params[i + 1 :]), inputs[i])

            gradients.append(_compare(f"d{name}", new[j], at, old[j]))
        arrays = {"x": inputs[i], **_named(params[i]), "y": inputs[i + 1], "dy": dy}
        steps.append(_step(i, layers[i], arrays, tuple(gradients)))
        updated = tree.rebuild(trained, [w - lr * dw for w, dw in zip(old, new, strict=True)])
        new_params[i] = tree.merge(updated, params[i])
        dy = dx
    return Explanation(tuple(reversed(steps)), float(value), loss_from(0, tuple(new_params), x), lr)


def _named(params: Tree) -> dict[str, np.ndarray]:
    return {name: np.asarray(leaf) for name, leaf in tree.named(params)}


def _compare(name: str, value: Any, f: Callable[[np.ndarray], float], x: Any) -> Gradient:
    value = np.asarray(value)
    entries, slopes = differences(f, x, ENTRIES)
    scale = max(1.0, float(np.max(np.abs(slopes), initial=0.0)))
    return Gradient(
        name, value, entries, slopes, float(np.max(np.abs(value.ravel()[entries] - slopes), initial=0.0)) / scale
    )


def _step(i: int, part: Any, arrays: dict[str, np.ndarray], gradients: tuple[Gradient, ...]) -> Step:
    kind = type(part)
    return Step(
        i + 1,
        kind.__name__,
        configuration_of(part),
        formula_of(inspect.getdoc(kind) or ""),
        formula_of(inspect.getdoc(kind.backward) or ""),
        source_of(kind.forward, 0),
        source_of(kind.backward, 1),
        arrays,
        gradients,
    )
