"""Tables of mixed columns, from CSV text, Parquet and Arrow files."""

from __future__ import annotations

import contextlib
import io
import mmap
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.data import limits
from xpnn.data.columnar import check_arrow, check_parquet
from xpnn.data.columnar.scratch import free_scratch_bytes, no_space
from xpnn.data.columnar.stored import ColumnWriter, blocks_of
from xpnn.data.files import NO_PICKLE, describe, fault
from xpnn.data.frame import Frame
from xpnn.data.limits import FLOOR, LARGE, RATIO, ensure_memory, memory_scope
from xpnn.data.readers import extra
from xpnn.data.readers.header import Header, read_header
from xpnn.data.readers.plain import MISSING, leading_zeros, read_plain
from xpnn.data.readers.records import Records, scan
from xpnn.data.readers.sources import is_pipe, name_of, read_source, to_text
from xpnn.data.readers.tally import tally
from xpnn.data.readers.typed import codes_of, from_column, from_text, numbers_or_text
from xpnn.data.text import listed, number_of
from xpnn.devices.cpu_blas import usable_cores
from xpnn.devices.memory import free_host_bytes
from xpnn.errors import DataError, XpnnError

_TEXTS = (".csv", ".tsv", ".txt")
_PACKED = ("", ".gz", ".zst")
_COLUMNAR = (".parquet", ".pq", ".arrow", ".feather", ".ipc")
_BLOCK = 2**25  # bytes of columns of a large file that are read at a time
_CELL = 32  # bytes that reading, encoding and splitting a cell take
_SAVE = "save it again, or download it again"
_PARQUET = "save it again as Parquet, or download it again"
_PANDAS_INDEX = "__index_level_"  # pandas writes the row numbers of a filtered table to Parquet under this name


def is_frame(path: str | Path) -> bool:
    """Return whether the path is that of a table which `read_frame` reads, by its name.

    Parameters
    ----------
    path
        Name of a file, ``"-"`` for standard input, or a pipe.

    Returns
    -------
    bool

    Examples
    --------
    >>> is_frame("data/flowers.csv.gz"), is_frame("flowers.parquet"), is_frame("mnist")
    (True, True, False)
    """
    name = str(path).lower()
    texts = tuple(text + packed for text in _TEXTS for packed in _PACKED)
    return name.endswith(texts + _COLUMNAR) or is_pipe(path)


def read_frame(path: str | Path, *, separator: str | None = None, decimal: str = ".", encoding: str = "utf-8") -> Frame:
    """Read a table of mixed columns.

    Parameters
    ----------
    path
        CSV file, plain or packed with gzip or Zstandard; Parquet or Arrow file; ``"-"`` for standard input, or a pipe.
        The type is detected from the content.
    separator
        Separator of a CSV file. By default it is detected from the header.
    decimal
        Decimal sign of a CSV file, ``"."`` or ``","``.
    encoding
        Encoding of a CSV file.

    Returns
    -------
    Frame
        A column is numeric if all its cells are numbers or missing (empty, ``NA``, ``?``, …). Integers with leading
        zeros, and integers that the dtype cannot hold, remain text, as do dates in CSV files.

    Raises
    ------
    InputError
        If the file cannot be read, an argument is wrong, or a library is needed that is not installed.
    DataFormatError
        If the file is damaged, is not a table, or holds an infinite number. The message names the line.

    Notes
    -----
    Numbers with at most one column of text are read by NumPy alone. Everything else is parsed by polars. Parquet and
    Arrow files whose numbers take 256 MiB and more are read column by column into a temporary file: see
    `Frame.is_stored`.
    """
    source = name_of(path)
    with memory_scope(source):
        stored = None if is_pipe(path) else _stored(source)
        return _read(source, read_source(path), separator, decimal, encoding) if stored is None else stored


def _read(source: str, data: bytes, separator: str | None, decimal: str, encoding: str) -> Frame:
    head = data[:512]
    if head.startswith(b"PAR1"):
        return _columnar(
            source, "a Parquet file", lambda: check_parquet(source, data), lambda pl: pl.read_parquet(io.BytesIO(data))
        )
    if head.startswith(b"ARROW1"):
        return _columnar(
            source, "an Arrow file", lambda: check_arrow(source, data), lambda pl: pl.read_ipc(io.BytesIO(data))
        )
    if head.startswith(b"\xff\xff\xff\xff"):
        return _columnar(
            source,
            "an Arrow stream",
            lambda: check_arrow(source, data),
            lambda pl: pl.read_ipc_stream(io.BytesIO(data)),
        )
    if head.startswith(b"FEA1"):
        raise fault(source, "found version 1 of Feather, which is outdated", "write it again with a newer library")
    if describe(head) == "a Python pickle":
        raise fault(source, "is a Python pickle", NO_PICKLE)
    if head.startswith(b"PK\x03\x04") and source.lower().endswith((".xlsx", ".ods")):
        raise fault(source, "is a spreadsheet", "save it as CSV")
    if source.lower().endswith(_COLUMNAR):
        raise fault(source, f"found {describe(head) or 'text'}, not a Parquet or Arrow file", _SAVE)
    text = to_text(source, data, encoding)
    header = read_header(source, text, separator, decimal)
    ensure_memory(source, len(text) + _CELL * (text.count(header.separator.encode()) + text.count(b"\n")), LARGE)
    pl = extra.find("polars")
    if pl is None:
        records = scan(source, text, header.start, header.line, header.separator, len(header.names))
        columns = read_plain(source, header, records, decimal)
    else:
        columns, records = _parsed(pl, source, text, header, decimal)
    return _finite(Frame(source, columns, records.lines))


def _parsed(pl: Any, source: str, text: bytes, header: Header, decimal: str) -> tuple[dict[str, np.ndarray], Records]:
    """Parse the rows with polars, and look at each line only if polars may have misread one."""
    fast = tally(text, header)
    table = None
    if fast is not None:
        records, separators = fast
        with contextlib.suppress(Exception, pl.exceptions.PanicException):  # `scan` finds the line
            table = _table(pl, header, records, decimal)
        if table is not None and not _is_whole(table, records, separators):
            table = None
    if table is None:
        records = scan(source, text, header.start, header.line, header.separator, len(header.names))
        table = _scanned(pl, source, header, records, decimal)
    series = [table.to_series(i) for i in range(len(header.names))]
    with ThreadPoolExecutor(min(4, usable_cores())) as pool:  # polars releases the lock
        columns = list(pool.map(lambda column: from_text(pl, column, decimal), series))
    return dict(zip(header.names, columns, strict=True)), records


def _is_whole(table: Any, records: Records, separators: int | None) -> bool:
    """Return whether each row has all its cells: its last one is not null, or the separators are as many."""
    if len(table) != len(records.lines):
        return False
    return not table.to_series(records.cells - 1).null_count() or separators == len(table) * (records.cells - 1)


def _scanned(pl: Any, source: str, header: Header, records: Records, decimal: str) -> Any:
    """Parse rows that `scan` has checked. Raises DataFormatError."""
    try:
        table = _table(pl, header, records, decimal)
    except (Exception, pl.exceptions.PanicException) as error:
        raise _damaged(source, "a table that polars can read", error) from None
    if len(table) != len(records.lines):
        raise fault(source, f"has {len(records.lines)} rows, but polars reads {len(table)}", _SAVE)
    if records.cells > len(header.names):
        last = table.to_series(records.cells - 1)
        if last.null_count() < len(last):
            line, width = records.lines[last.is_not_null().arg_true()[0]], len(header.names)
            found = f"line {line} has {width + 1} cells, the header has {width}"
            raise fault(source, found, "each line needs as many cells as the header")
    return table


def _table(pl: Any, header: Header, records: Records, decimal: str) -> Any:
    """Parse columns that begin with numbers as such if possible, and the others as text."""
    kinds, missing = [pl.String] * records.cells, dict[str, str]()
    for i in range(len(header.names) if decimal == "." else 0):
        every = [cell.strip() for row in header.sample for cell in row[i : i + 1]]
        cells = [cell for cell in every if cell not in MISSING]
        if cells and all(number_of(cell) is not None for cell in cells):
            kinds[i] = pl.Float64 if any("." in cell for cell in cells) else pl.Int64
            missing |= {str(i): cell for cell in every if cell and cell in MISSING}
    if pl.Int64 in kinds and leading_zeros(records.text, records.start, header.separator):
        kinds = [pl.String if kind == pl.Int64 else kind for kind in kinds]

    def read(kinds: list[Any], missing: Any) -> Any:
        return pl.read_csv(
            records.text,
            has_header=False,
            skip_lines=records.text.count(b"\n", 0, records.start),
            separator=header.separator,
            quote_char='"' if records.quoted else None,
            null_values=missing,
            schema={str(i): kind for i, kind in enumerate(kinds)},
        )

    # Each text for missing values that polars compares takes its time, so at first it gets one for a column of numbers,
    # and none for text, of which `from_text` looks at the different ones only.
    for attempt in (missing or None, list(MISSING)):
        with contextlib.suppress(pl.exceptions.ComputeError):  # not all are numbers
            return read(kinds, attempt)
    return read([pl.String] * records.cells, None)


def _check_size(source: str, rows: int, columns: int, size: int) -> None:
    most = max(4 * FLOOR, 10 * RATIO * size)
    if 8 * rows * columns > most:
        found = f"has {rows} rows and {columns} columns in {size} bytes, {8 * rows * columns} bytes as numbers"
        raise DataError(f"{source!r}: {found}, expected at most {most}; save it as CSV if it is right")
    ensure_memory(source, _CELL * rows * columns, LARGE)


def _columnar(source: str, kind: str, check: Callable[[], int], read: Callable[[Any], Any]) -> Frame:
    pl = extra.need("polars", source, f"is {kind}")
    ensure_memory(source, _CELL * check(), LARGE)  # polars would end the process
    columns = {}
    with _reading(pl, source, kind):
        table = read(pl)
        _check_size(source, len(table), len(table.columns), table.estimated_size() or 1)
        for series in table.iter_columns():
            if not series.name.startswith(_PANDAS_INDEX):
                columns[series.name] = (from_column(pl, series), series.dtype)
    _check_columns(source, {name: None if x is not None else dtype for name, (x, dtype) in columns.items()}, len(table))
    lines = np.arange(1, len(table) + 1)
    return _finite(Frame(source, {name: x for name, (x, _) in columns.items() if x is not None}, lines, "row"))


def _check_columns(source: str, unknown: dict[str, Any], rows: int) -> None:
    """Check the columns: their names, with the type of those whose values cannot be used, otherwise None."""
    if not unknown or not rows:
        raise fault(source, f"has {len(unknown)} columns and {rows} rows", "add the data")
    if wrong := [name for name, dtype in unknown.items() if dtype is not None]:
        found = f"column {wrong[0]!r} holds values of type {unknown[wrong[0]]}"
        raise fault(source, found, f"remove it or convert it to numbers or text ({listed(wrong)})")
    if "" in unknown:
        raise fault(source, "a column has no name", "name it or remove it")


def _stored(path: str) -> Frame | None:
    """Return a large Parquet or Arrow file as columns in a temporary file; None for any other, which is read whole."""
    try:
        with open(path, "rb") as file:
            head, size = file.read(6), os.fstat(file.fileno()).st_size
            is_parquet, is_arrow = head.startswith(b"PAR1"), head == b"ARROW1"
            if not (is_parquet or is_arrow) or 10 * RATIO * size < limits.MAPPED_FROM:
                return None
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):
        return None  # `read_source` says why
    cells = (check_parquet if is_parquet else check_arrow)(path, data)
    if 8 * cells < limits.MAPPED_FROM:
        return None
    if free_scratch_bytes() < 16 * cells:  # the columns, and the table that they become
        free = free_host_bytes()
        if free is None or _CELL * cells < free:
            return None
        raise no_space(path, 16 * cells, "too little space")
    kind = "a Parquet file" if is_parquet else "an Arrow file"
    pl = extra.need("polars", path, f"is {kind}")
    writer = ColumnWriter(path, 16 * cells)
    try:
        unknown: dict[str, Any] = {}
        with _reading(pl, path, kind), open(path, "rb") as file:  # a name could be that of many files, or of a server
            table = pl.scan_parquet(file) if is_parquet else pl.scan_ipc(file)
            rows = table.select(pl.len()).collect().item()
            kinds = [
                None if name.startswith(_PANDAS_INDEX) else dtype.is_numeric()
                for name, dtype in table.collect_schema().items()
            ]
            most = min(_BLOCK, (free_host_bytes() or _BLOCK) // 8)
            for block in blocks_of(kinds, max(1, most // (8 * max(1, rows)))):
                ensure_memory(path, _CELL * rows * len(block), LARGE)
                for series in table.select(pl.nth(block)).collect().iter_columns():
                    unknown[series.name] = _store(pl, writer, series)
        _check_columns(path, unknown, rows)
        columns = writer.columns()
    finally:
        writer.close()
    return _finite(Frame(path, columns, np.arange(1, rows + 1), "row"))


def _store(pl: Any, writer: ColumnWriter, series: Any) -> Any:
    """Write a column; return its type if it has no values that can be used."""
    found = numbers_or_text(pl, series)
    if found is None:
        return series.dtype
    writer.add(series.name, *([found] if isinstance(found, np.ndarray) else codes_of(pl, found)))
    return None


@contextlib.contextmanager
def _reading(pl: Any, source: str, kind: str) -> Iterator[None]:
    """Turn the exceptions of polars for a damaged file into our own."""
    try:
        with _quiet():
            yield
    except (XpnnError, MemoryError):
        raise
    except (Exception, pl.exceptions.PanicException) as error:
        raise _damaged(source, kind, error, _PARQUET) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Discard what is written to standard error: in damaged files, Rust panics, and prints each time where it did."""
    try:
        saved = os.dup(2)
    except OSError:  # closed
        yield
        return
    try:
        with open(os.devnull, "wb") as null:
            os.dup2(null.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _finite(frame: Frame) -> Frame:
    for name, x in frame.columns.items():
        if x.dtype.kind == "f" and (infinite := np.isinf(x)).any():
            row = int(infinite.argmax())
            found = f"{frame.place(row)}, column {name!r}: {x[row]} is not a finite number"
            raise fault(frame.source, found, "replace it, or leave the cell empty")
    return frame


def _damaged(source: str, kind: str, error: BaseException, hint: str = _SAVE) -> Exception:
    reason = str(error).strip().partition("\n")[0][:160] or type(error).__name__
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in reason)
    return fault(source, f"is not {kind}, or is damaged ({shown})", hint)
