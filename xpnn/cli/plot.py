"""xpnn plot, and the pictures of train --plot."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from xpnn.cli.terminal.console import escaped, make_console, pluralize, print_line
from xpnn.cli.terminal.options import Debug, check_output
from xpnn.data.datasets import Dataset
from xpnn.errors import DataFormatError, InputError
from xpnn.experiments.run_folder import HISTORY
from xpnn.report import check_drawable, plot_history, plot_samples
from xpnn.training import Trainer
from xpnn.training.history import Logs

CURVES, SAMPLES = ("history.png", "history.svg"), "samples.png"


def plot(
    run: Annotated[list[Path], typer.Argument(help="Folders that train --output wrote.")],
    output: Annotated[
        Path | None,
        typer.Option(help="New .png, .svg or .pdf file. [default: history.png in the run, ./runs.png for several]"),
    ] = None,
    debug: Debug = False,
) -> None:
    """Draw loss and error of one or several runs.

    Against the epoch, the runs over each other. A run may still be in training. The default file is drawn anew; a file
    named by --output must not exist.
    """
    folders = list(dict.fromkeys(map(_absolute, run)))
    if output is not None:
        check_drawable(output)
        check_output(output)
    else:
        output = run[0] / CURVES[0] if len(folders) == 1 else Path("runs.png")
        check_drawable(output)
    histories = [_read_history(folder) for folder in folders]
    plot_history(dict(zip(_distinct_names(folders), histories, strict=True)), output)
    epochs = pluralize(sum(map(len, histories)), "epoch")
    print_line(make_console(), f"drawn    {escaped(str(output))}: {pluralize(len(folders), 'run')}, {epochs}")


def check_pictures(output: Path | None) -> None:
    """Raise InputError, before the training, where `draw_pictures` could not draw, or would overwrite something."""
    if output is None:
        raise InputError("--plot draws into the run's folder; name it with --output")
    check_drawable(*CURVES, SAMPLES)
    taken = [name for name in (*CURVES, SAMPLES) if (output / name).exists()]
    if taken:
        raise InputError(f"{str(output)!r} already holds {', '.join(taken)}; name another --output, or delete it")


def draw_pictures(folder: Path, records: Sequence[Logs], data: Dataset, trainer: Trainer) -> list[str]:
    """Draw what `train --plot` promises into the run's folder; the names of the files.

    The history (not where the training was stopped in its first epoch) and, of images, a sample of the test part.
    """
    drawn: list[str] = []
    if records:
        for name in CURVES:
            plot_history(dict(zip(_distinct_names([_absolute(folder)]), [records], strict=True)), folder / name)
            drawn.append(name)
    if data.x_test.ndim == 3:
        predictions = np.argmax(trainer.predict(data.x_test), axis=1)  # of images: one output a class
        plot_samples(data.x_test, data.y_test, predictions, folder / SAMPLES, classes=data.classes)
        drawn.append(SAMPLES)
    return drawn


def _read_history(folder: Path) -> list[Logs]:
    """The records of a run. Raises InputError where the folder is no run, or has no epoch yet; DataFormatError."""
    path = folder / HISTORY
    if not path.is_file():
        raise InputError(f"{str(folder)!r} holds no run: no {HISTORY}, as train --output writes it, is there")
    lines = path.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()  # it is being written at this moment, or a crash cut it off
    if not lines:
        raise InputError(f"{str(folder)!r}: the run has no whole epoch yet, so there is nothing to draw")
    return [_record(path, number, line) for number, line in enumerate(lines, 1)]


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataFormatError(f"{str(path)!r}, line {number}: {error}; each line is a record in JSON") from error
    if not isinstance(record, dict) or not isinstance(record.get("epoch"), int):
        raise DataFormatError(f"{str(path)!r}, line {number} holds no record of an epoch")
    return record


def _absolute(folder: Path) -> Path:
    return Path(os.path.abspath(folder))  # not `resolve`: a link keeps the name that the user gave it


def _distinct_names(folders: list[Path]) -> list[str]:
    """The folders' names, with as many of the folders around them as it takes to tell them apart."""
    names = []
    for folder in folders:
        for length in range(1, len(folder.parts) + 1):
            name = folder.parts[-length:]
            if sum(other.parts[-length:] == name for other in folders) == 1:
                break
        names.append(escaped(str(Path(*name))))
    return names
