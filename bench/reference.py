"""A reference implementation of the training in float64, with which the losses of the contestants are compared.

It runs on NumPy, or on a GPU with another library for networks that would take NumPy minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.networks import Row, Weights
from xpnn.arrays.namespace import Array, namespace
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

    params = [put(leaf) for pair in weights for leaf in pair]
    m, v = ([xp.zeros_like(leaf) for leaf in params] for _ in range(2))
    found = []
    for t, (x, y) in enumerate(batches, 1):
        loss, grads = _loss_and_grads(xp, params, put(x), put(np.eye(row.sizes[-1])[y]))
        found.append(loss)
        for i, g in enumerate(grads):
            if row.optimizer == "sgd":
                params[i] -= row.lr * g
                continue
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.999 * v[i] + 0.001 * g * g
            correction = np.sqrt(1 - 0.999**t)
            eps = 1e-8 if late_eps else 1e-8 / correction
            params[i] -= row.lr * (m[i] / (1 - 0.9**t)) / (xp.sqrt(v[i]) / correction + eps)
    return [float(to_numpy(loss)) for loss in found]


def _loss_and_grads(xp: Any, params: list[Array], x: Array, wanted: Array) -> tuple[Array, list[Array]]:
    """wanted: one-hot labels."""
    inputs, layers = [x], len(params) // 2
    for i in range(layers):
        z = inputs[-1] @ params[2 * i] + params[2 * i + 1]
        inputs.append(xp.where(z > 0, z, xp.zeros_like(z)) if i < layers - 1 else z)
    logits = inputs[-1] - xp.max(inputs[-1], axis=1, keepdims=True)
    log_p = logits - xp.log(xp.sum(xp.exp(logits), axis=1, keepdims=True))
    d = (xp.exp(log_p) - wanted) / x.shape[0]
    grads: list[Array] = []
    for i in reversed(range(layers)):
        grads[:0] = [inputs[i].T @ d, xp.sum(d, axis=0)]
        if i:
            d = xp.where(inputs[i] > 0, d @ params[2 * i].T, xp.zeros_like(inputs[i]))
    return -xp.sum(log_p * wanted) / x.shape[0], grads


def difference(found: Sequence[float], wanted: Sequence[float]) -> float:
    """Return the largest relative difference of two lists of losses; infinity if a loss is not finite."""
    if len(found) != len(wanted) or not np.all(np.isfinite(found)):
        return float("inf")
    return float(np.max(np.abs(np.subtract(found, wanted)) / np.abs(wanted)))
