"""xpnn: Trainer.fit, and the bare steps without the Trainer."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.networks import Row, Weights
from xpnn import Trainer, nn, optim
from xpnn.devices.place import current, find_place, to_place
from xpnn.nn.layers.linear import LinearParams
from xpnn.training.runners.base import batches_of, download
from xpnn.training.state import empty_totals


class Stopwatch:
    """A callback that measures the time from the start of the first epoch to the end of the last one."""

    def on_train_begin(self, trainer: object) -> None:
        self.began = time.perf_counter()

    def on_train_end(self, trainer: object) -> None:
        self.seconds = time.perf_counter() - self.began

    def __call__(self, trainer: object, logs: object) -> None:
        pass


def trainer_of(row: Row, *first: nn.Layer, precision: str = "fp32") -> Trainer:
    """Return a trainer for the row's network, preceded by the layers `first`."""
    warnings.filterwarnings("error", message=".*not as a CUDA graph")  # eager steps must not count as a graph
    optimizer = optim.Adam(lr=row.lr) if row.optimizer == "adam" else optim.SGD(lr=row.lr)
    layers = nn.MLP(row.sizes[0], row.sizes[-1], row.sizes[1:-1], dropout=row.dropout).layers
    more: dict[str, Any] = {} if precision == "fp32" else {"precision": precision}
    return Trainer(nn.Sequential(*first, *layers), nn.CrossEntropyLoss(), optimizer, **more)


class Contestant:
    """The way "" is Trainer.fit, as a user calls it; "bare" is the steps of its runner."""

    def __init__(
        self, row: Row, x: np.ndarray, y: np.ndarray, weights: Weights, *, library: str, device: str = "cpu",
        precision: str = "fp32",
    ) -> None:  # fmt: skip
        self.trainer, pairs = trainer_of(row, precision=precision), iter(weights)
        model: Any = self.trainer.model
        self.trainer.load(tuple(LinearParams(*next(pairs)) if isinstance(f, nn.Linear) else () for f in model.layers))
        self.place, self.batch = find_place(device, library, fallback=False), row.batch
        self.x, self.y = (to_place(part, self.place, copy=False) for part in (x, y))
        self.ways = {"": self.fit, "bare": self.bare}

    def fit(self, epochs: int) -> float:
        watch = Stopwatch()
        self.trainer.fit(self.x, self.y, epochs=epochs, batch_size=self.batch, callbacks=[watch])
        return watch.seconds

    def bare(self, epochs: int) -> float:
        """Use the runner and the state of the trainer, so that the same compiled step runs."""
        order = np.random.default_rng(0).permutation(len(self.y)).astype(np.int32)
        trainer, data = self.trainer, self.trainer._enter(self.x, self.y).data
        with current(self.place):
            (batches,) = batches_of(order, self.batch, self.place)
            download(trainer.state.totals)  # synchronizes
            start = time.perf_counter()
            for _ in range(epochs):
                for first in range(0, batches.shape[0], trainer._runner.steps_per_call):
                    self._take(data, batches, first, min(first + trainer._runner.steps_per_call, batches.shape[0]))
            download(trainer.state.totals)
            return time.perf_counter() - start

    def losses(self, batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]:
        """Take single steps with the runner of the trainer, on the same buffers, to which a captured graph refers."""
        trainer, data, found = self.trainer, self.trainer._enter(self.x, self.y).data, []
        with current(self.place):
            (rows,) = batches_of(np.arange(len(self.y), dtype=np.int32), self.batch, self.place)
            for i in range(len(batches)):
                trainer._state = trainer._runner.write(trainer.state, totals=empty_totals(trainer.metrics))
                self._take(data, rows, i % rows.shape[0], i % rows.shape[0] + 1)
                totals = download(trainer.state.totals)
                found.append(float(totals.loss / totals.weight))
        return found

    def _take(self, data: Any, batches: Any, first: int, last: int) -> None:
        self.trainer._state = self.trainer._runner.train(self.trainer.state, data, batches, first, last)
