"""How the columns of a table become the numbers that a network takes; fitted on the training rows, and saved."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np

from xpnn.data.columnar.scratch import mapped_rows
from xpnn.data.files import fault
from xpnn.data.frame import Frame
from xpnn.data.tables.column import DATE, Column, Unseen, as_booleans, days_of, has_missing, write_outputs
from xpnn.data.text import listed, number_of
from xpnn.errors import InputError

#: What may be done with missing values.
MISSING = ("error", "drop", "mean", "median", "most-frequent", "indicator")
MOST_LEVELS = 1000
_LARGEST = 50  # the vectors of categories: half as many numbers as there are texts, but at most so many
_COMMA = re.compile(r"[+-]?\d+,\d+")


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

    @property
    def embedded(self) -> dict[int, Column]:
        """The categories of which the network learns vectors, by the number of their output."""
        ends = accumulate(len(column.outputs) for column in self.columns)
        ordered = zip(ends, self.columns, strict=True)
        return {end - len(column.outputs): column for end, column in ordered if column.embedding}

    @property
    def width(self) -> int:
        """How many numbers the network gets for a row, after the categories have become vectors."""
        return len(self.outputs) + sum(column.embedding - 1 for column in self.embedded.values())

    @classmethod
    def fit(
        cls,
        frame: Frame,
        names: Sequence[str],
        *,
        missing: str = "error",
        dates: Sequence[str] = (),
        embedding_above: int | None = None,
    ) -> Schema:
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
        embedding_above : int, optional
            The network learns a vector for each text of a column with more different texts than this, of half as many
            numbers as there are texts, at most 50. By default, all texts are one-hot.

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
        fit_to = cls.scan(frame, names, missing=missing, dates=dates, embedding_above=embedding_above)
        return fit_to(np.arange(len(frame.lines)))

    @classmethod
    def scan(
        cls, frame: Frame, names: Sequence[str], *, missing: str, dates: Sequence[str], embedding_above: int | None
    ) -> Callable[[np.ndarray], Schema]:
        """Look for faults in all rows; the function that is returned fits a schema to the rows with these numbers.

        The arguments and exceptions are those of `fit`.
        """

        def fitter_of(name: str) -> _Fitter:
            return _fitter(frame, name, missing, name in dates, embedding_above)

        if frame.is_stored:  # fitters keep what they have read
            for name in names:
                fitter_of(name)
            return lambda rows: cls(tuple(fitter_of(name)(rows) for name in names))
        fitters = [fitter_of(name) for name in names]
        return lambda rows: cls(tuple(fitter(rows) for fitter in fitters))

    def encode(self, frame: Frame) -> Any:
        """Return the encoded rows.

        Parameters
        ----------
        frame : Frame
            Rows with at least the columns of the schema.

        Returns
        -------
        ndarray, (rows, outputs)
            uint8 if all columns are numbers of that dtype, as in images; otherwise float64. Those of a frame that is
            stored are `MappedRows` of a temporary file.

        Raises
        ------
        InputError
            If a column is missing, or of another kind than in training.
        DataFormatError
            If a value is missing and the schema has nothing to put in its place.
        SaveError
            If there is no space for the temporary file.
        """
        absent = [name for name in self.names if name not in frame.columns]
        if absent:
            raise InputError(
                f"{frame.source!r}: {len(absent)} of {len(self.names)} features missing: {listed(absent)}; "
                f"its columns are {listed(frame.columns)}"
            )
        is_bytes = all(column.kind == "number" for column in self.columns) and all(
            frame.columns[name].dtype == np.uint8 for name in self.names
        )
        row_bytes, unseen = len(self.outputs) * (1 if is_bytes else 8), Unseen()
        parts = (self._encode(part, is_bytes, unseen) for part in frame.parts(row_bytes))
        encoded = mapped_rows(frame.source, parts, len(frame.lines)) if frame.is_stored else next(parts)
        unseen.warn(frame.source, self.columns)
        return encoded

    def _encode(self, frame: Frame, is_bytes: bool, unseen: Unseen) -> np.ndarray:
        if is_bytes:
            return np.stack([frame.columns[name] for name in self.names], axis=1)
        encoded = np.empty((len(frame.lines), len(self.outputs)))
        first = 0
        for column in self.columns:
            last = first + len(column.outputs)
            write_outputs(frame, column, encoded[:, first:last], unseen)
            first = last
        return encoded

    def to_json(self) -> list[dict[str, Any]]:
        """Return the schema as plain data."""
        return [dataclasses.asdict(column) for column in self.columns]

    @classmethod
    def from_json(cls, data: Any) -> Schema:
        """Return the schema from plain data. Raises TypeError or KeyError if it is none."""
        return cls(tuple(Column(**{**fields, "levels": tuple(fields["levels"])}) for fields in data))


_Fitter: TypeAlias = Callable[[np.ndarray], Column]  # of the numbers of the training rows


def _fitter(frame: Frame, name: str, missing: str, is_date: bool, embedding_above: int | None) -> _Fitter:
    """Return the function that fits a column, after a look for faults in all rows."""
    values, is_boolean = as_booleans(frame.columns[name])
    absent = has_missing(values)
    _check_missing(frame, name, absent, missing)
    if is_date or values.dtype.kind == "M":
        days = days_of(frame, name)

        def fill_of(rows: np.ndarray) -> float:
            return float(np.nanmedian(days[rows]))

        kind = "date"
    elif values.dtype.kind == "O":
        return _category(frame, name, absent, missing, embedding_above)
    else:
        kind = "boolean" if is_boolean else "number"

        def fill_of(rows: np.ndarray) -> float:
            known = values[rows][~absent[rows]].astype(np.float64)
            if missing == "most-frequent":
                distinct, counts = np.unique(known, return_counts=True)
                return float(distinct[np.argmax(counts)])
            return float(np.median(known) if missing == "median" else known.mean())

    def fitted(rows: np.ndarray) -> Column:
        _check_missing(frame, name, absent[rows], missing)
        fill = None if missing in ("error", "drop") else fill_of(rows)
        return Column(name, kind, fill=fill, indicator=missing == "indicator" and bool(absent[rows].any()))

    return fitted


def _check_missing(frame: Frame, name: str, absent: np.ndarray, missing: str) -> None:
    if absent.all():
        raise InputError(f"{frame.source!r}: column {name!r} has no values; leave it out by `drop` {name}")
    if absent.any() and missing in ("error", "drop"):
        row = int(np.argmax(absent))
        raise fault(
            frame.source,
            f"{frame.place(row)}, column {name!r}: the value is missing ({int(absent.sum()):,} of {len(absent):,} are)",
            "fill it in, or say what to do with `missing`, for example `missing` mean",
        )


def _category(frame: Frame, name: str, absent: np.ndarray, missing: str, embedding_above: int | None) -> _Fitter:
    values = frame.columns[name]
    levels = sorted({value for value in values.tolist() if value is not None})
    index = {level: i for i, level in enumerate(levels)}
    codes = np.array([index[value] for value in values[~absent].tolist()])
    _check_texts(frame, name, levels, np.bincount(codes, minlength=len(levels)))
    if len(levels) > MOST_LEVELS and (embedding_above is None or len(levels) <= embedding_above):
        raise InputError(
            f"{frame.source!r}: column {name!r} has {len(levels):,} different texts; expected at most {MOST_LEVELS:,}; "
            f"learn a vector for each by `embedding_above` {MOST_LEVELS}, join some of them, or leave it out by `drop` "
            f"{name}"
        )
    codes_of_rows = np.full(len(values), -1)
    codes_of_rows[~absent] = codes

    def fitted(rows: np.ndarray) -> Column:
        _check_missing(frame, name, absent[rows], missing)
        known = codes_of_rows[rows]
        counts = np.bincount(known[known >= 0], minlength=len(levels))
        seen = tuple(level for level, count in zip(levels, counts.tolist(), strict=True) if count)
        is_large = embedding_above is not None and len(seen) > embedding_above
        embedding = min(_LARGEST, math.ceil(len(seen) / 2)) if is_large else 0
        fill = None if missing in ("error", "drop", "indicator") else levels[int(np.argmax(counts))]
        return Column(name, "category", seen, fill, missing == "indicator" and bool(absent[rows].any()), embedding)

    return fitted


def _check_texts(frame: Frame, name: str, levels: list[str], counts: np.ndarray) -> None:
    """Raise InputError or DataFormatError if the texts, which occur so often, are no categories."""
    values = frame.columns[name]
    are_numbers = np.array([number_of(text) is not None for text in levels])
    with_commas = np.array([_COMMA.fullmatch(text.strip()) is not None for text in levels])
    if (are_numbers | with_commas).all() or counts[are_numbers].sum() >= 0.5 * counts.sum():
        wrong = {text for text, is_number in zip(levels, are_numbers, strict=True) if not is_number}
        if wrong:
            row = next(i for i, text in enumerate(values) if text in wrong)
            hint = f"write a number, leave it empty, or leave the column out by `drop` {name}"
            if _COMMA.fullmatch(values[row].strip()):
                hint = "use a decimal point instead of a comma, or say `decimal` ,"
            found = f"{frame.place(row)}, column {name!r}: {values[row][:40]!r} is not a number"
            raise fault(frame.source, found, hint)
    if all(DATE.fullmatch(text.strip()) for text in levels[:1000]):
        raise InputError(
            f"{frame.source!r}: column {name!r} holds dates ({levels[0]}); use them by `date` {name}, or leave them "
            f"out by `drop` {name}"
        )
    if len(levels) == counts.sum() and len(levels) > 20:
        raise InputError(
            f"{frame.source!r}: column {name!r} has a different text in each row ({listed(levels, 3)}), so it cannot "
            f"help to predict other rows; leave it out by `drop` {name}, or keep it beside the predictions by `id` "
            f"{name}"
        )
