"""xpnn evaluate: test a saved network."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from xpnn.cli.terminal.console import escaped, make_console, print_line, readable_numbers
from xpnn.cli.terminal.downloads import DownloadDisplay
from xpnn.cli.terminal.options import Backend, DataDir, Debug, Device, Json, NoFallback, Run, choose_place
from xpnn.experiments import SavedRun
from xpnn.experiments.run_folder import SCHEMA_VERSION
from xpnn.training.history import to_json


def evaluate(
    run: Run,
    dataset: Annotated[str | None, typer.Argument(help="Data to test on. [default: the test rows of the run]")] = None,
    data_dir: DataDir = None,
    target: Annotated[str | None, typer.Option(help="CSV column of the classes. [default: as in training]")] = None,
    device: Device = "auto",
    backend: Backend = "auto",
    no_fallback: NoFallback = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Test a saved network.

    Uses the rows that were not used in training, or all rows of another CSV file.
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
        numbers = readable_numbers({"accuracy": result["accuracy"], "loss": result["loss"]})
        print_line(make_console(), f"{escaped(dataset)}: {numbers}  ({len(samples.labels):,} rows, {samples.which})")
