"""The same training once more, by hand and in float64: what the contestants' losses are compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.networks import Row, Weights

TOLERANCE = (
    4e-5  # relative, of each loss: float32 changes up to 1.4e-5 in 20 steps, a rate 1 % too large at least 5.6e-5
)


def losses(
    row: Row, weights: Weights, batches: Sequence[tuple[np.ndarray, np.ndarray]], *, late_eps: bool = True
) -> list[float]:
    """The mean cross-entropy of each batch, before its step; no dropout.

    late_eps: Adam adds eps to the square root of the corrected v, as in Kingma and Ba 2015, algorithm 1; otherwise to
    that of v itself, the form at the end of their section 2.
    """
    params = [leaf.astype(np.float64) for pair in weights for leaf in pair]
    m, v = ([np.zeros_like(leaf) for leaf in params] for _ in range(2))
    found = []
    for t, (x, y) in enumerate(batches, 1):
        loss, grads = _loss_and_grads(params, x.astype(np.float64), y)
        found.append(loss)
        for i, g in enumerate(grads):
            if row.optimizer == "sgd":
                params[i] -= row.lr * g
                continue
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.999 * v[i] + 0.001 * g * g
            correction = np.sqrt(1 - 0.999**t)
            eps = 1e-8 if late_eps else 1e-8 / correction
            params[i] -= row.lr * (m[i] / (1 - 0.9**t)) / (np.sqrt(v[i]) / correction + eps)
    return found


def _loss_and_grads(params: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> tuple[float, list[np.ndarray]]:
    inputs, layers = [x], len(params) // 2
    for i in range(layers):
        z = inputs[-1] @ params[2 * i] + params[2 * i + 1]
        inputs.append(np.maximum(z, 0) if i < layers - 1 else z)
    logits = inputs[-1] - inputs[-1].max(axis=1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    d = (np.exp(log_p) - np.eye(log_p.shape[1])[y]) / len(y)
    grads: list[np.ndarray] = []
    for i in reversed(range(layers)):
        grads[:0] = [inputs[i].T @ d, d.sum(axis=0)]
        d = (d @ params[2 * i].T) * (inputs[i] > 0)
    return -float(np.mean(log_p[np.arange(len(y)), y])), grads


def difference(found: Sequence[float], wanted: Sequence[float]) -> float:
    """The largest relative difference of two lists of losses; infinite where a loss is not finite."""
    if len(found) != len(wanted) or not np.all(np.isfinite(found)):
        return float("inf")
    return float(np.max(np.abs(np.subtract(found, wanted)) / np.abs(wanted)))
