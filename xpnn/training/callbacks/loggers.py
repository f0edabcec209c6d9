"""Callbacks that record a run: each epoch's logs in a file, and the learning rate."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path
from typing import Any

from xpnn.errors import InputError
from xpnn.training.callbacks.base import check_state, writes
from xpnn.training.history import Logs, to_json


class JSONLLogger:
    """Append each epoch's record to a file, one JSON object per line.

    Values that JSON does not have (NaN, ±∞) become null. The file is closed after each line.

    Parameters
    ----------
    path : str or Path
        The file; its folder must exist.

    Raises
    ------
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import json, tempfile
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from xpnn import Trainer, nn, optim
    >>> from xpnn.training import JSONLLogger
    >>> x, y = np.eye(4, dtype=np.float32), np.arange(4)
    >>> trainer = Trainer(nn.Linear(4, 4), nn.CrossEntropyLoss(), optim.SGD(0.1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "history.jsonl")
    ...     _ = trainer.fit(x, y, epochs=2, batch_size=2, callbacks=[JSONLLogger(path)])
    ...     [json.loads(line)["epoch"] for line in path.read_text().splitlines()]
    [1, 2]
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __call__(self, trainer: Any, logs: Logs) -> None:
        if not writes(trainer):
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(to_json(logs)) + "\n")


class CSVLogger:
    """Write each epoch's record to a CSV file: a header, then one row per epoch.

    Numbers are written with all their digits, a list (a confusion matrix) as JSON. The file is closed after each row.

    Parameters
    ----------
    filename : str or Path
        The file. Folders are created.
    separator : str, default ","
        The character between cells.
    append : bool, default False
        Whether to append to an existing file, for example in a resumed run. By default each `fit` replaces the file.

    Raises
    ------
    InputError
        If the separator is not one character, or if the logs do not match the header of an existing file.
    OSError
        If the file cannot be read or written.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from xpnn import CSVLogger, Trainer, nn, optim
    >>> x, y = np.eye(4, dtype=np.float32), np.arange(4)
    >>> trainer = Trainer(nn.Linear(4, 4), nn.CrossEntropyLoss(), optim.SGD(0.1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "history.csv")
    ...     _ = trainer.fit(x, y, epochs=2, batch_size=2, callbacks=[CSVLogger(path)])
    ...     print(path.read_text().splitlines()[0])
    epoch,loss,accuracy,lr,seconds
    """

    def __init__(self, filename: str | Path, separator: str = ",", append: bool = False) -> None:
        if not isinstance(separator, str) or len(separator) != 1:
            raise InputError(f"CSVLogger: separator is {separator!r}; expected one character")
        self.filename, self.separator, self.append = Path(filename), separator, append
        self._header: list[str] = []  # of the file; empty before it has one

    def on_train_begin(self, trainer: Any) -> None:
        """Forget the header of the previous fit."""
        self._header = []

    def __call__(self, trainer: Any, logs: Logs) -> None:
        if not writes(trainer):
            return
        header = list(logs)
        if not self._header:
            self._header = self._read_header() or self._begin(header)
        if header != self._header:
            raise InputError(
                f"CSVLogger: {str(self.filename)!r} has the columns {', '.join(self._header)}, but the logs are "
                f"{', '.join(header)}; log to another file"
            )
        self._write([json.dumps(to_json(value)) if isinstance(value, list) else value for value in logs.values()])

    def _read_header(self) -> list[str]:
        """The header of the file to append to; empty if a new file is to be started."""
        if not self.append or not self.filename.exists():
            return []
        with self.filename.open(encoding="utf-8", newline="") as file:
            return next((row for row in csv.reader(file, delimiter=self.separator) if row), [])

    def _begin(self, header: list[str]) -> list[str]:
        self.filename.parent.mkdir(parents=True, exist_ok=True)
        if not self.append:
            self.filename.write_bytes(b"")
        self._write(header)
        return header

    def _write(self, row: list[Any]) -> None:
        with self.filename.open("a+", encoding="utf-8", newline="") as file:
            file.seek(0)
            text = file.read()
            if text and not text.endswith("\n"):  # edited, without an end of line
                file.write("\n")
            csv.writer(file, delimiter=self.separator, lineterminator="\n").writerow(row)


class LearningRateLogger:
    """Collect the learning rate of each epoch's last step; log changes, as INFO, to the logger "xpnn".

    Attributes
    ----------
    rates : list of float
        One learning rate per epoch, over all calls of `fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import LearningRateLogger, Trainer, nn, optim
    >>> x, y, rates = np.eye(4, dtype=np.float32), np.arange(4), LearningRateLogger()
    >>> trainer = Trainer(nn.Linear(4, 4), nn.CrossEntropyLoss(), optim.SGD(optim.StepLR(0.5, 1, 0.5)))
    >>> _ = trainer.fit(x, y, epochs=3, batch_size=2, callbacks=[rates])
    >>> rates.rates
    [0.5, 0.25, 0.125]
    """

    def __init__(self) -> None:
        self.rates: list[float] = []

    def __call__(self, trainer: Any, logs: Logs) -> None:
        if self.rates and self.rates[-1] != logs["lr"]:
            logging.getLogger("xpnn").info(
                "epoch %d: learning rate %g, it was %g", logs["epoch"], logs["lr"], self.rates[-1]
            )
        self.rates.append(logs["lr"])

    def state_dict(self) -> dict[str, Any]:
        """Return the state: plain values."""
        return {"rates": list(self.rates)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        check_state(self, {"rates": tuple(state["rates"])}, rates=tuple[float, ...])
        self.rates = list(state["rates"])
