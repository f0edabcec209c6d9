"""scikit-learn: MLPClassifier.fit with its own loop over batches, in float32 like the data; no dropout."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from bench.networks import Row, Weights


class Contestant:
    """There is no callback at the start of the first epoch, so what fit does once is counted."""

    def __init__(self, row: Row, x: np.ndarray, y: np.ndarray, weights: Weights) -> None:
        if any(row.dropout):
            raise ValueError("MLPClassifier has no dropout")
        warnings.simplefilter("ignore", ConvergenceWarning)  # it stops after `max_iter` epochs, as intended
        self.model = MLPClassifier(
            row.sizes[1:-1],
            solver=row.optimizer,
            alpha=0,
            batch_size=row.batch,
            learning_rate_init=row.lr,
            momentum=0,
            nesterovs_momentum=False,
            tol=0,
            n_iter_no_change=10**9,
            warm_start=True,
            random_state=0,
        )
        self.model.partial_fit(x[: row.batch], y[: row.batch], classes=np.arange(row.sizes[-1]))  # allocates its arrays
        self.model.coefs_ = [weight.copy() for weight, _ in weights]
        self.model.intercepts_ = [bias.copy() for _, bias in weights]
        del self.model._optimizer  # a new one is created for these weights
        self.x, self.y = x, y
        self.ways = {"": self.run}

    def run(self, epochs: int) -> float:
        self.model.set_params(max_iter=epochs)
        start = time.perf_counter()
        self.model.fit(self.x, self.y)
        return time.perf_counter() - start

    def losses(self, batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]:
        return [float(self.model.partial_fit(x, y).loss_) for x, y in batches]
