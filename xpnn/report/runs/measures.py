"""Figures that a report computes: calibration, the most confident errors, and statistics of each layer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from xpnn.arrays import tree
from xpnn.arrays.dispatch import reference_only
from xpnn.data.tables.schema import Schema
from xpnn.experiments.saved_run import Samples, SavedRun

BINS = 10
_ROWS = 256  # of which the statistics of the layers are computed
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Bin(NamedTuple):
    """The predictions whose confidence is between `low` and `high`."""

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float


def calibration(probabilities: np.ndarray, labels: np.ndarray) -> tuple[list[Bin], float]:
    """Compare how confident predictions are with how often they are right.

    Parameters
    ----------
    probabilities : ndarray of shape (rows, classes)
        Each row adds up to 1.
    labels : ndarray of shape (rows,)
        Class indices.

    Returns
    -------
    bins : list of Bin
        Ten bins of equal width; empty ones are left out.
    error : float
        The expected calibration error: the mean of |confidence − accuracy| over the bins, weighted by their counts.

    References
    ----------
    Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017.

    Examples
    --------
    >>> import numpy as np
    >>> bins, error = calibration(np.array([[0.75, 0.25], [0.75, 0.25]]), np.array([0, 1]))
    >>> bins
    [Bin(low=0.7, high=0.8, rows=2, confidence=0.75, accuracy=0.5)]
    >>> error
    0.25
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    places = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    found, error = [], 0.0
    for i in range(BINS):
        inside = places == i
        if count := int(inside.sum()):
            mean, accuracy = float(confidence[inside].mean()), float(right[inside].mean())
            found.append(Bin(i / BINS, (i + 1) / BINS, count, mean, accuracy))
            error += abs(mean - accuracy) * count / len(labels)
    return found, error


def confidently_wrong(scores: np.ndarray, labels: np.ndarray, n: int) -> np.ndarray:
    """Return the rows with wrong predictions, the highest score first, at most n.

    Examples
    --------
    >>> import numpy as np
    >>> confidently_wrong(np.array([[0.6, 0.4], [0.1, 0.9], [0.2, 0.8]]), np.array([1, 0, 1]), 5)
    array([1, 0])
    """
    wrong = np.flatnonzero(scores.argmax(axis=1) != labels)
    return wrong[np.argsort(-scores[wrong].max(axis=1), kind="stable")[:n]]


def confusions(matrix: np.ndarray, n: int) -> list[tuple[int, int, int]]:
    """Return the most frequent confusions as (true class, predicted class, count).

    Examples
    --------
    >>> import numpy as np
    >>> confusions(np.array([[5, 2], [3, 4]]), 1)
    [(1, 0, 3)]
    """
    off = matrix.copy()
    np.fill_diagonal(off, 0)
    order = np.argsort(-off, axis=None, kind="stable")[:n]
    places = [divmod(int(i), off.shape[1]) for i in order]
    return [(i, j, int(off[i, j])) for i, j in places if off[i, j]]


@dataclass(frozen=True, eq=False)
class LayerFigures:
    """Statistics of one layer after the training.

    Parameters
    ----------
    name : str
        Its class.
    configuration : str
        Its class and the fields that differ from their defaults.
    shape : tuple of int
        The shape of its output for one row.
    mean, std : float
        Of its output.
    quantiles : tuple of float
        Of its output, at `QUANTILES`.
    zeros : float
        Share of its output that is 0.
    dead : float
        Share of its units that are 0 in all rows.
    gradient : float or None
        The root mean square of the gradient of the loss by its output; None if it was not computed.
    parameters : tuple of tuple
        (name, count, root mean square of the parameter, of its gradient) for each parameter that is trained.
    """

    name: str
    configuration: str
    shape: tuple[int, ...]
    mean: float
    std: float
    quantiles: tuple[float, ...]
    zeros: float
    dead: float
    gradient: float | None
    parameters: tuple[tuple[str, int, float, float | None], ...]


def layer_figures(saved: SavedRun, samples: Samples) -> list[LayerFigures]:
    """Run the network forward and backward on some rows, and describe each layer.

    Parameters
    ----------
    saved : SavedRun
        The network.
    samples : Samples
        Rows; of many, 256 are taken, spread evenly.

    Returns
    -------
    list of LayerFigures
        In the order of the layers. Nothing is random: dropout passes all values.

    Notes
    -----
    The gradient of a parameter is that of the mean loss over the rows.
    """
    count = len(samples.labels)
    rows = np.arange(min(count, _ROWS)) * count // min(count, _ROWS)
    layers, loss = saved.model.layers, saved.goal.loss(saved.settings)
    params = tree.map(lambda leaf: np.asarray(leaf, np.float64), saved.params)
    target = saved.goal.to_loss(saved.settings, np.asarray(samples.labels)[rows])
    outputs: list[Any] = [np.asarray(samples.x[rows], np.float64)]
    residuals, grads, slopes = [], [None] * len(layers), [None] * len(layers)
    with reference_only(), np.errstate(all="ignore"):
        for layer, branch in zip(layers, params, strict=True):
            y, kept = layer.forward(branch, outputs[-1])
            outputs.append(y)
            residuals.append(kept)
        constants = loss.init()
        _, kept = loss.forward(constants, outputs[-1], target)
        dy: Any = loss.backward(constants, kept)
        for i in reversed(range(len(layers))):
            slopes[i] = dy
            dy, grads[i] = layers[i].backward(params[i], residuals[i], dy)
            if dy is None:  # the layers before it have nothing to train
                break
        return [
            _figures(layer, branch, outputs[i + 1], slopes[i], grads[i])
            for i, (layer, branch) in enumerate(zip(layers, params, strict=True))
        ]


def _figures(layer: Any, params: Any, y: np.ndarray, dy: np.ndarray | None, grads: Any) -> LayerFigures:
    flat = y.reshape(len(y), -1)
    trained = dict(tree.named(tree.trained(params)))
    slopes = {} if grads is None else dict(tree.named(tree.trained(grads)))
    return LayerFigures(
        type(layer).__name__,
        _configuration(layer),
        tuple(y.shape[1:]),
        float(flat.mean()),
        float(flat.std()),
        tuple(np.quantile(flat, QUANTILES).tolist()),
        float((flat == 0).mean()),
        float((flat == 0).all(axis=0).mean()),
        None if dy is None else _root_mean_square(dy),
        tuple(
            (
                name,
                np.size(np.asarray(leaf)),
                _root_mean_square(leaf),
                _root_mean_square(slopes[name]) if name in slopes else None,
            )
            for name, leaf in trained.items()
        ),
    )


def _configuration(layer: Any) -> str:
    """The layer with the fields that differ from their defaults, without how its weights were drawn."""
    fields: Any = dataclasses.fields(layer) if dataclasses.is_dataclass(layer) else ()
    values = [(field, getattr(layer, field.name)) for field in fields if not field.name.endswith("_init")]
    changed = [(field, value) for field, value in values if field.repr and value != field.default]
    shown = [
        repr(value) if field.default is dataclasses.MISSING else f"{field.name}={value!r}" for field, value in changed
    ]
    text = f"{type(layer).__name__}({', '.join(shown)})"
    return text if len(text) <= 80 else type(layer).__name__


def _root_mean_square(x: Any) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(x))))) if np.size(x) else 0.0


def cells(schema: Schema, row: np.ndarray) -> list[tuple[str, str]]:
    """Return (column, value) for each column of an encoded row of a table, as text.

    Examples
    --------
    >>> from xpnn.data.tables.column import Column
    >>> schema = Schema((Column("size", "number"), Column("place", "category", ("east", "west"))))
    >>> cells(schema, np.array([1.5, 0.0, 1.0]))
    [('size', '1.5'), ('place', 'west')]
    """
    found, first = [], 0
    for column in schema.columns:
        part = np.asarray(row[first : first + len(column.outputs)], np.float64)
        first += len(column.outputs)
        if column.indicator and part[-1]:
            text = "missing"
        elif column.kind == "category" and column.embedding:
            code = round(float(part[0])) - 1
            text = column.levels[code] if 0 <= code < len(column.levels) else "another"
        elif column.kind == "category":
            levels = part[: len(column.levels)]
            text = column.levels[int(levels.argmax())] if levels.any() else "another"
        elif column.kind == "date":
            text = str(np.datetime64(int(part[0]), "D"))
        elif column.kind == "boolean":
            text = "true" if part[0] else "false"
        else:
            text = f"{part[0]:.6g}"
        found.append((column.name, text))
    return found
