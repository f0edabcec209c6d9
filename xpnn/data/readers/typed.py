"""Columns of polars as NumPy arrays. Text becomes numbers only if all cells of a column are numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnn.data.readers.plain import EXACT, MISSING, small, words

_HEAD = 1000


def from_text(pl: Any, s: Any, decimal: str) -> np.ndarray:
    """Return a column that was read as text, or already as float64 or int64.

    Parameters
    ----------
    pl
        The module polars.
    s
        The column, a Series, with null for empty cells.
    decimal
        The decimal sign.

    Returns
    -------
    ndarray
        As in `Frame`.
    """
    if s.null_count() == len(s):
        return np.full(len(s), np.nan)
    if s.dtype == pl.Float64:
        return s.to_numpy(writable=True)
    if s.dtype == pl.Int64:
        found = _integers(pl, s)
        return _words(pl, s.cast(pl.String), tidy=False) if found is None else found
    head = s.head(_HEAD).str.strip_chars()
    head = head.filter(~head.is_in(MISSING) & head.is_not_null())
    maybe = _floats(pl, head, decimal).null_count() == 0
    if maybe and (found := _numbers(pl, s, decimal)) is not None:
        return found
    if maybe:
        tidy = _tidy(pl, s)
        if tidy.null_count() == len(s):
            return np.full(len(s), np.nan)
        if (found := _numbers(pl, tidy, decimal)) is not None:
            return found
    return _words(pl, s, tidy=True)


def _tidy(pl: Any, s: Any) -> Any:
    """Return text without spaces around it, and null for what is missing."""
    s = s.str.strip_chars()
    column = pl.DataFrame({"s": s}).select(pl.when(pl.col("s").is_in(MISSING)).then(None).otherwise(pl.col("s")))
    return column.to_series()


def _floats(pl: Any, s: Any, decimal: str) -> Any:
    if decimal == ",":  # "1.5" is then a text
        s = s.str.replace_all(".", "x", literal=True).str.replace(",", ".", literal=True)
    return s.cast(pl.Float64, strict=False)


def _numbers(pl: Any, s: Any, decimal: str) -> np.ndarray | None:
    """Return the column as numbers, or None if they are not, or float64 would change them."""
    missing = s.null_count()
    integers = s.cast(pl.Int64, strict=False)
    if integers.null_count() == missing:
        if s.str.contains(r"^[+-]?0\d").any():  # 007 is a code
            return None
        return _integers(pl, integers)
    floats = _floats(pl, s, decimal)
    if floats.null_count() != missing:
        return None
    if s.str.contains(r"^[+-]?\d+$").all():  # more digits than int64 has
        return None
    return floats.to_numpy(writable=True)


def _integers(pl: Any, integers: Any) -> np.ndarray | None:
    if not integers.null_count():
        return small(integers.to_numpy(writable=True))
    if max(-integers.min(), integers.max()) > EXACT:
        return None
    return integers.cast(pl.Float64).to_numpy(writable=True)


def _words(pl: Any, s: Any, tidy: bool) -> np.ndarray:
    """Return text, or booleans if all cells are "true" or "false"."""
    distinct = s.drop_nulls().unique(maintain_order=True)
    if 2 * len(distinct) > len(s):
        return words(_tidy(pl, s).to_numpy(writable=True)) if tidy else s.to_numpy(writable=True)
    # rows with the same text share the string
    codes = s.cast(pl.Enum(distinct)).to_physical().cast(pl.UInt32).fill_null(len(distinct))
    known = (_tidy(pl, distinct) if tidy else distinct).to_list()
    lower = [text.lower() if text is not None else text for text in known]
    if tidy and not s.null_count() and set(lower) <= {"true", "false"}:
        return np.array([text == "true" for text in lower])[codes.to_numpy()]
    return np.array([*known, None], dtype=object)[codes.to_numpy()]


def from_column(pl: Any, s: Any) -> np.ndarray | None:
    """Return a column of a Parquet or Arrow file, or None if NumPy has no such values.

    Parameters
    ----------
    pl
        The module polars.
    s
        The column, a Series.

    Returns
    -------
    ndarray or None
        As in `Frame`. Booleans with missing values become text. Durations are seconds. Times with a zone become UTC.
    """
    found = numbers_or_text(pl, s)
    return found if found is None or isinstance(found, np.ndarray) else _words(pl, found, tidy=False)


def numbers_or_text(pl: Any, s: Any) -> Any:
    """Return a column as `from_column` does, but text as a Series of strings."""
    kind, missing = s.dtype, s.null_count()
    if kind == pl.Null or (missing == len(s) and not kind.is_temporal() and not kind.is_nested()):
        return np.full(len(s), np.nan)
    if kind in (pl.String, pl.Categorical, pl.Enum) or (kind == pl.Boolean and missing):
        return s.cast(pl.String)
    if kind == pl.Boolean:
        return np.asarray(s.to_numpy())
    if kind.is_integer():
        if s.max() < 2**63 and (found := _integers(pl, s.cast(pl.Int64))) is not None:
            return found
        return s.cast(pl.String)
    if kind.is_numeric():  # also decimals
        return s.cast(pl.Float64).to_numpy(writable=True)
    if kind == pl.Duration:
        return s.dt.total_microseconds().cast(pl.Float64).to_numpy(writable=True) / 1e6
    if kind in (pl.Date, pl.Datetime):
        if getattr(kind, "time_zone", None):
            s = s.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return s.cast(pl.Datetime("us")).to_numpy(writable=True).astype("datetime64[us]", copy=False)
    return None


def codes_of(pl: Any, s: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return strings as a code for each row, and the different ones: their bytes, and where each of them ends.

    The code of a missing value is the number of different strings.
    """
    distinct = s.drop_nulls().unique(maintain_order=True)
    codes = s.cast(pl.Enum(distinct)).to_physical().cast(pl.UInt32).fill_null(len(distinct))
    text = np.frombuffer("".join(distinct.to_list()).encode(), np.uint8)
    return codes.to_numpy(), text, np.cumsum(distinct.str.len_bytes().to_numpy().astype(np.int64))
