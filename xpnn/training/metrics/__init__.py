"""Metrics: sums that are kept on the device, and read once an epoch."""

from xpnn import deprecated
from xpnn.training.metrics.accuracy import Accuracy, ErrorRate, TopKAccuracy
from xpnn.training.metrics.base import Metric
from xpnn.training.metrics.confusion import ConfusionMatrix, F1Score, Precision, Recall
from xpnn.training.metrics.regression import MeanAbsoluteError, R2Score

__all__ = [
    "Accuracy",
    "ConfusionMatrix",
    "ErrorRate",
    "F1Score",
    "MeanAbsoluteError",
    "Metric",
    "Precision",
    "R2Score",
    "Recall",
    "TopKAccuracy",
]

deprecated.attach(__name__)
