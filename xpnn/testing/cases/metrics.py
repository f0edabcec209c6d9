"""Rows of the table: metrics."""

from __future__ import annotations

import numpy as np

from xpnn.testing.cases.rows import MetricCase, draw
from xpnn.training import metrics
from xpnn.training.metrics import confusion, regression

# Five classes: 4 neither occurs nor is predicted, 3 occurs and is never predicted.
_LOGITS = draw("logits", 41, 5) - np.array([0, 0, 0, 99, 99])
_LABELS = (np.argmax(_LOGITS + 2 * draw("label noise", 41, 5), axis=1) + (np.arange(41) % 7 == 0)).astype(np.int32)
_PROBABILITIES = np.eye(5)[_LABELS] * 0.5 + 0.1
_LOGIT, _BINARY = _LOGITS[:, :1], (_LOGITS[:, :1] + draw("binary noise", 41, 1) > 0.3).astype(np.float64)
_Z, _T = draw("numbers", 41, 3), draw("numbers", 41, 3) + 0.5 * draw("number noise", 41, 3)
_FAR = np.array([1e6, -2e5, 3e4])

_AVERAGES: tuple[confusion.Average, ...] = ("macro", "micro", "weighted")

METRICS: dict[str, MetricCase] = {
    "Accuracy": MetricCase(metrics.Accuracy(), _LOGITS, _LABELS),
    "Accuracy: probabilities": MetricCase(metrics.Accuracy(), _LOGITS, _PROBABILITIES),
    "Accuracy: binary": MetricCase(metrics.Accuracy(), _LOGIT, _BINARY),
    "ErrorRate": MetricCase(metrics.ErrorRate(), _LOGITS, _LABELS),
    "TopKAccuracy": MetricCase(metrics.TopKAccuracy(2), _LOGITS, _LABELS),
    "TopKAccuracy: probabilities": MetricCase(metrics.TopKAccuracy(3), _LOGITS, _PROBABILITIES),
    "BalancedAccuracy": MetricCase(confusion.BalancedAccuracy(5), _LOGITS, _LABELS),
    "ConfusionMatrix": MetricCase(confusion.ConfusionMatrix(5), _LOGITS, _LABELS),
    "ConfusionMatrix: binary": MetricCase(confusion.ConfusionMatrix(2), _LOGIT, _BINARY),
    **{
        f"{kind.__name__}{'' if average == 'macro' else ': ' + average}": MetricCase(kind(5, average), _LOGITS, _LABELS)
        for kind in (confusion.Precision, confusion.Recall, confusion.F1Score)
        for average in _AVERAGES
    },
    "F1Score: probabilities": MetricCase(confusion.F1Score(5), _LOGITS, _PROBABILITIES),
    "F1Score: binary": MetricCase(confusion.F1Score(2), _LOGIT, _BINARY),
    "MeanAbsoluteError": MetricCase(regression.MeanAbsoluteError(), _Z[:, :1], _T[:, :1]),
    "MeanAbsoluteError: outputs": MetricCase(regression.MeanAbsoluteError(), _Z, _T),
    "MeanAbsoluteError: scaled": MetricCase(regression.MeanAbsoluteError(scale=(2.0, 1.0, 0.5)), _Z, _T),
    "RootMeanSquaredError": MetricCase(regression.RootMeanSquaredError(), _Z[:, :1], _T[:, :1]),
    "RootMeanSquaredError: outputs": MetricCase(regression.RootMeanSquaredError(scale=3.0), _Z, _T),
    "R2Score": MetricCase(regression.R2Score(), _Z[:, :1], _T[:, :1]),
    "R2Score: outputs": MetricCase(regression.R2Score(3), _Z, _T),
    "R2Score: far from 0": MetricCase(regression.R2Score(3), _Z + _FAR, _T + _FAR),
}
