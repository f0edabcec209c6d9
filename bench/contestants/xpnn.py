"""xpnn: through Trainer.fit, and its bare steps without the Trainer around them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from bench.networks import Row, Weights
from xpnn import Trainer, nn, optim
from xpnn.arrays.device import current, find_place, place
from xpnn.nn.linear import LinearParams
from xpnn.training.plain import batches_of, download


class Stopwatch:
    """A callback that knows when the first epoch began and the last one ended."""

    def on_train_begin(self, trainer: object) -> None:
        self.began = time.perf_counter()

    def on_train_end(self, trainer: object) -> None:
        self.seconds = time.perf_counter() - self.began

    def __call__(self, trainer: object, logs: object) -> None:
        pass


class Contestant:
    """The ways are "" for Trainer.fit, as a user calls it, and "bare" for the steps that its runner takes."""

    def __init__(self, row: Row, x: np.ndarray, y: np.ndarray, weights: Weights, *, library: str) -> None:
        optimizer = optim.Adam(lr=row.lr) if row.optimizer == "adam" else optim.SGD(lr=row.lr)
        model = nn.MLP(row.sizes[0], row.sizes[-1], row.sizes[1:-1], dropout=row.dropout)
        self.trainer, pairs = Trainer(model, nn.CrossEntropyLoss(), optimizer), iter(weights)
        self.trainer.load(tuple(LinearParams(*next(pairs)) if isinstance(f, nn.Linear) else () for f in model.layers))
        self.where, self.batch = find_place("cpu", library), row.batch
        self.x, self.y = (place(part, self.where, copy=False) for part in (x, y))
        self.ways = {"": self.fit, "bare": self.bare}

    def fit(self, epochs: int) -> float:
        watch = Stopwatch()
        self.trainer.fit(self.x, self.y, epochs=epochs, batch_size=self.batch, callbacks=[watch])
        return watch.seconds

    def bare(self, epochs: int) -> float:
        """The trainer's own runner and state, so that the same compiled step runs; `fit` has been called before."""
        trainer, order = self.trainer, np.random.default_rng(0).permutation(len(self.y)).astype(np.int32)
        data, runner = trainer._enter(self.x, self.y).data, trainer._runner
        with current(self.where):
            (batches,) = batches_of(order, self.batch, self.where)
            start = time.perf_counter()
            for _ in range(epochs):
                for first in range(0, batches.shape[0], runner.chunk):
                    last = min(first + runner.chunk, batches.shape[0])
                    trainer._state = runner.train(trainer.state, data, batches, first, last)
            download(trainer.state.totals)
            return time.perf_counter() - start

    def losses(self, batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]:
        found = []
        for x, y in batches:
            x, y = (place(part, self.where) for part in (x, y))
            history = self.trainer.fit(x, y, batch_size=self.batch, shuffle=False)
            found.append(history.records[-1]["loss"])
        return found
