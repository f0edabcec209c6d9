"""xpnn predict: predict the rows of a file with a saved network."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from xpnn.cli.terminal.console import escaped, print_result
from xpnn.cli.terminal.options import (
    Backend,
    Debug,
    Decimal,
    Device,
    Encoding,
    Json,
    NoFallback,
    Run,
    check_output,
    choose_place,
)
from xpnn.data.datasets import is_table
from xpnn.data.readers import extra
from xpnn.data.text import listed, number_of
from xpnn.errors import InputError
from xpnn.experiments import Predictions, SavedRun
from xpnn.experiments.options import parse_names
from xpnn.experiments.run_folder import SCHEMA_VERSION
from xpnn.training.saving.atomic_write import write_whole
from xpnn.validation import one_of

_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")  # with these, a formula begins in Excel, LibreOffice and others
_FORMS = (".csv", ".parquet")
PROBABILITIES = ("top", "all", "none")


def predict(
    run: Run,
    file: Annotated[Path, typer.Argument(help="Rows to predict: a table (columns by name), .npy or IDX images.")],
    output: Annotated[
        Path | None, typer.Option(help="File to write, .csv or .parquet. [default: CSV on standard output]")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="NAME=NEW,…", help="Columns to write, and their names, as id=ImageId,prediction=Label."),
    ] = None,
    probabilities: Annotated[
        str, typer.Option(metavar="|".join(PROBABILITIES), help="Write the probability of the class, of all, or none.")
    ] = "top",
    encoding: Encoding = None,
    decimal: Decimal = None,
    first_row: Annotated[int, typer.Option(help="The number of the first row.")] = 0,
    device: Device = "auto",
    backend: Backend = "auto",
    no_fallback: NoFallback = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Predict the rows of a file with a saved network.

    Prints the class of each row, and its probability; in regression the number. In CSV, a text that a spreadsheet would
    compute as a formula, such as =A1, gets an apostrophe in front.
    """
    one_of("--probabilities", probabilities, PROBABILITIES)
    saved = SavedRun.open(run).reading(encoding=encoding, decimal=decimal)
    ending = "" if output is None else output.suffix.lower()
    if output is not None:
        check_output(output)
        if ending not in _FORMS:
            raise InputError(f"--output: {str(output)!r} ends with {ending!r}; expected one of {', '.join(_FORMS)}")
        if ending == ".parquet":
            extra.need("polars", str(output), "a Parquet file")
    samples, ids = _read(saved, file)
    place = choose_place(device, backend, not no_fallback, saved.precision)
    found = saved.predict(samples, place)
    numbers = range(first_row, first_row + len(found.scores))
    predicted = _predicted(saved, found, probabilities)
    table = _table(numbers, ids, predicted, columns)
    with_numbers = _table(numbers, ids, predicted, columns, numbered=True) if as_json else {}
    if output is not None:
        write_whole(output, _parquet(table) if ending == ".parquet" else _csv(table).encode(errors="surrogateescape"))
    if as_json:
        rows = zip(*with_numbers.values(), strict=True)
        facts = {
            "schema_version": SCHEMA_VERSION,
            "run": str(run),
            "file": str(file),
            "classes": saved.classes,
            "predictions": [dict(zip(with_numbers, row, strict=True)) for row in rows],
        }
        print_result(json.dumps(facts))
    elif output is None:
        print_result(_csv(table, is_shown=sys.stdout.isatty()), end="")


def _read(saved: SavedRun, file: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """The samples, and the columns that name the rows."""
    if saved.schema is None or not is_table(file):
        return saved.read(file), {}
    frame = saved.settings.table.read(file)
    names = saved.settings.table.id
    absent = [name for name in names if name not in frame.columns]
    if absent:
        raise InputError(f"{str(file)!r}: the id {listed(absent)} is missing; its columns are {listed(frame.columns)}")
    return saved.encode(frame), {name: _plain(frame.columns[name]) for name in names}


def _cell(value: Any, is_shown: bool) -> Any:
    """A value as CSV: text that a spreadsheet would compute as a formula gets an apostrophe; a terminal no controls."""
    if not isinstance(value, str):
        return value
    if value.startswith(_FORMULAS) and number_of(value) is None:
        value = f"'{value}"
    return escaped(value) if is_shown else value


def _plain(values: np.ndarray) -> list[Any]:
    return [str(value) for value in values] if values.dtype.kind == "M" else values.tolist()


def _predicted(saved: SavedRun, found: Predictions, probabilities: str) -> dict[str, Sequence[Any]]:
    """The columns of the predictions, by name."""
    if not saved.classes:
        names = ("prediction",) if found.scores.shape[1] == 1 else saved.goal.targets
        decimals = [5 - math.floor(math.log10(scale)) for scale in saved.goal.scale]  # six digits of a deviation
        columns = zip(names, found.scores.T, decimals, strict=True)
        return {name: np.round(column, digits).tolist() for name, column, digits in columns}
    score = "probability" if found.are_probabilities else "score"
    table: dict[str, Sequence[Any]] = {"prediction": found.labels}
    if probabilities == "top":
        table[score] = [round(float(row.max()), 6) for row in found.scores]
    elif probabilities == "all":
        for name, column in zip(saved.classes, found.scores.T, strict=True):
            table[f"{score} {name}"] = [round(float(value), 6) for value in column]
    return table


def _table(
    numbers: range,
    ids: dict[str, Sequence[Any]],
    predicted: dict[str, Sequence[Any]],
    columns: str | None,
    *,
    numbered: bool = False,
) -> dict[str, Sequence[Any]]:
    """The columns to write, by name: those asked for, or the ids, or else the row numbers, and the predictions."""
    rows = {"row": numbers}
    wanted = [*(rows if numbered or not ids else {}).items(), *ids.items(), *predicted.items()]
    if columns is not None:
        first = next(iter((ids or rows).values()))
        wanted = _chosen({"id": first, **rows, **ids, **predicted}, columns)
    names = [name for name, _ in wanted]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise InputError(
            f"two columns would be called {listed(twice)}; name them by --columns, for example id=key,prediction=label"
        )
    return dict(wanted)


def _chosen(known: dict[str, Sequence[Any]], columns: str) -> list[tuple[str, Sequence[Any]]]:
    """The columns that were asked for, renamed; id is the first column that names or numbers the rows."""
    chosen = []
    for part in parse_names(columns):
        name, _, new = part.partition("=")
        if name not in known:
            raise InputError(f"--columns: {name!r} is not one of {listed(known)}; write NAME or NAME=NEW")
        chosen.append((new or name, known[name]))
    return chosen


def _csv(table: dict[str, Sequence[Any]], *, is_shown: bool = False) -> str:
    text = io.StringIO()
    rows = ([_cell(value, is_shown) for value in row] for row in zip(*table.values(), strict=True))
    csv.writer(text, lineterminator="\n").writerows([[_cell(name, is_shown) for name in table], *rows])
    return text.getvalue()


def _parquet(table: dict[str, Sequence[Any]]) -> bytes:
    polars: Any = extra.need("polars", "predictions", "a Parquet file")
    file = io.BytesIO()
    polars.DataFrame({name: list(values) for name, values in table.items()}).write_parquet(file)
    return file.getvalue()
