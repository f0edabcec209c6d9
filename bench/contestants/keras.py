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
            self.model.add(keras.layers.Dense(width, use_bias=row.norm != "batch"))
            if row.norm == "batch":
                self.model.add(keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5))
            if row.norm == "layer":
                self.model.add(keras.layers.LayerNormalization(epsilon=1e-5))
            self.model.add(keras.layers.Activation(row.activation))
            if p:
                self.model.add(keras.layers.Dropout(p))
        self.model.add(keras.layers.Dense(row.sizes[-1]))
        dense = [layer for layer in self.model.layers if isinstance(layer, keras.layers.Dense)]
        for layer, pair in zip(dense, weights, strict=True):
            layer.set_weights(pair if layer.use_bias else pair[:1])
        self._compile(STEPS)
        self.ways = {"": self.run}

    def _compile(self, steps: int) -> None:
        how = {"global_clipnorm": self.row.max_norm or None}
        if self.row.optimizer == "sgd":
            optimizer = keras.optimizers.SGD(self.row.lr, **how)
        else:
            amsgrad = self.row.optimizer == "amsgrad"
            optimizer = keras.optimizers.Adam(self.row.lr, epsilon=1e-8, amsgrad=amsgrad, **how)
        self.model.compile(
            optimizer,
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
