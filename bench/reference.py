"""A reference implementation of the training in float64, with which the losses of the contestants are compared.

It runs on NumPy, or on a GPU with another library for networks that would take NumPy minutes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.networks import Row, Weights
from xpnn.arrays.namespace import Array, namespace
from xpnn.arrays.special import erfc
from xpnn.devices.place import Place, to_numpy, to_place

TOLERANCE = (
    4e-5  # relative, per loss: float32 changes it by up to 1.4e-5 in 20 steps, a rate 1 % too large by at least 5.6e-5
)
#: By the precision of the products. With factors rounded accordingly on NumPy, tf32 changed a loss by up to 1e-4, and
#: bf16 by up to 1.2e-3 (with rounded results, too). A rate 1 % too large is detected in fp32 only; the other tolerances
#: detect a contestant that trains an entirely different network.
TOLERANCES = {"fp32": TOLERANCE, "tf32": 5e-4, "bf16": 5e-3}


def losses(
    row: Row,
    weights: Weights,
    batches: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    late_eps: bool = True,
    place: Place | None = None,
) -> list[float]:
    """Return the mean cross-entropy of each batch before its step, without dropout, computed at `place` or by NumPy.

    late_eps: Adam adds eps to the square root of the corrected v, as in Kingma and Ba 2015, algorithm 1; otherwise to
    the square root of v, the form at the end of their section 2.
    """
    xp = place.xp if place else namespace("numpy")

    def put(host: np.ndarray) -> Array:
        wide: Any = np.float64(host)
        return to_place(wide, place) if place else wide

    params = [put(leaf) for pair in _with_norms(row, weights) for leaf in pair]
    m, v, largest = ([xp.zeros_like(leaf) for leaf in params] for _ in range(3))
    found = []
    for t, (x, y) in enumerate(batches, 1):
        loss, grads = _loss_and_grads(xp, row, params, put(x), put(np.eye(row.sizes[-1])[y]))
        found.append(loss)
        norm = xp.sqrt(sum(xp.sum(g * g) for g in grads))
        for i, g in enumerate(grads):
            if row.max_norm and norm > row.max_norm:
                g = g * (row.max_norm / norm)
            if row.optimizer == "sgd":
                params[i] -= row.lr * g
                continue
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.999 * v[i] + 0.001 * g * g
            largest[i] = xp.maximum(largest[i], v[i]) if row.optimizer == "amsgrad" else v[i]
            correction = np.sqrt(1 - 0.999**t)
            eps = 1e-8 if late_eps else 1e-8 / correction
            params[i] -= row.lr * (m[i] / (1 - 0.9**t)) / (xp.sqrt(largest[i]) / correction + eps)
    return [float(to_numpy(loss)) for loss in found]


def _with_norms(row: Row, weights: Weights) -> list[tuple[np.ndarray, ...]]:
    """The parameters of each layer: weight, bias, and those of its norm, if it has one."""
    first: list[tuple[np.ndarray, ...]] = list(weights[:-1])
    if row.norm:
        first = [(*pair, np.ones(pair[1].shape), np.zeros(pair[1].shape)) for pair in first]
    return [*first, weights[-1]]


def _loss_and_grads(xp: Any, row: Row, params: list[Array], x: Array, wanted: Array) -> tuple[Array, list[Array]]:
    """wanted: one-hot labels. Before BatchNorm, the bias has no gradient."""
    each, axis = 4 if row.norm else 2, 0 if row.norm == "batch" else 1
    layers = [params[i : i + each] for i in range(0, len(params), each)]
    inputs, kept = [x], []
    for weight, bias, *norm in layers[:-1]:
        z = inputs[-1] @ weight + bias
        xhat = scale = None
        if norm:
            centred = z - xp.mean(z, axis=axis, keepdims=True)
            scale = 1 / xp.sqrt(xp.mean(centred * centred, axis=axis, keepdims=True) + 1e-5)
            xhat = centred * scale
            z = xhat * norm[0] + norm[1]
        value, slope = _activated(xp, row, z)
        inputs.append(value)
        kept.append((slope, xhat, scale))
    logits = inputs[-1] @ layers[-1][0] + layers[-1][1]
    logits = logits - xp.max(logits, axis=1, keepdims=True)
    log_p = logits - xp.log(xp.sum(xp.exp(logits), axis=1, keepdims=True))
    d = (xp.exp(log_p) - wanted) / x.shape[0]
    grads = [inputs[-1].T @ d, xp.sum(d, axis=0)]
    for i in reversed(range(len(layers) - 1)):
        slope, xhat, scale = kept[i]
        d = (d @ layers[i + 1][0].T) * slope
        of_norm: list[Array] = []
        if row.norm:
            of_norm = [xp.sum(d * xhat, axis=0), xp.sum(d, axis=0)]
            g = d * layers[i][2]
            along = xp.mean(g * xhat, axis=axis, keepdims=True)
            d = scale * (g - xp.mean(g, axis=axis, keepdims=True) - xhat * along)
        dbias = xp.sum(d, axis=0)
        grads[:0] = [inputs[i].T @ d, dbias * 0 if row.norm == "batch" else dbias, *of_norm]
    return -xp.sum(log_p * wanted) / x.shape[0], grads


def _activated(xp: Any, row: Row, z: Array) -> tuple[Array, Array]:
    """The activation and its derivative."""
    if row.activation == "relu":
        above = xp.astype(z > 0, z.dtype)
        return z * above, above
    phi = 0.5 * erfc(xp, -z / math.sqrt(2))
    return z * phi, phi + z * xp.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def difference(found: Sequence[float], wanted: Sequence[float]) -> float:
    """Return the largest relative difference of two lists of losses; infinity if a loss is not finite."""
    if len(found) != len(wanted) or not np.all(np.isfinite(found)):
        return float("inf")
    return float(np.max(np.abs(np.subtract(found, wanted)) / np.abs(wanted)))
