"""The history of a fit: one record per epoch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from xpnn.training.display.kernel import cell
from xpnn.training.display.page import training_html

Logs: TypeAlias = dict[str, Any]  # epoch, loss, accuracy, val_loss, val_accuracy, lr, seconds; numbers or lists


class History:
    """The records of `Trainer.fit`, one dict per epoch, in order.

    It has a length and can be iterated over. A notebook shows it as a table and a curve.

    Parameters
    ----------
    records : iterable of dict, default ()
        The first records.

    Attributes
    ----------
    records : list of dict
        The record of each epoch: "epoch" (counted from 1, over all calls of `fit`), "loss", the metrics by their names,
        "val_loss" and so on with validation data, "lr" (the learning rate of the last step) and "seconds".
    history : dict of lists
        The same values by name.
    shown_in : int or None
        The cell of a notebook in which `Trainer.fit` has shown it.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import Trainer, nn, optim
    >>> x, y = np.eye(4, dtype=np.float32), np.arange(4)
    >>> trainer = Trainer(nn.Linear(4, 4), nn.CrossEntropyLoss(), optim.SGD(0.5))
    >>> history = trainer.fit(x, y, epochs=2, batch_size=2)
    >>> list(history.records[0])
    ['epoch', 'loss', 'accuracy', 'lr', 'seconds']
    >>> history.history["lr"], len(history)
    ([0.5, 0.5], 2)
    """

    def __init__(self, records: Iterable[Logs] = ()) -> None:
        self.records: list[Logs] = list(records)
        self.shown_in: int | None = None

    @property
    def history(self) -> dict[str, list[Any]]:
        """The values by name, as in Keras: {"loss": [one value per epoch], …}."""
        names = self.records[0] if self.records else {}
        return {name: [record[name] for record in self.records] for name in names}

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Logs]:
        return iter(self.records)

    def _repr_html_(self) -> str | None:
        if self.shown_in is not None and self.shown_in == cell():  # `fit` has shown it above
            return None
        return training_html(self.records)

    def __repr__(self) -> str:
        return f"History({len(self)} epochs, last: {self.records[-1] if self.records else None})"


def parse_record(line: bytes | str) -> Logs:
    """Return the record in a line of history.jsonl.

    Parameters
    ----------
    line : bytes or str
        The line, in JSON.

    Returns
    -------
    dict
        As in `History.records`. What JSON cannot represent is None.

    Raises
    ------
    ValueError
        If it is none, with the reason.

    Examples
    --------
    >>> parse_record('{"epoch": 1, "loss": 2.5}')
    {'epoch': 1, 'loss': 2.5}
    """
    try:
        record = json.loads(line)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    epoch = record.get("epoch") if isinstance(record, dict) else None
    if not isinstance(epoch, int) or isinstance(epoch, bool) or not 0 <= epoch < 2**53:
        raise ValueError("it is not the record of an epoch")
    values = list(record.items())
    while values:  # without recursion, which lists in lists could exhaust
        name, value = values.pop()
        if isinstance(value, (list, dict)):
            values += [(name, item) for item in (value.values() if isinstance(value, dict) else value)]
        elif isinstance(value, int) and abs(value) >= 2**1023:
            raise ValueError(f"{name[:40]!r} is an integer of {value.bit_length()} bits, which no float holds")
    return record


def to_json(value: Any) -> Any:
    """Return `value` with each float that JSON cannot represent (NaN, ±∞) replaced by None."""
    if isinstance(value, dict):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
