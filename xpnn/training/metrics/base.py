"""The protocol of a metric: sums that stay on the device until the epoch ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from xpnn.arrays import tree
from xpnn.arrays.namespace import Array
from xpnn.errors import InputError

RESERVED_NAMES = ("epoch", "loss", "lr", "seconds")  # names that every record has already


@runtime_checkable
class Metric(Protocol):
    """The interface of a metric. A custom metric is a frozen dataclass with a `name` and these three methods.

    A metric keeps sums over the rows of an epoch: `init` returns the empty sums, each step calls `update` with its
    batch (or with each part of it, see `accumulate`), and at the end of the epoch `result` turns the sums into the
    value that is logged. Validation and `evaluate` do the same with sums of their own, logged as ``val_…``.

    The sums are a NamedTuple (or a tuple) of arrays. `update` must not read values back from the device: no `float`,
    `bool` or `if` of an array. Take functions from ``xp = array_namespace(prediction)``; then the metric works on every
    library, and inside a compiled step. Convert integer targets by ``xp.astype`` before arithmetic.

    A metric may also define ``merge(one, other)``, which returns the sums of two disjoint sets of rows, given the sums
    of each, as arrays of any library. By default the sums are added leaf by leaf. Define it if sums cannot be added, as
    `R2Score` does. `Trainer` does not call it; code that computes sets of rows separately joins their sums by `merged`.

    Attributes
    ----------
    name : str
        The name in the logs. Two metrics of a trainer need different names.

    Examples
    --------
    The largest error of an epoch is not a sum, so this metric defines `merge`. Rows of weight 0 do not count. A mean
    would add up ``xp.sum(weight * error)`` and ``xp.sum(weight)``, or, without weights, the number of rows:

    >>> from dataclasses import dataclass
    >>> from typing import NamedTuple
    >>> import numpy as np
    >>> from xpnn import Trainer, nn, optim
    >>> from xpnn.arrays.namespace import array_namespace
    >>> class Largest(NamedTuple):
    ...     error: np.ndarray
    >>> @dataclass(frozen=True)
    ... class LargestError:
    ...     name: str = "largest_error"
    ...
    ...     def init(self):
    ...         return Largest(np.zeros(()))
    ...
    ...     def update(self, sums, prediction, target, weight):
    ...         xp = array_namespace(prediction)
    ...         error = xp.max(xp.abs(prediction - target), axis=1)
    ...         if weight is not None:
    ...             error = xp.where(weight > 0, error, 0.0)
    ...         return Largest(xp.maximum(sums.error, xp.max(error)))
    ...
    ...     def merge(self, one, other):
    ...         return Largest(array_namespace(one.error).maximum(one.error, other.error))
    ...
    ...     def result(self, sums):
    ...         return float(sums.error)
    >>> x = np.linspace(-1, 1, 8)[:, None]
    >>> trainer = Trainer(nn.Linear(1, 1), nn.MSELoss(), optim.SGD(0.1), metrics=[LargestError()])
    >>> trainer.fit(x, 2 * x, epochs=100, batch_size=8).records[-1]["largest_error"] < 0.1
    True
    """

    @property
    def name(self) -> str:
        """The name in the logs."""

    def init(self) -> Any:
        """Return the empty sums.

        Returns
        -------
        NamedTuple or tuple of arrays
            NumPy arrays in float64. They are copied to the device in the dtype of the training.
        """

    def update(self, sums: Any, prediction: Array, target: Array, weight: Array | None) -> Any:
        """Return the sums after one more batch.

        Parameters
        ----------
        sums : NamedTuple or tuple of arrays
            The sums so far.
        prediction : array of shape (batch, outputs)
            The outputs of the model.
        target : array of shape (batch, …)
            The targets, as the loss receives them: floating point in the dtype of `prediction`, or integers.
        weight : array of shape (batch,), or None for 1
            How much each row counts, in the dtype of `prediction`: its sample weight, or what the loss states by
            `counts` (0 for a label that it ignores).

        Returns
        -------
        NamedTuple or tuple of arrays
            Of the same types, dtypes and shapes as `sums`.

        Raises
        ------
        InputError
            If the shapes do not suit the metric. Before training, the trainer calls `update` once with a row of zeros
            in float64, on the host.
        """

    def result(self, sums: Any) -> Any:
        """Return the value for the logs.

        Parameters
        ----------
        sums : NamedTuple or tuple of arrays
            The sums over all batches, as NumPy arrays in the dtype of the training.

        Returns
        -------
        float or nested list of floats
            NaN if no row was counted.
        """


def check_metrics(metrics: Sequence[Metric]) -> tuple[Metric, ...]:
    """Return the metrics as a tuple.

    Parameters
    ----------
    metrics : sequence of Metric

    Returns
    -------
    tuple of Metric

    Raises
    ------
    InputError
        If it is not a list, an element is not a metric, or a name is reserved or used twice.
    """
    if not isinstance(metrics, Sequence):
        raise InputError(f"metrics: {metrics!r} is not a list; write [{metrics!r}]")
    for metric in metrics:
        if isinstance(metric, type) or not isinstance(metric, Metric):
            raise InputError(f"metrics: {metric!r} is not a metric; give an instance, for example Accuracy()")
    names = [metric.name for metric in metrics]
    for name in names:
        if name in RESERVED_NAMES or name.startswith("val_"):
            raise InputError(f"metrics: the name {name!r} is reserved for other logs; give another name=")
        if names.count(name) > 1:
            raise InputError(f"metrics: the name {name!r} is used twice; give one of them another name=")
    return tuple(metrics)


def merged(metric: Metric, one: Any, other: Any) -> Any:
    """Return the sums of two disjoint sets of rows from the sums of each.

    Parameters
    ----------
    metric : Metric
    one, other : NamedTuple or tuple of arrays
        The sums of each set.

    Returns
    -------
    NamedTuple or tuple of arrays
        ``metric.merge(one, other)`` if the metric defines it; else the sums added leaf by leaf.
    """
    merge = getattr(metric, "merge", None)
    return tree.map(lambda a, b: a + b, one, other) if merge is None else merge(one, other)
