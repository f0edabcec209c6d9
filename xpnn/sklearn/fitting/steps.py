"""Epochs of training steps for what a `Trainer` does not take: sparse matrices, and weights below 0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.sparse

from xpnn import nn
from xpnn.arrays import tree
from xpnn.arrays.namespace import Array
from xpnn.devices.place import Place, to_numpy, to_place
from xpnn.nn.layers.linear import LinearParams
from xpnn.nn.layers.preprocessing import Gathered
from xpnn.sklearn.entrance import dtype_name
from xpnn.sklearn.fitting.solvers import Order, Progress, Updates, penalty_for
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
        rows: Any = x.whole[x.rows] if type(x) is Gathered else x
        rows = rows.astype(params.weight.dtype, copy=False)
        y = rows @ params.weight
        if params.bias is not None:
            y += params.bias
        return y, rows

    def backward(self, params: Any, residuals: Any, dy: Any, *, need_dx: bool = True) -> tuple[None, LinearParams]:
        """Return the gradients xᵀ dy and Σ dy."""
        return None, LinearParams(residuals.T @ dy, None if params.bias is None else dy.sum(axis=0))


class StepRun:
    """As `TrainerRun`, with the same steps: on a sparse matrix, on the CPU with NumPy, or with any weights of rows."""

    def __init__(
        self,
        estimator: Any,
        model: nn.Sequential,
        loss: nn.Loss,
        updates: Updates,
        params: Any,
        place: Place,
        dtype: str,
    ) -> None:
        self._place = place
        self._step = TrainingStep(model, loss, updates.optimizer, penalty=penalty_for(estimator))
        self._evaluation = EvaluationStep(model, loss)
        state = self._state = initial_state(self._step, self._place, updates.seed or 0, dtype, params)
        self._dtype, self._epochs = dtype, 0
        if updates.progress is not None:
            moments, self._epochs, steps = updates.progress
            news = moments, np.asarray([steps], np.uint32)
            moments, step = self._copied(news, (state.optimizer, state.step))
            self._state = state._replace(optimizer=moments, step=step)

    @property
    def params(self) -> Any:
        return self._state.params

    @property
    def progress(self) -> Progress:
        moments = tree.map(lambda leaf: np.array(to_numpy(leaf)), self._state.optimizer)
        return Progress(moments, self._epochs, int(to_numpy(self._state.step)[0]))

    def load(self, params: Any) -> None:
        self._state = self._state._replace(params=self._copied(params, self._state.params))

    def _copied(self, values: Any, like: Any) -> Any:
        """Return copies of the values at the place, in the dtypes of others."""
        return tree.map(lambda new, old: to_place(new, self._place, dtype=dtype_name(old)), values, like)

    def _data(self, x: Any, y: Any, weight: Any) -> Data:
        def there(part: Any) -> Any:
            floats = dtype_name(part).startswith("float")
            return to_place(part, self._place, dtype=self._dtype if floats else None, copy=False)

        return Data(x if scipy.sparse.issparse(x) else there(x), there(y), None if weight is None else there(weight))

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
        rows, data, step = x.shape[0], self._data(x, y, weight), self._step
        for epoch in range(epochs):
            steps = -(-rows // batch_size)
            with self._place.lib.compute_scope():
                self._state = begin_epoch(step, self._state, self._epochs, steps, updates.learning_rate)
                for batch in epoch_batches(rows, batch_size, self._place, epoch=epoch, shuffle=order):
                    self._state = step(self._state, data, batch)
            self._epochs += 1
            if after(_loss(read_logs(step, self._state))):
                break

    def loss_of(self, x: Any, y: Any, weight: Any) -> float:
        state, data = begin_epoch(self._step, self._state, 0, 1), self._data(x, y, weight)
        totals = state.totals
        with self._place.lib.compute_scope():
            for batch in epoch_batches(x.shape[0], _ROWS, self._place, shuffle=False):
                totals = self._evaluation(state.params, state.constants, totals, data, batch)
        return _loss(read_logs(self._step, state._replace(totals=totals)))


def _loss(logs: Any) -> float:
    return float(logs["loss"])
