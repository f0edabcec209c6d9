"""Rows of the table: layers."""

from __future__ import annotations

import numpy as np

from xpnn import nn
from xpnn.testing.cases.rows import LayerCase, draw

_X, _X5, _IMAGES = draw("x", 4, 6), draw("x", 4, 5), draw("x", 4, 2, 4)

_TABLE = np.array([[0, 3], [6, 3], [1, 1], [5, 0]], np.int32)
_MIXED = np.array([[0, 0.5, 3, -1], [6, -0.2, 0, 0.7], [1, 0.3, 1, 2], [6, -2, 1, -0.4]])

LAYERS: dict[str, LayerCase] = {
    "Linear": LayerCase(nn.Linear(5, 3), _X5),
    "Linear: no bias": LayerCase(nn.Linear(5, 3, bias=False), _X5),
    "Linear: one row": LayerCase(nn.Linear(5, 1), draw("x", 1, 5)),
    "ReLU": LayerCase(nn.ReLU(), _X),
    "LeakyReLU": LayerCase(nn.LeakyReLU(0.2), _X),
    "ELU": LayerCase(nn.ELU(1.5), 2 * _X),
    "SiLU": LayerCase(nn.SiLU(), 4 * _X),
    "Softplus": LayerCase(nn.Softplus(2.0), 3 * _X),
    "Sigmoid": LayerCase(nn.Sigmoid(), 4 * _X),
    "Tanh": LayerCase(nn.Tanh(), 2 * _X),
    "Identity": LayerCase(nn.Identity(), _X),
    "Softmax": LayerCase(nn.Softmax(), 2 * _X),
    "LogSoftmax": LayerCase(nn.LogSoftmax(), 2 * _X),
    "GELU": LayerCase(nn.GELU(), 3 * draw("x", 6, 6)),
    "GELU (tanh)": LayerCase(nn.GELU("tanh"), 3 * draw("x", 6, 6)),
    "Flatten": LayerCase(nn.Flatten(), _IMAGES),
    "Scale": LayerCase(nn.Scale(0.25), _IMAGES),
    "Standardize": LayerCase(nn.Standardize.fit(draw("fit", 9, 5)), _X5),
    "Unstandardize": LayerCase(nn.Unstandardize((1.0, -2.0, 0.0, 3.0, 5.0), (2.0, 0.5, 1.0, 0.0, 9.0)), _X5),
    "SmoothClip": LayerCase(nn.SmoothClip(1.5), 3 * _X),
    "LayerNorm": LayerCase(nn.LayerNorm(6), _X),
    "LayerNorm: 3-d input": LayerCase(nn.LayerNorm(4, 1e-3), _IMAGES),
    "RMSNorm": LayerCase(nn.RMSNorm(6), _X),
    "BatchNorm1d": LayerCase(nn.BatchNorm1d(5), draw("x", 6, 5)),
    "BatchNorm1d: not affine": LayerCase(nn.BatchNorm1d(5, affine=False), draw("x", 6, 5)),
    "Residual": LayerCase(nn.Residual(nn.Sequential(nn.Linear(5, 5), nn.Tanh())), _X5),
    "Embedding": LayerCase(nn.Embedding(7, 3), _TABLE),
    "Embedding: one column": LayerCase(nn.Embedding(7, 3), np.array([2, 0, 6, 2, 2])),
    "EmbedColumns": LayerCase(nn.EmbedColumns((0, 2), (nn.Embedding(7, 3), nn.Embedding(4, 2))), _MIXED),
    "EmbedColumns: the last column": LayerCase(nn.EmbedColumns((2,), (nn.Embedding(4, 3),)), _MIXED[:, :3]),
    "RandomDistortion": LayerCase(nn.RandomDistortion(40, 0.2, (0.7, 1.3), 30, alpha=3, sigma=1.5), draw("x", 4, 5, 6)),
    "Dropout": LayerCase(nn.Dropout(0.4), draw("x", 6, 7)),
    "Sequential": LayerCase(nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), _X5),
    "Sequential: Linear, ReLU": LayerCase(nn.Sequential(nn.Linear(5, 4), nn.ReLU()), 2 * draw("x", 6, 5)),
    "Sequential: nested": LayerCase(nn.Sequential(nn.Sequential(nn.ReLU()), nn.Tanh()), _X5),
    "Sequential: normalized block": LayerCase(
        nn.Sequential(nn.Linear(5, 4), nn.Residual(nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4), nn.GELU()))), _X5
    ),
    "Sequential: embedded table": LayerCase(
        nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 2)),
        np.array([[3, 0], [4, 3], [1, 1], [0, 3]], np.int32),
    ),
    "Sequential: embedded bytes": LayerCase(
        nn.Sequential(nn.Flatten(), nn.Identity(), nn.Sequential(nn.Embedding(300, 2))),
        np.array([[[3], [255]], [[4], [3]]], np.uint8),
    ),
    "Sequential: preprocessed": LayerCase(
        nn.Sequential(nn.Flatten(), nn.Scale(0.5), *nn.MLP(6, 2, (4,)).layers), draw("x", 6, 2, 3)
    ),
    "MLP": LayerCase(nn.MLP(5, 3, (6, 4), dropout=(0.5, 0.2)), draw("x", 8, 5)),
    "MLP: tanh": LayerCase(nn.MLP(5, 3, (4,), activation="tanh"), _X5),
    "MLP: layer norm": LayerCase(nn.MLP(5, 3, (4,), norm="layer", activation="tanh"), _X5),
    "MLP: batch norm": LayerCase(nn.MLP(5, 3, (4,), norm="batch", bias=False), draw("x", 6, 5)),
}
