"""What a run remembers of itself: one record an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

Logs: TypeAlias = dict[str, Any]  # epoch, loss, accuracy, val_loss, val_accuracy, lr, seconds; numbers, or lists


class History:
    """The records of `Trainer.fit`, one dict an epoch, in order."""

    def __init__(self) -> None:
        self.records: list[Logs] = []

    @property
    def history(self) -> dict[str, list[Any]]:
        """The same by name, as Keras gives it: {"loss": [one value an epoch], …}."""
        names = self.records[0] if self.records else {}
        return {name: [record[name] for record in self.records] for name in names}

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Logs]:
        return iter(self.records)

    def __repr__(self) -> str:
        return f"History({len(self)} epochs, last: {self.records[-1] if self.records else None})"


def to_json(value: Any) -> Any:
    """`value` with each float that JSON has no word for (NaN, ±∞) as None."""
    if isinstance(value, dict):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
