"""Metrics, which are reported with the loss. Their sums stay on the device and are read once per epoch."""

from collections.abc import Sequence

from xpnn import deprecated
from xpnn.nn.protocols import Loss
from xpnn.nn.traits import default_metrics
from xpnn.training.metrics.accuracy import Accuracy, ErrorRate, TopKAccuracy
from xpnn.training.metrics.base import Metric, check_metrics
from xpnn.training.metrics.confusion import BalancedAccuracy, ConfusionMatrix, F1Score, Precision, Recall
from xpnn.training.metrics.regression import MeanAbsoluteError, R2Score, RootMeanSquaredError
from xpnn.validation import one_of

#: Metrics by the names that a loss may give in `default_metrics`.
BY_NAME: dict[str, type[Accuracy]] = {"accuracy": Accuracy}


def metrics_for(loss: Loss, metrics: Sequence[Metric] | None) -> tuple[Metric, ...]:
    """Return the metrics of a trainer.

    Parameters
    ----------
    loss : Loss
    metrics : sequence of Metric or None
        The argument of the trainer; None for the default metrics of the loss.

    Returns
    -------
    tuple of Metric

    Raises
    ------
    InputError
        If one of them is not a metric, or a name cannot be used.
    """
    if metrics is not None:
        return check_metrics(metrics)
    names = default_metrics(loss)
    return check_metrics([BY_NAME[one_of("metric", m, BY_NAME)]() if isinstance(m, str) else m for m in names])


__all__ = [
    "Accuracy",
    "BalancedAccuracy",
    "ConfusionMatrix",
    "ErrorRate",
    "F1Score",
    "MeanAbsoluteError",
    "Metric",
    "Precision",
    "R2Score",
    "Recall",
    "RootMeanSquaredError",
    "TopKAccuracy",
]

deprecated.attach(__name__)
