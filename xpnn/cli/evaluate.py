"""xpnn evaluate"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from xpnn.cli.terminal.console import escaped, make_console, print_line, readable_numbers
from xpnn.cli.terminal.downloads import download_progress
from xpnn.cli.terminal.options import Backend, DataDir, Debug, Device, Json, NoFallback, Run
from xpnn.data.datasets import is_table, load, read_labelled
from xpnn.errors import InputError
from xpnn.experiments import factory
from xpnn.experiments.run_folder import SCHEMA_VERSION
from xpnn.experiments.saved_run import SavedRun, sha256_of
from xpnn.training.history import to_json


def evaluate(
    run: Run,
    dataset: Annotated[
        str | None, typer.Argument(help="What to test on. [default: the rows the run held back for testing]")
    ] = None,
    data_dir: DataDir = None,
    target: Annotated[str | None, typer.Option(help="CSV column of classes. [default: as in training]")] = None,
    device: Device = "auto",
    backend: Backend = "auto",
    no_fallback: NoFallback = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Test a saved network.

    On the rows its training never saw, or on all rows of another CSV file.
    """
    saved, model, params = SavedRun.open(run)
    dataset = dataset or saved.settings.dataset
    x, y, rows = _samples(saved, dataset, data_dir, target)
    trainer, place = saved.trainer(model, params, device, backend, not no_fallback)
    result = trainer.evaluate(x, factory.targets(saved.settings, y, len(saved.classes)))
    facts = {
        "schema_version": SCHEMA_VERSION,
        "run": str(run),
        "dataset": dataset,
        "rows": len(y),
        "which": rows,
        "backend": place.library,
        "device": place.name,
        **result,
    }
    if as_json:
        print(json.dumps(to_json(facts)))
    else:
        numbers = readable_numbers({"accuracy": result["accuracy"], "loss": result["loss"]})
        print_line(make_console(), f"{escaped(dataset)}: {numbers}  ({len(y):,} rows, {rows})")


def _samples(
    saved: SavedRun, dataset: str, data_dir: str | None, target: str | None
) -> tuple[np.ndarray, np.ndarray, str]:
    """(x, y, which rows these are)."""
    settings = saved.settings
    if is_table(dataset) and (not is_table(settings.dataset) or not _same_file(dataset, settings.dataset)):
        x, y = read_labelled(dataset, target or settings.target, saved.features, saved.classes)
        return x, y, "all of the file"
    if is_table(dataset):
        if sha256_of(dataset) != saved.data_sha256:
            raise InputError(
                f"{dataset!r} is not the file of the training any more, so its held-back rows cannot be told; "
                "to test on all of its rows, copy it to another name"
            )
        target, fraction = target or settings.target, settings.test_fraction
    else:
        target, fraction = None, None  # a table's; for any other data set they were never given
    with download_progress(quiet=False) as progress:
        data = load(
            dataset,
            data_dir=data_dir or (settings.data_dir if dataset == settings.dataset else None),
            target=target,
            test_fraction=fraction,
            seed=settings.seed,
            progress=progress,
        )
    return data.x_test, data.y_test, "held back from training"


def _same_file(one: str, other: str) -> bool:
    if one == other:
        return True
    return Path(one).exists() and Path(other).exists() and Path(one).samefile(other)
