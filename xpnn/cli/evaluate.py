"""xpnn evaluate: test a saved network."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.table import Table

from xpnn.cli.terminal.console import escaped, make_console, make_table, print_line
from xpnn.cli.terminal.downloads import DownloadDisplay
from xpnn.cli.terminal.options import Backend, DataDir, Debug, Device, Json, NoFallback, Offline, Run, choose_place
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
    saved = SavedRun.open(run)
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
        print(json.dumps(to_json(facts)))
    else:
        console = make_console()
        shown = {name.replace("_", " "): result[name] for name in SCORES if name in result}
        rows = f"({len(samples.labels):,} rows, {samples.which})"
        print_line(console, f"{escaped(dataset)}: {readable_numbers(shown)}  {rows}")
        if saved.classes and len(saved.classes) <= _MOST:
            for table in _class_tables(result):
                console.print(table)


def _class_tables(result: dict[str, Any]) -> tuple[Table, Table]:
    """The scores of each class, and the confusion matrix."""
    scores = make_table()
    scores.add_column("class")
    for name in ("precision", "recall", "F1", "rows"):
        scores.add_column(name, justify="right", min_width=5)
    for name, found in result["classes"].items():
        numbers = [f"{found[key]:.3f}" for key in ("precision", "recall", "f1_score")]
        scores.add_row(escaped(name[:30]), *numbers, f"{found['support']:,}")
    matrix = make_table()
    matrix.add_column("true \\ predicted")
    for name in result["classes"]:
        matrix.add_column(escaped(name[:12]), justify="right")
    for name, counts in zip(result["classes"], result["confusion_matrix"], strict=True):
        matrix.add_row(escaped(name[:30]), *(f"{count:,}" if count else "·" for count in counts))
    return scores, matrix
