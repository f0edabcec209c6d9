"""Callbacks that write down what a run does: each epoch's record in a file, and the learning rate."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path
from typing import Any

from xpnn.errors import InputError
from xpnn.training.history import Logs, to_json


class JSONLLogger:
    """A callback that appends each epoch's record to a file, one JSON object a line, flushed at once."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __call__(self, trainer: Any, logs: Logs) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(to_json(logs)) + "\n")


class CSVLogger:
    """A callback that writes each epoch's record to a table: a header, then a row an epoch, flushed at once.

    separator  one character between the cells
    append     go on in the file, if there is one; otherwise each fit writes it anew

    Numbers are as exact as they were; a list (a confusion matrix) is JSON in its cell. Raises InputError where the file
    to go on in has another header, OSError.
    """

    def __init__(self, filename: str | Path, separator: str = ",", append: bool = False) -> None:
        if not isinstance(separator, str) or len(separator) != 1:
            raise InputError(f"CSVLogger: separator is {separator!r}; expected one character")
        self.filename, self.separator, self.append = Path(filename), separator, append
        self._header: list[str] = []  # of the file, once it has one

    def on_train_begin(self, trainer: Any) -> None:
        self._header = []

    def __call__(self, trainer: Any, logs: Logs) -> None:
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
        """The header of the file to go on in; empty where a new file is to be begun."""
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
            if text and not text.endswith("\n"):  # someone's editor left the last line open
                file.write("\n")
            csv.writer(file, delimiter=self.separator, lineterminator="\n").writerow(row)


class LearningRateLogger:
    """A callback that keeps the rate of each epoch's last step in `rates`, and says changes to the logger "xpnn"."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def __call__(self, trainer: Any, logs: Logs) -> None:
        if self.rates and self.rates[-1] != logs["lr"]:
            logging.getLogger("xpnn").info(
                "epoch %d: learning rate %g, it was %g", logs["epoch"], logs["lr"], self.rates[-1]
            )
        self.rates.append(logs["lr"])

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"rates": list(self.rates)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.rates = list(state["rates"])
