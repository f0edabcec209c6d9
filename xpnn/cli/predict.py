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

from xpnn.cli.terminal.console import escaped
from xpnn.cli.terminal.options import Backend, Debug, Device, Json, NoFallback, Run, check_output, choose_place
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
PROBABILITIES = ("top", "all", "none")


def predict(
    run: Run,
    file: Annotated[Path, typer.Argument(help="Rows to predict: a table (columns by name), .npy or IDX images.")],
    output: Annotated[
        Path | None, typer.Option(help="File to write, .csv or .parquet. [default: standard output]")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="NAME=NEW,…", help="Columns to write, and their names, as id=ImageId,prediction=Label."),
    ] = None,
    probabilities: Annotated[
        str, typer.Option(metavar="|".join(PROBABILITIES), help="Write the probability of the class, of all, or none.")
    ] = "top",
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
    saved = SavedRun.open(run)
    if output is not None:
        check_output(output)
        if output.suffix.lower() == ".parquet":
            extra.need("polars", str(output), "a Parquet file")
    samples, ids = _read(saved, file)
    place = choose_place(device, backend, not no_fallback, saved.precision)
    found = saved.predict(samples, place)
    numbers = {"row": range(first_row, first_row + len(found.scores))}
    table = (ids or numbers) | _predicted(saved, found, probabilities)
    if as_json:
        table = numbers | table
    if columns is not None:
        table = _chosen(table, columns, next(iter(ids or numbers)))
    if as_json:
        names = list(table)
        facts = {
            "schema_version": SCHEMA_VERSION,
            "run": str(run),
            "file": str(file),
            "classes": saved.classes,
            "predictions": [dict(zip(names, row, strict=True)) for row in zip(*table.values(), strict=True)],
        }
        data = (json.dumps(facts) + "\n").encode()
    elif output is not None and output.suffix.lower() == ".parquet":
        data = _parquet(table)
    else:
        text, is_shown = io.StringIO(), output is None and sys.stdout.isatty()
        rows = ([_cell(value, is_shown) for value in row] for row in zip(*table.values(), strict=True))
        csv.writer(text, lineterminator="\n").writerows([[_cell(name, is_shown) for name in table], *rows])
        data = text.getvalue().encode(errors="surrogateescape")
    if output is None:
        print(data.decode(errors="surrogateescape"), end="")
    else:
        write_whole(output, data)


def _read(saved: SavedRun, file: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """The samples, and the columns that name the rows."""
    if saved.schema is None or not is_table(file):
        return saved.read(file), {}
    frame = saved.settings.table.read(file)
    names = saved.settings.table.id
    absent = [name for name in names if name not in frame.columns]
    if absent:
        raise InputError(f"{str(file)!r}: the id {listed(absent)} is missing; its columns are {listed(frame.columns)}")
    return saved.schema.encode(frame), {name: _plain(frame.columns[name]) for name in names}


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


def _chosen(table: dict[str, Sequence[Any]], columns: str, first: str) -> dict[str, Sequence[Any]]:
    """The columns that were asked for, renamed; id is the first column that names or numbers the rows."""
    known = {"id": table[first], **table}
    chosen: dict[str, Sequence[Any]] = {}
    for part in parse_names(columns):
        name, _, new = part.partition("=")
        if name not in known:
            raise InputError(f"--columns: {name!r} is not one of {listed(known)}; write NAME or NAME=NEW")
        chosen[new or name] = known[name]
    return chosen


def _parquet(table: dict[str, Sequence[Any]]) -> bytes:
    polars: Any = extra.need("polars", "predictions", "a Parquet file")
    file = io.BytesIO()
    polars.DataFrame({name: list(values) for name, values in table.items()}).write_parquet(file)
    return file.getvalue()
