"""Metrics: sums that are kept on the device, and read once an epoch."""

from collections.abc import Sequence

from xpnn import deprecated
from xpnn.nn.protocols import Loss
from xpnn.nn.traits import default_metrics
from xpnn.training.metrics.accuracy import Accuracy, ErrorRate, TopKAccuracy
from xpnn.training.metrics.base import Metric, check_metrics
from xpnn.training.metrics.confusion import ConfusionMatrix, F1Score, Precision, Recall
from xpnn.training.metrics.regression import MeanAbsoluteError, R2Score
from xpnn.validation import one_of

#: By the name that a loss gives as its default.
BY_NAME: dict[str, type[Accuracy]] = {"accuracy": Accuracy}


def metrics_for(loss: Loss, metrics: Sequence[Metric] | None) -> tuple[Metric, ...]:
    """The metrics of a trainer: those given, or the loss's default. Raises InputError for anything else."""
    if metrics is not None:
        return check_metrics(metrics)
    names = default_metrics(loss)
    return check_metrics([BY_NAME[one_of("metric", m, BY_NAME)]() if isinstance(m, str) else m for m in names])


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
