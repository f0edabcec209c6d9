"""thinc: begin_update, backpropagation and finish_update for each batch.

By default its ops use BLIS for matrix products, on one thread; NumPy's BLAS is an option.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from thinc.api import SGD, Adam, NumpyOps, Relu, Softmax, chain, set_current_ops

from bench.networks import Row, Weights


class Contestant:
    """Gradient clipping, weight decay and moving averages of thinc are off, because the others do not have them."""

    def __init__(self, row: Row, x: np.ndarray, y: np.ndarray, weights: Weights, *, use_blis: bool) -> None:
        set_current_ops(NumpyOps(use_blis=use_blis))
        layers = [Relu(nO=width, dropout=p or None) for width, p in zip(row.sizes[1:-1], row.dropout, strict=True)]
        self.model = chain(*layers, Softmax(nO=row.sizes[-1]))
        self.model.initialize(X=x[:2], Y=np.eye(row.sizes[-1], dtype=np.float32)[:2])
        linears = [node for node in self.model.walk(order="dfs_pre") if node.has_param("W")]
        for node, (weight, bias) in zip(linears, weights, strict=True):
            node.set_param("W", np.ascontiguousarray(weight.T))
            node.set_param("b", bias.copy())
        off = {"L2": 0.0, "grad_clip": 0.0, "use_averages": False}
        self.optimizer = Adam(row.lr, eps=1e-8, **off) if row.optimizer == "adam" else SGD(row.lr, **off)
        self.x, self.y, self.shape = x, y, (row.steps, row.batch)
        self.generator = np.random.default_rng(0)
        self.ways = {"": self.run}

    def step(self, x: np.ndarray, y: np.ndarray) -> tuple[float, int]:
        """Return Σ loss and the number of correct predictions of the batch."""
        guess, backprop = self.model.begin_update(x)
        every = np.arange(len(y))
        loss = -np.log(guess[every, y]).sum()
        right = (guess.argmax(axis=1) == y).sum()
        d = guess.copy()
        d[every, y] -= 1
        d /= len(y)
        backprop(d)
        self.model.finish_update(self.optimizer)
        return loss, right

    def run(self, epochs: int) -> float:
        start = time.perf_counter()
        for _ in range(epochs):
            total, right = 0.0, 0
            for rows in self.generator.permutation(len(self.y)).reshape(self.shape):
                loss, answers = self.step(self.x[rows], self.y[rows])
                total, right = total + loss, right + answers
        return time.perf_counter() - start

    def losses(self, batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]:
        return [float(self.step(x, y)[0]) / len(y) for x, y in batches]
