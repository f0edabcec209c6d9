"""How one column of a table becomes numbers, and how rows are encoded by it."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnn.data.files import fault
from xpnn.data.frame import Frame
from xpnn.data.text import listed, number_of
from xpnn.errors import DataFormatError, InputError

DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?Z?")
LARGEST = 1e150  # of numbers whose squares float64 holds
_WORDS = {"boolean": "true and false", "number": "numbers", "category": "text", "date": "dates"}


@dataclass(frozen=True)
class Column:
    """How one column is encoded.

    Attributes
    ----------
    name : str
        Its name in the file.
    kind : {"number", "boolean", "category", "date"}
        A number and a boolean are one output. A category has one output for each level, which is 1 for that level and
        else 0 (one-hot), or one output for all levels, see `embedding`. A date is the days since 1970, and sine and
        cosine of its place in the year and in the week.
    levels : tuple of str
        The texts of a category in the training rows, sorted.
    fill : float, str or None
        What takes the place of a missing value: a number (of a date: days since 1970), a level, or None if a missing
        value is an error; of a category with indicator, no level.
    indicator : bool
        Whether one more output is 1 where the value is missing.
    embedding : int
        Of a category, the size of the vector that the network learns for each level; 0 for one-hot. With vectors, the
        output is the number of the level from 1 on, and 0 for a text that is none of them.
    """

    name: str
    kind: str
    levels: tuple[str, ...] = ()
    fill: float | str | None = None
    indicator: bool = False
    embedding: int = 0

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of its outputs."""
        parts = {"category": self.levels, "date": ("days", "sin year", "cos year", "sin week", "cos week")}
        is_one = self.kind not in parts or self.embedding
        own = (self.name,) if is_one else tuple(f"{self.name}={part}" for part in parts[self.kind])
        return (*own, f"{self.name} is missing") if self.indicator else own


def has_missing(values: np.ndarray) -> np.ndarray:
    """Return where a column of a frame has no value, bool of shape (n,)."""
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind == "M":
        return np.isnat(values)
    if values.dtype.kind == "O":
        return np.array([value is None for value in values], bool)
    return np.zeros(len(values), bool)


def check_size(frame: Frame, names: Sequence[str], largest: float) -> None:
    """Raise DataFormatError if a number in these columns is larger, or as much below zero."""
    for name in names:
        values = frame.columns[name]
        if values.dtype.kind == "f" and (wrong := np.abs(values) > largest).any():
            row = int(np.argmax(wrong))
            found = f"{frame.place(row)}, column {name!r}: {values[row]:g} is {too_large(largest)}"
            raise fault(frame.source, found, "correct it, or scale the column")


def too_large(largest: float) -> str:
    """What is wrong with a number above this bound, for messages."""
    return "too large" if largest == LARGEST else "too large for float32, which the network computes in"


def as_booleans(values: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return (values, whether they are true and false). Text of true and false, with gaps, becomes 1, 0 and NaN."""
    if values.dtype.kind == "O":
        known = {value for value in values.tolist() if value is not None}
        if not known or not {str(value).lower() for value in known} <= {"true", "false"}:
            return values, False
        read = [np.nan if value is None else float(str(value).lower() == "true") for value in values.tolist()]
        return np.array(read), True
    return values, values.dtype.kind == "b"


class Unseen:
    """The texts of categories that did not occur in training, of which one warning for each column is given."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, dict[str, None], int]] = {}

    def add(self, frame: Frame, column: Column, texts: np.ndarray, rows: np.ndarray) -> None:
        """Add the texts of these rows."""
        if len(rows):
            place, known, count = self._found.setdefault(column.name, (frame.place(rows[0]), {}, 0))
            known.update(dict.fromkeys(texts[rows].tolist()))
            self._found[column.name] = place, known, count + len(rows)

    def warn(self, source: str, columns: Sequence[Column]) -> None:
        """Give the warnings."""
        for column in columns:
            if column.name in self._found:
                place, texts, count = self._found[column.name]
                warnings.warn(
                    f"{source!r}: {place}, column {column.name!r}: {listed(texts, 3)} did not occur in training; "
                    f"{count:,} such rows count as none of its {len(column.levels)} categories",
                    stacklevel=3,
                )


def write_outputs(frame: Frame, column: Column, out: np.ndarray, unseen: Unseen) -> None:
    """Write the outputs of a column into `out`, (rows, outputs)."""
    values = frame.columns[column.name]
    if column.kind == "boolean":
        values, _ = as_booleans(values)
    absent = has_missing(values)
    if column.kind == "category" and values.dtype.kind in "iufb":  # all its texts here look like numbers or booleans
        known = _levels_by_value(column.levels)
        pairs = zip(values.tolist(), absent, strict=True)
        texts = [None if gone else known.get(x, _text(x)) for x, gone in pairs]
        values = np.array(texts, object)
    kinds = {"number": "iufb", "boolean": "iufb", "category": "O", "date": "MO"}[column.kind]
    is_other = column.kind == "boolean" and values.dtype.kind in kinds and not set(values[~absent].tolist()) <= {0, 1}
    if absent.all() and len(absent):
        values = values.astype(np.float64) if kinds == "iufb" else values
    elif values.dtype.kind not in kinds or is_other:
        found = _WORDS["category" if values.dtype.kind == "O" else "date" if values.dtype.kind == "M" else "number"]
        raise InputError(
            f"{frame.source!r}: column {column.name!r} holds {found}{_example(frame, column, values)}; the model was "
            f"trained with {_WORDS[column.kind]} there"
        )
    if absent.any() and column.fill is None and not column.indicator:
        row = int(np.argmax(absent))
        hint = (
            "fill it in or remove the row: the model was trained without missing values there; or train it with "
            "something in their place, as by `missing` mean"
        )
        raise fault(frame.source, f"{frame.place(row)}, column {column.name!r}: the value is missing", hint)
    if column.indicator:
        out[:, -1] = absent
        out = out[:, :-1]
    if column.kind == "category":
        _category(frame, column, values, absent, out, unseen)
    elif column.kind == "date":
        days = np.where(absent, column.fill or 0.0, days_of(frame, column.name))
        out[:, 0] = days
        for place, period, shift in ((1, 365.2425, 0.0), (3, 7.0, 3.0)):  # 1970-01-01 was a Thursday
            angle = 2 * np.pi * (days + shift) / period
            out[:, place], out[:, place + 1] = np.sin(angle), np.cos(angle)
    else:
        out[:, 0] = np.where(absent, column.fill or 0.0, np.where(absent, 0, values).astype(np.float64))


def _category(
    frame: Frame, column: Column, values: np.ndarray, absent: np.ndarray, out: np.ndarray, unseen: Unseen
) -> None:
    index = {level: i for i, level in enumerate(column.levels)}
    fill = index.get(str(column.fill), -1)
    codes = np.array([fill if gone else index.get(text, -2) for text, gone in zip(values, absent, strict=True)])
    if column.embedding:
        out[:, 0] = np.maximum(codes, -1) + 1
    else:
        out[:] = codes[:, None] == np.arange(len(column.levels))
    unseen.add(frame, column, values, np.flatnonzero(codes == -2))


def days_of(frame: Frame, name: str) -> np.ndarray:
    """Return dates as days since 1970, NaN where they are missing."""
    values = frame.columns[name]
    absent = has_missing(values)
    if values.dtype.kind == "O":
        for row in np.flatnonzero(~absent):
            if not DATE.fullmatch(values[row].strip()):
                raise _no_date(frame, name, int(row), values[row])
        try:
            texts = ["NaT" if gone else text.strip().rstrip("Z") for text, gone in zip(values, absent, strict=True)]
            values = np.array(texts, "datetime64[us]")
        except ValueError:
            wrong = next(i for i, text in enumerate(values) if text is not None and _bad(text))
            raise _no_date(frame, name, wrong, values[wrong]) from None
    elif values.dtype.kind != "M":
        first = int(np.argmax(~absent))
        raise _no_date(frame, name, first, values[first])
    days = values.astype("datetime64[us]").astype(np.int64) / 86_400e6
    return np.where(absent, np.nan, days)


def _bad(text: str) -> bool:
    try:
        np.datetime64(text.strip().rstrip("Z"))
    except ValueError:
        return True
    return False


def _no_date(frame: Frame, name: str, row: int, value: Any) -> DataFormatError:
    found = f"{frame.place(row)}, column {name!r}: {str(value)[:40]!r} is not a date"
    return fault(frame.source, found, "write dates as 2026-11-26 or 2026-11-26 13:45:00")


def _example(frame: Frame, column: Column, values: np.ndarray) -> str:
    """A value of another kind than the column, with its line."""
    known = np.flatnonzero(~has_missing(values))
    if column.kind in ("number", "boolean") and values.dtype.kind == "O":
        wrong = [row for row in known if number_of(str(values[row]).strip()) is None]
        known = np.array(wrong) if wrong else known
    return f" ({frame.place(int(known[0]))}: {str(values[known[0]])[:40]!r})" if len(known) else ""


def _levels_by_value(levels: Sequence[str]) -> dict[float | bool, str]:
    """Return the levels that look like a number or a boolean, by what they look like: 7.0 for 007, True for true.

    Two levels of the same value are left out. As keys, True and 1 are equal: levels of both kinds are left out, too.
    """
    found: dict[float | bool, list[str]] = {}
    for level in levels:
        value = {"true": True, "false": False}.get(level.lower())
        with contextlib.suppress(ValueError):
            found.setdefault(float(level) if value is None else value, []).append(level)
    return {value: same[0] for value, same in found.items() if len(same) == 1}


def _text(value: float) -> str:
    """A number or a boolean as it was probably written."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if float(value).is_integer() else str(value)
