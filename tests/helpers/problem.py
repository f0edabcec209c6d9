"""A small problem shared by the training tests: 40 rows of 6 features, 3 classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import draw

from xpnn import nn, optim
from xpnn.training import Trainer

X = draw("train x", 40, 6)


Y = np.argmax(X[:, :3] + 0.5 * X[:, 3:], axis=1).astype(np.int32)


def network(dropout: float = 0.3) -> nn.Sequential:
    return nn.Sequential(nn.Standardize.fit(X), *nn.MLP(6, 3, (16, 8), dropout=dropout).layers)


def trainer(optimizer: optim.Optimizer | None = None, **options: Any) -> Trainer:
    return Trainer(network(), nn.CrossEntropyLoss(), optimizer or optim.Adam(1e-2), **options)
