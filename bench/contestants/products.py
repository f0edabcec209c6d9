"""Only the matrix products: x @ W forward, x.T @ dy and dy @ W.T backward, into preallocated buffers."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from bench.networks import Row, Weights


class Contestant:
    """A lower bound for every step on NumPy. The first layer does not need dy @ W.T."""

    def __init__(self, row: Row, x: np.ndarray, y: np.ndarray, weights: Weights) -> None:
        generator = np.random.default_rng(0)

        def fresh(*shape: int) -> np.ndarray:
            return generator.random(shape, dtype=np.float32)

        self.steps = row.steps
        self.products: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for i, (weight, _) in enumerate(weights):
            here, dy = fresh(row.batch, weight.shape[0]), fresh(row.batch, weight.shape[1])
            self.products.append((here, weight, np.empty_like(dy)))
            self.products.append((here.T, dy, np.empty_like(weight)))
            if i:
                self.products.append((dy, weight.T, np.empty_like(here)))
        self.ways = {"": self.run}

    def run(self, epochs: int) -> float:
        start = time.perf_counter()
        for _ in range(epochs * self.steps):
            for a, b, out in self.products:
                np.matmul(a, b, out=out)
        return time.perf_counter() - start

    def losses(self, batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]:
        return []  # nothing is trained
