"""How the columns of a table become the numbers that a network takes; fitted on the training rows, and saved."""

from __future__ import annotations

import dataclasses
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

#: What may be done with missing values.
MISSING = ("error", "drop", "mean", "median", "most-frequent", "indicator")
MOST_LEVELS = 1000
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?Z?")
_COMMA = re.compile(r"[+-]?\d+,\d+")
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
        else 0 (one-hot). A date is the days since 1970, and sine and cosine of its place in the year and in the week.
    levels : tuple of str
        The texts of a category in the training rows, sorted.
    fill : float, str or None
        What takes the place of a missing value: a number (of a date: days since 1970), a level, or None if a missing
        value is an error; of a category with indicator, no level.
    indicator : bool
        Whether one more output is 1 where the value is missing.
    """

    name: str
    kind: str
    levels: tuple[str, ...] = ()
    fill: float | str | None = None
    indicator: bool = False

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of its outputs."""
        parts = {"category": self.levels, "date": ("days", "sin year", "cos year", "sin week", "cos week")}
        own = tuple(f"{self.name}={part}" for part in parts[self.kind]) if self.kind in parts else (self.name,)
        return (*own, f"{self.name} is missing") if self.indicator else own


@dataclass(frozen=True)
class Schema:
    """How the columns of a table become numbers.

    Attributes
    ----------
    columns : tuple of Column
        The columns that are read, in order.
    """

    columns: tuple[Column, ...]

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the columns of the encoded table."""
        return tuple(name for column in self.columns for name in column.outputs)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are read."""
        return tuple(column.name for column in self.columns)

    @classmethod
    def fit(cls, frame: Frame, names: Sequence[str], *, missing: str = "error", dates: Sequence[str] = ()) -> Schema:
        """Decide how columns are encoded.

        Parameters
        ----------
        frame : Frame
            The training rows.
        names : sequence of str
            The columns that are features.
        missing : str
            One of `MISSING`: "mean", "median" and "most-frequent" take the place of missing numbers; missing text is
            replaced by the most frequent one. "indicator" uses the mean, and adds an output that is 1 where a value is
            missing.
        dates : sequence of str
            The columns that hold dates.

        Returns
        -------
        Schema

        Raises
        ------
        InputError
            If a column cannot be a feature.
        DataFormatError
            If a value of a column is not of the kind of the others.
        """
        return cls(tuple(_fitted(frame, name, missing, name in dates) for name in names))

    def encode(self, frame: Frame) -> np.ndarray:
        """Return the encoded rows.

        Parameters
        ----------
        frame : Frame
            Rows with at least the columns of the schema.

        Returns
        -------
        ndarray, (rows, outputs)
            uint8 if all columns are numbers of that dtype, as in images; otherwise float64.

        Raises
        ------
        InputError
            If a column is missing, or of another kind than in training.
        DataFormatError
            If a value is missing and the schema has nothing to put in its place.
        """
        absent = [name for name in self.names if name not in frame.columns]
        if absent:
            raise InputError(
                f"{frame.source!r}: {len(absent)} of {len(self.names)} features missing: {listed(absent)}; "
                f"its columns are {listed(frame.columns)}"
            )
        read = [frame.columns[name] for name in self.names]
        if all(column.kind == "number" for column in self.columns) and all(x.dtype == np.uint8 for x in read):
            return np.stack(read, axis=1)
        encoded = np.empty((len(frame.lines), len(self.outputs)))
        first = 0
        for column in self.columns:
            last = first + len(column.outputs)
            _encode(frame, column, encoded[:, first:last])
            first = last
        return encoded

    def to_json(self) -> list[dict[str, Any]]:
        """Return the schema as plain data."""
        return [dataclasses.asdict(column) for column in self.columns]

    @classmethod
    def from_json(cls, data: Any) -> Schema:
        """Return the schema from plain data. Raises TypeError or KeyError if it is none."""
        return cls(tuple(Column(**{**fields, "levels": tuple(fields["levels"])}) for fields in data))


def has_missing(values: np.ndarray) -> np.ndarray:
    """Return where a column of a frame has no value, bool of shape (n,)."""
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind == "M":
        return np.isnat(values)
    if values.dtype.kind == "O":
        return np.array([value is None for value in values], bool)
    return np.zeros(len(values), bool)


def _fitted(frame: Frame, name: str, missing: str, is_date: bool) -> Column:
    values, is_boolean = _booleans(frame.columns[name])
    absent = has_missing(values)
    if absent.all():
        raise InputError(f"{frame.source!r}: column {name!r} has no values; leave it out by `drop` {name}")
    if absent.any() and missing in ("error", "drop"):
        row = int(np.argmax(absent))
        raise fault(
            frame.source,
            f"{frame.place(row)}, column {name!r}: the value is missing ({int(absent.sum()):,} of {len(absent):,} are)",
            "fill it in, or say what to do with `missing`, for example `missing` mean",
        )
    indicator = missing == "indicator" and bool(absent.any())
    if is_date or values.dtype.kind == "M":
        days = _days(frame, name)
        fill = None if missing in ("error", "drop") else float(np.nanmedian(days))
        return Column(name, "date", fill=fill, indicator=indicator)
    if values.dtype.kind == "O":
        return _category(frame, name, missing, indicator)
    kind = "boolean" if is_boolean else "number"
    known = values[~absent].astype(np.float64)
    if missing == "most-frequent":
        distinct, counts = np.unique(known, return_counts=True)
        number: float | None = float(distinct[np.argmax(counts)])
    else:
        number = {"mean": known.mean, "indicator": known.mean, "median": lambda: np.median(known)}.get(
            missing, lambda: None
        )()
    return Column(name, kind, fill=None if number is None else float(number), indicator=indicator)


def _booleans(values: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return (values, whether they are true and false). Text of true and false, with gaps, becomes 1, 0 and NaN."""
    if values.dtype.kind == "O":
        known = {value for value in values.tolist() if value is not None}
        if not known or not {str(value).lower() for value in known} <= {"true", "false"}:
            return values, False
        read = [np.nan if value is None else float(str(value).lower() == "true") for value in values.tolist()]
        return np.array(read), True
    return values, values.dtype.kind == "b"


def _category(frame: Frame, name: str, missing: str, indicator: bool) -> Column:
    values = frame.columns[name]
    texts = [value for value in values if value is not None]
    levels, counts = np.unique(texts, return_counts=True)
    numbers = [number_of(text) for text in levels]
    are_numbers = np.array([number is not None for number in numbers])
    with_commas = np.array([_COMMA.fullmatch(text.strip()) is not None for text in levels])
    if (are_numbers | with_commas).all() or counts[are_numbers].sum() >= 0.5 * len(texts):
        wrong = set(levels[~are_numbers])
        if wrong:
            row = next(i for i, text in enumerate(values) if text in wrong)
            hint = f"write a number, leave it empty, or leave the column out by `drop` {name}"
            if _COMMA.fullmatch(values[row].strip()):
                hint = "use a decimal point instead of a comma, or say `decimal` ,"
            found = f"{frame.place(row)}, column {name!r}: {values[row][:40]!r} is not a number"
            raise fault(frame.source, found, hint)
    if all(_DATE.fullmatch(text.strip()) for text in levels[:1000]):
        raise InputError(
            f"{frame.source!r}: column {name!r} holds dates ({levels[0]}); use them by `date` {name}, or leave them "
            f"out by `drop` {name}"
        )
    if len(levels) == len(texts) and len(levels) > 20:
        raise InputError(
            f"{frame.source!r}: column {name!r} has a different text in each row ({listed(levels, 3)}), so it cannot "
            f"help to predict other rows; leave it out by `drop` {name}, or keep it beside the predictions by `id` "
            f"{name}"
        )
    if len(levels) > MOST_LEVELS:
        raise InputError(
            f"{frame.source!r}: column {name!r} has {len(levels):,} different texts; expected at most {MOST_LEVELS:,}; "
            f"join some of them, or leave it out by `drop` {name}"
        )
    common = str(levels[np.argmax(counts)])
    fill = None if missing in ("error", "drop", "indicator") else common
    return Column(name, "category", tuple(map(str, levels)), fill, indicator)


def _encode(frame: Frame, column: Column, out: np.ndarray) -> None:
    """Write the outputs of a column into `out`, (rows, outputs)."""
    values = frame.columns[column.name]
    if column.kind == "boolean":
        values, _ = _booleans(values)
    absent = has_missing(values)
    if column.kind == "category" and values.dtype.kind in "iufb":  # all of its texts look like numbers in this file
        values = np.array([None if gone else _text(x) for x, gone in zip(values.tolist(), absent, strict=True)], object)
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
        hint = "fill it in; the model was trained without missing values there"
        raise fault(frame.source, f"{frame.place(row)}, column {column.name!r}: the value is missing", hint)
    if column.indicator:
        out[:, -1] = absent
        out = out[:, :-1]
    if column.kind == "category":
        _one_hot(frame, column, values, absent, out)
    elif column.kind == "date":
        days = np.where(absent, column.fill or 0.0, _days(frame, column.name))
        out[:, 0] = days
        for place, period, shift in ((1, 365.2425, 0.0), (3, 7.0, 3.0)):  # 1970-01-01 was a Thursday
            angle = 2 * np.pi * (days + shift) / period
            out[:, place], out[:, place + 1] = np.sin(angle), np.cos(angle)
    else:
        out[:, 0] = np.where(absent, column.fill or 0.0, np.where(absent, 0, values).astype(np.float64))


def _one_hot(frame: Frame, column: Column, values: np.ndarray, absent: np.ndarray, out: np.ndarray) -> None:
    index = {level: i for i, level in enumerate(column.levels)}
    fill = index.get(str(column.fill), -1)
    codes = np.array([fill if gone else index.get(text, -2) for text, gone in zip(values, absent, strict=True)])
    out[:] = codes[:, None] == np.arange(len(column.levels))
    unseen = np.flatnonzero(codes == -2)
    if len(unseen):
        texts = listed(dict.fromkeys(values[unseen].tolist()), 3)
        warnings.warn(
            f"{frame.source!r}: {frame.place(unseen[0])}, column {column.name!r}: {texts} did not occur in training; "
            f"{len(unseen):,} such rows count as none of its {len(column.levels)} categories",
            stacklevel=2,
        )


def _days(frame: Frame, name: str) -> np.ndarray:
    """Return dates as days since 1970, NaN where they are missing."""
    values = frame.columns[name]
    absent = has_missing(values)
    if values.dtype.kind == "O":
        for row in np.flatnonzero(~absent):
            if not _DATE.fullmatch(values[row].strip()):
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


def _text(value: float) -> str:
    """A number as it was probably written."""
    return str(int(value)) if float(value).is_integer() else str(value)
