"""Keras on JAX: Model.fit on arrays, its fastest standard method, with several steps per execution."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from bench.networks import Row, Weights

STEPS = 16  # per execution: fewer calls from Python, and (almost) divides the epochs of all rows


class Stopwatch(keras.callbacks.Callback):
    """Measures the time from the start of the first epoch to the end of the last one."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.began = time.perf_counter()

    def on_train_end(self, logs: Any = None) -> None:
        self.seconds = time.perf_counter() - self.began


class Contestant:
    """jit_compile is left at "auto", which compiles on this backend."""

    def __init__(self, row: Row, x: np.ndarray, y: np.ndarray, weights: Weights) -> None:
        self.row, self.x, self.y = row, x, y
        self.model = keras.Sequential([keras.Input((row.sizes[0],))])
        for width, p in zip(row.sizes[1:-1], row.dropout, strict=True):
            self.model.add(keras.layers.Dense(width, activation="relu"))
            if p:
                self.model.add(keras.layers.Dropout(p))
        self.model.add(keras.layers.Dense(row.sizes[-1]))
        self.model.set_weights([part for pair in weights for part in pair])
        self._compile(STEPS)
        self.ways = {"": self.run}

    def _compile(self, steps: int) -> None:
        adam = self.row.optimizer == "adam"
        self.model.compile(
            keras.optimizers.Adam(self.row.lr, epsilon=1e-8) if adam else keras.optimizers.SGD(self.row.lr),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            steps_per_execution=steps,
        )

    def run(self, epochs: int) -> float:
        watch = Stopwatch()
        self.model.fit(self.x, self.y, batch_size=self.row.batch, epochs=epochs, verbose=0, callbacks=[watch])
        return watch.seconds

    def losses(self, batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]:
        self._compile(1)
        fits = (self.model.fit(x, y, batch_size=len(y), shuffle=False, verbose=0) for x, y in batches)
        return [fit.history["loss"][0] for fit in fits]
