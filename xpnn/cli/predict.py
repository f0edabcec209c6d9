"""xpnn predict"""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from xpnn.cli.terminal.options import Backend, Debug, Device, Json, NoFallback, Run, check_output
from xpnn.data.datasets import read_features
from xpnn.experiments import factory
from xpnn.experiments.run_folder import SCHEMA_VERSION
from xpnn.experiments.saved_run import SavedRun
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

    The class of each row, and how probable it is.
    """
    saved, model, params = SavedRun.open(run)
    if output is not None:
        check_output(output)
    shape = saved.input_shape
    x = read_features(file, saved.features, math.prod(shape)).reshape(-1, *shape)
    trainer, _ = saved.trainer(model, params, device, backend, not no_fallback)
    probabilities = factory.probabilities(saved.settings, trainer.predict(x))
    best = np.argmax(probabilities, axis=1)
    rows = [
        (i, saved.classes[label], round(float(p[label]), 6))
        for i, (label, p) in enumerate(zip(best, probabilities, strict=True))
    ]
    score = "probability" if factory.gives_probabilities(saved.settings, len(saved.classes)) else "score"
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
