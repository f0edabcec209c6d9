"""xpnn predict: classify the rows of a file with a saved network."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Annotated

import typer

from xpnn.cli.terminal.options import Backend, Debug, Device, Json, NoFallback, Run, check_output, choose_place
from xpnn.experiments import SavedRun
from xpnn.experiments.run_folder import SCHEMA_VERSION
from xpnn.training.saving.atomic_write import write_whole


def predict(
    run: Run,
    file: Annotated[Path, typer.Argument(help="Rows to classify: .csv (columns by name), .npy or IDX images.")],
    output: Annotated[Path | None, typer.Option(help="CSV file to write. [default: standard output]")] = None,
    device: Device = "auto",
    backend: Backend = "auto",
    no_fallback: NoFallback = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Classify the rows of a file with a saved network.

    Prints the class of each row, and its probability.
    """
    saved = SavedRun.open(run)
    if output is not None:
        check_output(output)
    samples = saved.read(file)
    place = choose_place(device, backend, not no_fallback, saved.precision)
    labels, scores, are_probabilities = saved.predict(samples, place)
    rows = [(i, label, round(float(row.max()), 6)) for i, (label, row) in enumerate(zip(labels, scores, strict=True))]
    score = "probability" if are_probabilities else "score"
    if as_json:
        facts = {
            "schema_version": SCHEMA_VERSION,
            "run": str(run),
            "file": str(file),
            "classes": saved.classes,
            "predictions": [{"row": i, "prediction": label, score: p} for i, label, p in rows],
        }
        text = json.dumps(facts) + "\n"
    else:
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([("row", "prediction", score), *rows])
        text = table.getvalue()
    if output is None:
        print(text, end="")
    else:
        write_whole(output, text.encode())
