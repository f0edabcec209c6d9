"""xpnn on 60,000 images of 28 × 28 bytes, the size of the MNIST training set, instead of the row's data."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.contestants.xpnn import Stopwatch, trainer_of
from bench.networks import Row, Weights
from xpnn import nn
from xpnn.devices.place import find_place, to_place

IMAGES = 60_000


class Contestant:
    """Trainer.fit; the bytes are scaled when a batch is gathered, and the last batch is smaller."""

    def __init__(
        self, row: Row, x: np.ndarray, y: np.ndarray, weights: Weights, *, library: str, images: int = IMAGES,
        device: str = "cpu", precision: str = "fp32",
    ) -> None:  # fmt: skip
        generator, place = np.random.default_rng(0), find_place(device, library, fallback=False)
        self.x = to_place(generator.integers(0, 256, (images, row.sizes[0]), np.uint8), place)
        self.y = to_place(generator.integers(0, row.sizes[-1], images), place)
        self.trainer, self.batch = trainer_of(row, nn.Scale(1 / 255), precision=precision), row.batch
        self.ways = {"": self.fit}

    def fit(self, epochs: int) -> float:
        watch = Stopwatch()
        self.trainer.fit(self.x, self.y, epochs=epochs, batch_size=self.batch, callbacks=[watch])
        return watch.seconds

    def losses(self, batches: Any) -> list[float]:
        return []  # the same network is checked by the contestant `xpnn`
