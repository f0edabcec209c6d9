"""Sparse matrices: a first layer that never makes them dense, and the epochs of sgd and adam on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from xpnn import nn
from xpnn.arrays import tree
from xpnn.arrays.namespace import Array
from xpnn.devices.place import find_place, to_numpy
from xpnn.nn.layers.linear import LinearParams
from xpnn.nn.layers.preprocessing import Gathered
from xpnn.sklearn.fitting.solvers import Order, Updates, optimizer_for, penalty_for
from xpnn.training import Data, EvaluationStep, TrainingStep, begin_epoch, epoch_batches, initial_state, read_logs

_ROWS = 1024  # of a batch of an evaluation


@dataclass(frozen=True)
class SparseLinear:
    """y = x @ weight + bias for a sparse matrix x in CSR form; x is never made dense."""

    in_features: int
    out_features: int
    bias: bool = True
    gathers_rows: ClassVar[bool] = True

    def init(self, key: Any) -> LinearParams:
        weight = np.zeros((self.in_features, self.out_features))
        return LinearParams(weight, np.zeros(self.out_features) if self.bias else None)

    def forward(self, params: LinearParams, x: Any, *, key: Any = None) -> tuple[Array, Any]:
        """Return y, and the rows that it was computed from, in the dtype of the weights."""
        rows = x.whole[x.rows] if type(x) is Gathered else x
        rows = rows.astype(params.weight.dtype, copy=False)
        y = rows @ params.weight
        if params.bias is not None:
            y += params.bias
        return y, rows

    def backward(self, params: Any, residuals: Any, dy: Any, *, need_dx: bool = True) -> tuple[None, LinearParams]:
        """Return the gradients xᵀ dy and Σ dy."""
        return None, LinearParams(residuals.T @ dy, None if params.bias is None else dy.sum(axis=0))


class SparseRun:
    """Epochs on a sparse matrix, on the CPU with NumPy; as `TrainerRun`, but with the steps that a trainer makes."""

    def __init__(self, estimator: Any, model: nn.Sequential, loss: nn.Loss, params: Any, dtype: str, seed: int) -> None:
        self._place = find_place("cpu")
        self._step = TrainingStep(model, loss, optimizer_for(estimator), penalty=penalty_for(estimator))
        self._evaluation = EvaluationStep(model, loss)
        self._state = initial_state(self._step, self._place, seed, dtype, params)
        self._epochs = 0

    @property
    def params(self) -> Any:
        return self._state.params

    @property
    def moments(self) -> Any:
        return tree.map(lambda leaf: np.array(to_numpy(leaf)), self._state.optimizer)

    def restore(self, moments: Any) -> None:
        self._state = self._state._replace(optimizer=tree.map(np.array, moments))

    def load(self, params: Any) -> None:
        like = self._state.params
        copied = tree.map(lambda new, old: np.array(new, old.dtype), params, like)
        self._state = self._state._replace(params=copied)

    def go(
        self,
        x: Any,
        y: Any,
        weight: Any,
        epochs: int,
        batch_size: int,
        order: Order,
        updates: Updates,
        after: Callable[[float], bool],
    ) -> None:
        rows, data, step = x.shape[0], Data(x, y, weight), self._step
        for epoch in range(epochs):
            steps = -(-rows // batch_size)
            self._state = begin_epoch(step, self._state, self._epochs, steps, updates.learning_rate)
            for batch in epoch_batches(rows, batch_size, self._place, epoch=epoch, shuffle=order):
                self._state = step(self._state, data, batch)
            self._epochs += 1
            if after(_loss(read_logs(step, self._state))):
                break

    def loss_of(self, x: Any, y: Any, weight: Any) -> float:
        state, data = begin_epoch(self._step, self._state, 0, 1), Data(x, y, weight)
        totals = state.totals
        for batch in epoch_batches(x.shape[0], _ROWS, self._place, shuffle=False):
            totals = self._evaluation(state.params, state.constants, totals, data, batch)
        return _loss(read_logs(self._step, state._replace(totals=totals)))


def _loss(logs: Any) -> float:
    return float(logs["loss"])
