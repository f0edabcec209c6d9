"""The networks that are measured, their data, and the initial weights of all contestants."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

Weights = list[tuple[np.ndarray, np.ndarray]]  # for each layer: weight (n_in, n_out) and bias (n_out,), float32


@dataclass(frozen=True)
class Row:
    """One network and how it is trained: Linear → norm → activation → Dropout, …, Linear, cross-entropy; in float32.

    sizes      features, widths of the hidden layers, classes
    batch      rows per step
    steps      steps per epoch; the data set has batch · steps rows
    optimizer  "adam" or "amsgrad" (betas 0.9 and 0.999, eps 1e-8), or "sgd" (no momentum), with learning rate lr. The
               rates are small: near convergence, subnormal numbers would slow down the processor
    dropout    probability of dropping after each hidden layer
    norm       "batch" or "layer", with eps 1e-5, or none; there is no bias before the former, which would cancel it
    activation "relu" or "gelu" (by the error function)
    max_norm   of all gradients together, to which they are clipped; 0: they are not
    """

    sizes: tuple[int, ...]
    batch: int
    steps: int
    optimizer: str
    lr: float
    dropout: tuple[float, ...]
    norm: str = ""
    activation: str = "relu"
    max_norm: float = 0.0

    @property
    def features(self) -> tuple[str, ...]:
        """What the network has that not every library has."""
        found = {
            "dropout": any(self.dropout),
            f"{self.norm}norm": self.norm,
            "gelu": self.activation == "gelu",
            "clipping": self.max_norm,
            "amsgrad": self.optimizer == "amsgrad",
        }
        return tuple(name for name, is_there in found.items() if is_there)

    @property
    def name(self) -> str:
        return "-".join([*map(str, self.sizes), *[name for name in self.features if name != "dropout"]])

    @property
    def title(self) -> str:
        dropout = " and ".join(f"{p:g}" for p in self.dropout) if any(self.dropout) else "none"
        optimizer = {"adam": "Adam", "amsgrad": "AMSGrad", "sgd": "SGD"}[self.optimizer]
        return f"{self.name}, {optimizer}, batch {self.batch}, dropout {dropout}"

    def without_dropout(self) -> Row:
        return replace(self, dropout=(0.0,) * len(self.dropout))


ROWS = (
    Row((784, 400, 100, 10), 256, 64, "adam", 1e-4, (0.6, 0.5)),
    Row((784, 1000, 10), 100, 120, "sgd", 1e-2, (0.0,)),
    Row((784, 256, 128, 64, 10), 128, 128, "adam", 1e-4, (0.0, 0.0, 0.0)),
    Row((784, 10, 10), 128, 468, "sgd", 1e-2, (0.0,)),
    Row((784, 1024, 1024, 1024, 10), 512, 8, "adam", 1e-4, (0.0, 0.0, 0.0)),
)


WIDE = Row((4096, 4096, 4096, 4096, 4096, 10), 8192, 2, "adam", 1e-5, (0.0,) * 4)  # for GPUs: matrix products dominate

OTHERS = (  # wide, deep, with a batch of one row or of 8,192, and with other layers and updates: measured if named
    Row((784, 2048, 10), 256, 16, "adam", 1e-4, (0.0,)),
    Row((784, 128, 128, 128, 128, 128, 128, 10), 128, 64, "adam", 1e-4, (0.0,) * 6),
    Row((32, 64, 2), 1, 512, "adam", 1e-4, (0.0,)),
    Row((64, 64, 64, 10), 8192, 8, "adam", 1e-4, (0.0, 0.0)),
    Row((128, 256, 256, 16), 1024, 16, "sgd", 1e-2, (0.0, 0.0)),
    Row((784, 400, 100, 10), 256, 64, "adam", 1e-4, (0.0, 0.0), norm="batch"),
    Row((784, 400, 100, 10), 256, 64, "adam", 1e-4, (0.0, 0.0), norm="layer"),
    Row((784, 400, 100, 10), 256, 64, "adam", 1e-4, (0.0, 0.0), activation="gelu"),
    Row((784, 400, 100, 10), 256, 64, "sgd", 1e-2, (0.0, 0.0), max_norm=0.5),
    Row((784, 400, 100, 10), 256, 64, "amsgrad", 1e-4, (0.0, 0.0)),
)


def rows_named(names: list[str] | None, rows: tuple[Row, ...] = ROWS) -> list[Row]:
    """Return the rows with these names, in their order, or all for None. Raises ValueError for unknown names."""
    known = {row.name: row for row in rows}
    for name in names or ():
        if name not in known:
            raise ValueError(f"--rows: {name!r} is not one of {', '.join(known)}")
    return [row for row in rows if names is None or row.name in names]


def row_of(fields: dict[str, Any]) -> Row:
    """Return the row with these fields, which come from JSON."""
    known: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return Row(**known)


def data(row: Row) -> tuple[np.ndarray, np.ndarray]:
    """x (rows, features) float32 in [0, 1), four fifths of it zero, like images of digits; y (rows,) int64 labels."""
    return _data(row.batch * row.steps, row.sizes[0], row.sizes[-1])


@functools.lru_cache(maxsize=1)  # called several times for each row
def _data(rows: int, features: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.random((rows, features), dtype=np.float32)
    x -= np.float32(0.8)
    np.maximum(x, 0, out=x)
    x *= 5
    teacher = generator.standard_normal((features, classes), dtype=np.float32)
    return x, np.argmax(x @ (teacher - teacher.mean(axis=0)), axis=1)  # centred, so that the classes have similar sizes


def check_batches(row: Row, steps: int = 20) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the batches for the check that all train the same network: the first rows of the data, in order."""
    x, y = data(row)
    starts = [i % row.steps * row.batch for i in range(steps)]
    return [(x[start : start + row.batch], y[start : start + row.batch]) for start in starts]


def first_weights(row: Row) -> Weights:
    """Return copies of xpnn's initial weights for seed 0 and these sizes; for large ones, NumPy's."""
    return [(weight.copy(), bias.copy()) for weight, bias in _first_weights(row.sizes)]


@functools.lru_cache(maxsize=8)  # needed once for each precision
def _first_weights(sizes: tuple[int, ...]) -> Weights:
    if sum(map(math.prod, pairwise(sizes))) > 2**24:
        generator = np.random.default_rng(0)
        return [(generator.standard_normal((n, m), dtype=np.float32) * np.float32(math.sqrt(2 / n)),
                 np.zeros(m, np.float32)) for n, m in pairwise(sizes)]  # fmt: skip
    from xpnn import nn
    from xpnn.arrays import random

    params = nn.MLP(sizes[0], sizes[-1], sizes[1:-1]).init(random.key(0, "init"))
    return [(layer.weight.astype(np.float32), layer.bias.astype(np.float32)) for layer in params if layer]
