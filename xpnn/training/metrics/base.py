"""What a metric is: sums that are kept on the device until the epoch ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from xpnn.arrays import tree
from xpnn.arrays.namespace import Array
from xpnn.errors import InputError

RESERVED_NAMES = ("epoch", "loss", "lr", "seconds")  # names that every record has already


@runtime_checkable
class Metric(Protocol):
    """What a metric promises."""

    @property
    def name(self) -> str:
        """Its name in the logs."""

    def init(self) -> Any:
        """The empty sums: NumPy arrays on the host, in float64."""

    def update(self, sums: Any, prediction: Array, target: Array, weight: Array | None) -> Any:
        """The sums after one more batch, of the same dtypes and shapes; `weight` is (batch,), or None for 1."""

    def result(self, sums: Any) -> Any:
        """The metric of all batches, from its sums on the host: a float, or nested lists of floats."""


def check_metrics(metrics: Sequence[Metric]) -> tuple[Metric, ...]:
    """The metrics as a tuple. Raises InputError unless each is one, with a name of its own."""
    if not isinstance(metrics, Sequence):
        raise InputError(f"metrics: {metrics!r} is no list; give [{metrics!r}]")
    for metric in metrics:
        if isinstance(metric, type) or not isinstance(metric, Metric):
            raise InputError(f"metrics: {metric!r} is no metric; give an instance, as Accuracy()")
    names = [metric.name for metric in metrics]
    for name in names:
        if names.count(name) > 1 or name in RESERVED_NAMES or name.startswith("val_"):
            raise InputError(f"metrics: the name {name!r} would stand for two things in the logs; give another name=")
    return tuple(metrics)


def merged(metric: Metric, one: Any, other: Any) -> Any:
    """The sums of two sets of rows together, from the sums of each: as `metric.merge` gives them, else added up."""
    merge = getattr(metric, "merge", None)
    return tree.map(lambda a, b: a + b, one, other) if merge is None else merge(one, other)
