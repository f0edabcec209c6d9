"""xpnn evaluate: test a saved network."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from xpnn.cli.terminal.console import escaped, make_console, make_table, print_line, print_result, print_table
from xpnn.cli.terminal.downloads import DownloadDisplay
from xpnn.cli.terminal.options import (
    Backend,
    DataDir,
    Debug,
    Decimal,
    Device,
    Encoding,
    ImageSize,
    Json,
    NoFallback,
    Offline,
    Run,
    SkipBroken,
    choose_place,
)
from xpnn.experiments import SavedRun
from xpnn.experiments.run_folder import SCHEMA_VERSION
from xpnn.training.display.numbers import readable_numbers
from xpnn.training.history import to_json

_MOST = 30  # classes in a table
SCORES = ("accuracy", "balanced_accuracy", "f1_score", "r2_score", "mean_absolute_error",
          "root_mean_squared_error", "log_loss", "loss")  # fmt: skip


def evaluate(
    run: Run,
    dataset: Annotated[str | None, typer.Argument(help="Data to test on. [default: the test rows of the run]")] = None,
    data_dir: DataDir = None,
    target: Annotated[str | None, typer.Option(help="Column to compare with. [default: as in training]")] = None,
    encoding: Encoding = None,
    decimal: Decimal = None,
    image_size: ImageSize = None,
    skip_broken: SkipBroken = None,
    device: Device = "auto",
    backend: Backend = "auto",
    no_fallback: NoFallback = False,
    offline: Offline = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Test a saved network.

    Uses the rows that were not used in training, or all rows of another table.

    Of classes, a table with precision, recall and F1 score of each follows, and the confusion matrix.
    """
    saved = SavedRun.open(run).reading(
        encoding=encoding, decimal=decimal, image_size=image_size, skip_broken=skip_broken
    )
    with DownloadDisplay() as downloads:
        samples = saved.samples(dataset, data_dir=data_dir, target=target, download_progress=downloads)
    place = choose_place(device, backend, not no_fallback, saved.precision)
    result = saved.evaluate(samples, place)
    dataset = dataset or saved.settings.dataset
    if as_json:
        facts = {
            "schema_version": SCHEMA_VERSION,
            "run": str(run),
            "dataset": dataset,
            "rows": len(samples.labels),
            "which": samples.which,
            "backend": place.library,
            "device": place.name,
            **result,
        }
        print_result(json.dumps(to_json(facts)))
    else:
        console = make_console()
        shown = {name.replace("_", " "): result[name] for name in SCORES if name in result}
        rows = f"({len(samples.labels):,} rows, {samples.which})"
        print_line(console, f"{escaped(dataset)}: {readable_numbers(shown)}  {rows}")
        if saved.classes:
            _print_classes(console, result)


def _print_classes(console: Console, result: dict[str, Any]) -> None:
    """Print the scores of each class and the confusion matrix, whole or not at all."""
    n = len(result["classes"])
    if n > _MOST:
        print_line(console, f"{n:,} classes: their scores and the confusion matrix are in the output of --json")
        return
    scores, matrix = _class_tables(console, result)
    print_table(console, scores, "the table of the classes")
    print_table(console, matrix, "the confusion matrix")


def _class_tables(console: Console, result: dict[str, Any]) -> tuple[Table, Table]:
    """The scores of each class, and the confusion matrix; on a terminal, long names take several lines."""
    long, short = (30, 12) if console.is_terminal else (None, None)
    names = [escaped(name) for name in result["classes"]]
    scores = make_table()
    scores.add_column("class", overflow="fold", max_width=long)
    for title in ("precision", "recall", "F1", "rows"):
        scores.add_column(title, justify="right", min_width=5)
    for name, found in zip(names, result["classes"].values(), strict=True):
        numbers = [f"{found[key]:.3f}" for key in ("precision", "recall", "f1_score")]
        scores.add_row(name, *numbers, f"{found['support']:,}")
    matrix = make_table()
    matrix.add_column("true \\ predicted", overflow="fold", max_width=long)
    for name in names:
        matrix.add_column(name, justify="right", overflow="fold", max_width=short)
    for name, counts in zip(names, result["confusion_matrix"], strict=True):
        matrix.add_row(name, *(f"{count:,}" if count else "·" for count in counts))
    return scores, matrix
