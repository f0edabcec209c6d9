"""sgd and adam: the optimizers, and what runs the epochs: a `Trainer`, or a plain loop for sparse matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnn import nn, optim
from xpnn.arrays import random, tree
from xpnn.arrays.namespace import Array
from xpnn.devices.place import Place, to_numpy
from xpnn.nn import traits
from xpnn.nn.layers.linear import LinearParams
from xpnn.training import Trainer, value_and_grad

Order = Callable[[int, int], np.ndarray] | bool


def optimizer_for(estimator: Any) -> optim.Optimizer:
    """Return the optimizer; with a learning rate of 1, because `Updates` has scikit-learn's."""
    if estimator.optimizer is not None:
        return estimator.optimizer
    if estimator.solver == "adam":
        return optim.Adam(1.0, (estimator.beta_1, estimator.beta_2), estimator.epsilon, eps_hat=True)
    momentum = float(estimator.momentum)
    nesterov = estimator.nesterovs_momentum and momentum > 0
    return optim.SGD(1.0, momentum, nesterov=nesterov, lr_in_velocity=True)


def penalty_for(estimator: Any) -> nn.L2 | None:
    """Return the penalty of the weights; None without one."""
    return nn.L2(estimator.alpha) if estimator.alpha else None


class Updates:
    """The learning rate over the epochs, and in a pickle the state of the optimizer.

    Attributes
    ----------
    learning_rate : float
        The learning rate of the next epoch; with a custom optimizer, the factor of its own.
    moments : tree of ndarray, or None
        The state of the optimizer, in the pickle of an estimator that has one.
    """

    def __init__(self, estimator: Any) -> None:
        self.first = float(estimator.learning_rate_init) if estimator.optimizer is None else 1.0
        self.learning_rate = self.first
        fixed = estimator.solver == "adam" and estimator.optimizer is None
        self.schedule = "constant" if fixed else estimator.learning_rate
        self.power_t = estimator.power_t
        self.moments: Any = None

    def epoch_ends(self, rows: int) -> None:
        """Update the learning rate after an epoch; rows: all rows so far."""
        if self.schedule == "invscaling":
            self.learning_rate = self.first / (rows + 1) ** self.power_t

    def stops(self, message: str, verbose: Any) -> bool:
        """Return whether training stops for lack of improvement, and print why."""
        stops, what = True, " Stopping."
        if self.schedule == "adaptive" and self.learning_rate <= 1e-6:
            what = " Learning rate too small. Stopping."
        elif self.schedule == "adaptive":
            self.learning_rate /= 5.0
            stops, what = False, f" Setting learning rate to {self.learning_rate:f}"
        if verbose:
            print(message + what)
        return stops


class TrainerRun:
    """Epochs on a `Trainer`, which stays for the next `partial_fit`."""

    def __init__(
        self,
        estimator: Any,
        model: nn.Sequential,
        loss: nn.Loss,
        params: Any,
        place: Place | None,
        dtype: str,
        seed: int,
    ) -> None:
        self.model, self.loss = model, loss
        self.made_of: Any = None  # what the model depends on, so that predictions may use it
        self._trainer = Trainer(
            model,
            loss,
            optimizer_for(estimator),
            seed=seed,
            device=place,
            dtype=dtype,
            metrics=(),
            precision=estimator.precision,
            penalty=penalty_for(estimator),
            params=params,
        )

    def restore(self, moments: Any) -> None:
        """Continue with this state of the optimizer, before the first epoch."""
        saved = self._trainer.state_dict()
        saved["state"] = saved["state"]._replace(optimizer=moments)
        self._trainer.load_state_dict(saved)

    @property
    def params(self) -> Any:
        """The parameters, on the device; training reuses their memory."""
        return self._trainer.state.params

    @property
    def moments(self) -> Any:
        """A copy of the state of the optimizer on the host."""
        return self._trainer.state_dict()["state"].optimizer

    def load(self, params: Any) -> None:
        """Replace the parameters."""
        self._trainer.load(params)

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
        """Train for at most this many epochs; `after` is called with the loss of each, and returns whether to stop."""

        def callback(trainer: Trainer, logs: Any) -> None:
            if after(logs["loss"]):
                trainer.stop()
            trainer.lr_scale = updates.learning_rate

        self._trainer.lr_scale = updates.learning_rate
        self._trainer.fit(
            x,
            y,
            epochs=epochs,
            batch_size=batch_size,
            sample_weight=weight,
            shuffle=order,
            callbacks=[callback],
            terminate_on_nan=False,
        )

    def loss_of(self, x: Any, y: Any, weight: Any) -> float:
        """Return the loss of these rows, without the penalty."""
        return float(self._trainer.evaluate(x, y, sample_weight=weight)["loss"])


@dataclass(frozen=True)
class SparseLinear:
    """y = x @ weight + bias for a sparse matrix x in CSR form; x is never made dense."""

    in_features: int
    out_features: int
    bias: bool = True

    def init(self, key: Any) -> LinearParams:
        weight = np.zeros((self.in_features, self.out_features))
        return LinearParams(weight, np.zeros(self.out_features) if self.bias else None)

    def forward(self, params: LinearParams, x: Any, *, key: Any = None) -> tuple[Array, Any]:
        y = x @ params.weight
        if params.bias is not None:
            y += params.bias
        return y, x

    def backward(self, params: Any, residuals: Any, dy: Any, *, need_dx: bool = True) -> tuple[None, LinearParams]:
        """Return the gradients xᵀ dy and Σ dy."""
        return None, LinearParams(residuals.T @ dy, None if params.bias is None else dy.sum(axis=0))


class SparseRun:
    """Epochs on a sparse matrix, on the CPU with NumPy; as `TrainerRun`."""

    def __init__(self, estimator: Any, model: nn.Sequential, loss: nn.Loss, params: Any, dtype: str, seed: int) -> None:
        penalty = penalty_for(estimator)
        self.model, self.loss, self._optimizer = model, loss, optimizer_for(estimator)
        self._slope, self._value = value_and_grad(model, loss, penalty), value_and_grad(model, loss)
        self.params: Any = None
        self._dtype = np.dtype(dtype)
        self.load(params)
        self._state = self._optimizer.init(tree.trained(self.params))
        self._key, self._steps = random.key(seed, "dropout"), 0

    def restore(self, moments: Any) -> None:
        self._state = tree.map(np.array, moments)

    @property
    def moments(self) -> Any:
        return tree.map(lambda leaf: np.array(to_numpy(leaf)), self._state)

    def load(self, params: Any) -> None:
        self.params = tree.map(lambda leaf: np.array(leaf, self._dtype), params)

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
        rows, by_rows = x.shape[0], traits.averages_by_rows(self.loss)
        for epoch in range(epochs):
            lr: Any = np.asarray(updates.learning_rate * _rate(self._optimizer), self._dtype)
            total = counted = 0.0
            indices = order(epoch, rows) if callable(order) else None
            for first in range(0, rows, batch_size):
                last = min(first + batch_size, rows)
                batch = slice(first, last) if indices is None else indices[first:last]
                w = None if weight is None else weight[batch]
                key = random.Key(self._key.words, np.asarray([self._steps], np.uint32))
                value, grads = self._slope(self.params, x[batch], y[batch], w, key=key)
                trained = tree.trained(self.params)
                new, self._state = self._optimizer.update(trained, tree.trained(grads), self._state, lr, donate=True)
                self.params = tree.merge(new, grads)
                count = last - first if w is None or by_rows else float(w.sum())
                total, counted, self._steps = total + float(value) * count, counted + count, self._steps + 1
            if after(total / counted):
                break

    def loss_of(self, x: Any, y: Any, weight: Any) -> float:
        return float(self._value(self.params, x, y, weight)[0])


def _rate(optimizer: optim.Optimizer) -> float:
    lr: Any = optimizer.lr
    if callable(lr):
        raise ValueError("A schedule as the learning rate of `optimizer` needs dense data.")
    return lr
