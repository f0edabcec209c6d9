"""xpnn evaluate"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from xpnn.cli import run_folder
from xpnn.cli.downloads import download_progress
from xpnn.cli.progress import numbers, people
from xpnn.cli.saved import SavedRun
from xpnn.data.datasets import load, read_labelled
from xpnn.training.history import to_json


def evaluate(
    run: Annotated[Path, typer.Argument(help="A folder that train --output wrote.")],
    dataset: Annotated[
        str | None, typer.Argument(help="What to test on. [default: the rows the run held back for testing]")
    ] = None,
    data_dir: Annotated[str | None, typer.Option(help="Folder with the MNIST files.")] = None,
    target: Annotated[str | None, typer.Option(help="CSV column of classes. [default: as in training]")] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|cuda:N", help="Where to compute.")] = "auto",
    backend: Annotated[
        str, typer.Option(metavar="auto|numpy|cupy|torch|jax|strict", help="The array library to compute with.")
    ] = "auto",
    no_fallback: Annotated[
        bool, typer.Option("--no-fallback", help="Fail where the GPU asked for is missing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Test a saved network: on the rows its training never saw, or on all rows of another CSV file."""
    saved = SavedRun.open(run)
    x, y, rows = _samples(saved, dataset, data_dir, target)
    trainer, where = saved.trainer(device, backend, not no_fallback)
    result = trainer.evaluate(x, y)
    facts = {
        "schema_version": run_folder.SCHEMA_VERSION,
        "run": str(run),
        "dataset": dataset or saved.options["dataset"],
        "rows": len(y),
        "which": rows,
        "backend": where.library,
        "device": where.name,
        **result,
    }
    if as_json:
        print(json.dumps(to_json(facts)))
    else:
        text = f"{facts['dataset']}: {numbers(result)}  ({len(y):,} rows, {rows})"
        people().print(text)


def _samples(
    saved: SavedRun, dataset: str | None, data_dir: str | None, target: str | None
) -> tuple[np.ndarray, np.ndarray, str]:
    """(x, y, which rows these are)."""
    options: dict[str, Any] = saved.options
    target = target or options["target"]
    if dataset is None or dataset == options["dataset"] or _same_file(dataset, options["dataset"]):
        dataset = dataset or options["dataset"]
    elif dataset.lower().endswith((".csv", ".csv.gz")):
        return *read_labelled(dataset, target, saved.features, saved.classes), "all of the file"
    with download_progress(quiet=False) as progress:
        data = load(
            dataset,
            data_dir=data_dir,
            target=target,
            test_fraction=options["test_fraction"],
            seed=options["seed"],
            progress=progress,
        )
    return data.x_test, data.y_test, "held back from training"


def _same_file(one: str, other: str) -> bool:
    return Path(one).exists() and Path(other).exists() and Path(one).samefile(other)
