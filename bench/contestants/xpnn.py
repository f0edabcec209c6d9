"""xpnn: through Trainer.fit, and its bare steps without the Trainer around them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.networks import Row, Weights
from xpnn import Trainer, nn, optim
from xpnn.arrays import random, tree
from xpnn.devices.place import current, find_place, to_place
from xpnn.nn.layers.linear import LinearParams
from xpnn.training import Data, TrainingStep
from xpnn.training.engine import Engine
from xpnn.training.runners.base import batches_of


class Stopwatch:
    """A callback that knows when the first epoch began and the last one ended."""

    def on_train_begin(self, trainer: object) -> None:
        self.began = time.perf_counter()

    def __call__(self, trainer: object, logs: object) -> None:
        self.seconds = time.perf_counter() - self.began


def trainer_of(row: Row, *first: nn.Layer, precision: str = "fp32") -> Trainer:
    """The row's network behind these first layers."""
    warnings.filterwarnings("error", message=".*not as a CUDA graph")  # who is measured as a graph has to be one
    adam = row.optimizer != "sgd"
    optimizer: Any = optim.Adam(lr=row.lr, amsgrad=row.optimizer == "amsgrad") if adam else optim.SGD(lr=row.lr)
    if row.max_norm:
        optimizer = optim.ClipGradNorm(optimizer, row.max_norm)
    how: dict[str, Any] = {"dropout": row.dropout, "norm": row.norm or None, "activation": row.activation}
    layers = nn.MLP(row.sizes[0], row.sizes[-1], row.sizes[1:-1], **how).layers
    more: dict[str, Any] = {} if precision == "fp32" else {"precision": precision}
    return Trainer(nn.Sequential(*first, *layers), nn.CrossEntropyLoss(), optimizer, **more)


def _replaced(params: LinearParams, pair: tuple[np.ndarray, np.ndarray]) -> LinearParams:
    return LinearParams(pair[0], None if params.bias is None else pair[1])


class Contestant:
    """The way "" is Trainer.fit, as a user calls it; "bare" is the training steps alone, in a custom loop."""

    def __init__(
        self, row: Row, x: np.ndarray, y: np.ndarray, weights: Weights, *, library: str, device: str = "cpu",
        precision: str = "fp32",
    ) -> None:  # fmt: skip
        self.trainer, pairs = trainer_of(row, precision=precision), iter(weights)
        model: Any = self.trainer.model
        params = model.init(random.key(0, "init"))
        params = tuple(_replaced(p, next(pairs)) if isinstance(p, LinearParams) else p for p in params)
        self.trainer.load(params)
        self.place, self.batch = find_place(device, library, fallback=False), row.batch
        self.x, self.y = (to_place(part, self.place, copy=False) for part in (x, y))
        self.data = Data(self.x, to_place(y.astype(np.int32), self.place))
        loss, optimizer, metrics = self.trainer.loss, self.trainer.optimizer, self.trainer.metrics
        step = TrainingStep(model, loss, optimizer, metrics, carries=tree.trained(params) is not params)
        with current(self.place):
            self.engine = Engine(self.place, "float32", step, self.trainer.state_dict()["state"], precision)
        self.ways = {"": self.fit, "bare": self.bare}

    def fit(self, epochs: int) -> float:
        watch = Stopwatch()
        self.trainer.fit(self.x, self.y, epochs=epochs, batch_size=self.batch, callbacks=[watch])
        return watch.seconds

    def bare(self, epochs: int) -> float:
        """Steps by the runner that a trainer uses, without the trainer."""
        order = np.random.default_rng(0).permutation(self.y.shape[0]).astype(np.int32)
        with current(self.place):
            (batches,) = batches_of(order, self.batch, self.place)
            self.engine.totals()  # synchronizes
            start = time.perf_counter()
            for _ in range(epochs):
                for first in range(0, batches.shape[0], self.engine.runner.steps_per_call):
                    self._take(batches, first, min(first + self.engine.runner.steps_per_call, batches.shape[0]))
            self.engine.totals()
            return time.perf_counter() - start

    def losses(self, batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]:
        """Take single steps, on the same buffers, to which a captured graph refers."""
        found = []
        with current(self.place):
            (rows,) = batches_of(np.arange(self.y.shape[0], dtype=np.int32), self.batch, self.place)
            for i in range(len(batches)):
                self.engine.begin_epoch(0, self.batch, self.batch, 1.0)
                self._take(rows, i % rows.shape[0], i % rows.shape[0] + 1)
                totals = self.engine.totals()
                found.append(float(totals.loss / totals.weight))
        return found

    def _take(self, batches: Any, first: int, last: int) -> None:
        self.engine.state = self.engine.runner.train(self.engine.state, self.data, batches, first, last)
