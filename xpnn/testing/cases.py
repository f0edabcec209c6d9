"""One example of every public layer, loss and optimizer, which `xpnn check` tries."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from xpnn import nn, optim
from xpnn.arrays import random
from xpnn.testing.checks import check_layer, check_loss, check_optimizer
from xpnn.testing.report import Report


def _draw(name: str, *shape: int) -> np.ndarray:
    """Normal values, none nearer to 0 than 0.05: finite differences meet no kink."""
    z = random.normal(random.key(0, "samples").child(name), shape)
    return np.where(np.abs(z) < 0.05, z + 0.2, z)


_X, _Z, _T = _draw("x", 6, 5), _draw("z", 6, 3), _draw("t", 6, 3)
_LABELS = np.array([2, 0, 1, 2, 1, -100], dtype=np.int32)
_SHARES = np.abs(_T) / np.sum(np.abs(_T), axis=1, keepdims=True)
_WEIGHT = np.array([1.0, 0.5, 0.0, 2.0, 1.5, 3.0])

LAYERS: dict[str, tuple[nn.Layer, np.ndarray]] = {
    **{type(layer).__name__: (layer, 2 * _X) for layer in (
        nn.ReLU(), nn.LeakyReLU(), nn.ELU(), nn.SiLU(), nn.Softplus(), nn.Sigmoid(), nn.Tanh(), nn.Identity(),
        nn.Softmax(), nn.LogSoftmax(), nn.Linear(5, 4), nn.Dropout(0.4), nn.Scale(0.25), nn.Standardize.fit(_X),
        nn.LayerNorm(5), nn.RMSNorm(5), nn.BatchNorm1d(5),
        nn.Residual(nn.Sequential(nn.Linear(5, 5), nn.Tanh())), nn.Sequential(nn.Linear(5, 4), nn.ReLU()),
    )},
    "GELU": (nn.GELU(), 3 * _X),
    "GELU (tanh)": (nn.GELU("tanh"), 3 * _X),
    "Embedding": (nn.Embedding(7, 3), np.array([[0, 3], [6, 3], [1, 1], [5, 0]], dtype=np.int32)),
    "Flatten": (nn.Flatten(), _draw("images", 6, 2, 3)),
    "RandomDistortion": (nn.RandomDistortion(20, 0.1, (0.8, 1.2), 10, alpha=3, sigma=2), _draw("images", 6, 4, 5)),
    "MLP": (nn.MLP(5, 3, (8, 6), dropout=0.3), _X),
}  # fmt: skip

LOSSES: dict[str, tuple[nn.Loss, np.ndarray, np.ndarray]] = {
    "CrossEntropyLoss": (nn.CrossEntropyLoss((0.5, 2, 1), 0.1, -100), _Z, _LABELS),
    "NLLLoss": (nn.NLLLoss((0.5, 2, 1), -100), -np.abs(_Z), _LABELS),
    "MSELoss": (nn.MSELoss(), _Z, _T),
    "L1Loss": (nn.L1Loss(), _Z, _T),
    "HuberLoss": (nn.HuberLoss(), 2 * _Z, _T),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss(), 3 * _Z, _SHARES),
    "PoissonNLLLoss": (nn.PoissonNLLLoss(), _Z, np.floor(3 * np.abs(_T))),
    "QuantileLoss": (nn.QuantileLoss(0.3), _Z, _T),
}

OPTIMIZERS: dict[str, optim.Optimizer] = {
    "SGD": optim.SGD(0.05, 0.9, 1e-3, nesterov=True),
    "RMSprop": optim.RMSprop(momentum=0.5),
    "Adagrad": optim.Adagrad(),
    "Adam": optim.Adam(0.01, amsgrad=True),
    "AdamW": optim.AdamW(0.01),
    "NAdam": optim.NAdam(),
    "Lion": optim.Lion(1e-3),
    "Muon": optim.Muon(),
    "ClipGradNorm": optim.ClipGradNorm(optim.SGD(optim.CosineAnnealingLR(0.05, 5)), 0.5),
    "ClipGradValue": optim.ClipGradValue(optim.SGD(0.05), 0.1),
}

#: By name, what checks it everywhere on this machine: CHECKS["Linear"]() -> Report.
CHECKS: dict[str, Callable[[], Report]] = {
    **{name: partial(check_layer, *case, raise_error=False) for name, case in LAYERS.items()},
    **{name: partial(check_loss, *case, _WEIGHT, raise_error=False) for name, case in LOSSES.items()},
    **{name: partial(check_optimizer, case, raise_error=False) for name, case in OPTIMIZERS.items()},
}
