"""xpnn plot and xpnn report: figures and a page of one or several runs; and the figures of train --plot."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from xpnn.cli.terminal.console import escaped, make_console, pluralize, print_line, print_stderr
from xpnn.cli.terminal.downloads import DownloadDisplay
from xpnn.cli.terminal.options import DataDir, Debug, Offline, check_output
from xpnn.errors import InputError
from xpnn.experiments import Experiment, read_history
from xpnn.report import check_drawable, plot_history, plot_numbers, plot_samples, write_report
from xpnn.training.history import Logs

CURVE_FILES, SAMPLE_FILE, NUMBER_FILE = ("history.png", "history.svg"), "samples.png", "predictions.png"


def plot(
    run: Annotated[list[Path], typer.Argument(help="Folders that train --output wrote.")],
    output: Annotated[
        Path | None,
        typer.Option(help="New .png, .svg or .pdf file. [default: history.png in the run, ./runs.png for several]"),
    ] = None,
    debug: Debug = False,
) -> None:
    """Draw loss and error of one or several runs.

    All runs are drawn into one figure, against the epoch. A run may still be in training. The default file is
    overwritten; a file given by --output must not exist.
    """
    folders = list(dict.fromkeys(map(_absolute, run)))
    if output is not None:
        check_drawable(output)
        check_output(output)
    else:
        output = run[0] / CURVE_FILES[0] if len(folders) == 1 else Path("runs.png")
        check_drawable(output)
    histories = [read_history(folder) for folder in folders]
    plot_history(dict(zip(_distinct_names(folders), histories, strict=True)), output)
    epochs = pluralize(sum(map(len, histories)), "epoch")
    print_line(make_console(), f"drawn    {escaped(str(output))}: {pluralize(len(folders), 'run')}, {epochs}")


def report(
    run: Annotated[list[Path], typer.Argument(help="Folders of runs or sweeps that train --output wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="New .html file.")] = Path("report.html"),
    data_dir: DataDir = None,
    offline: Offline = False,
    debug: Debug = False,
) -> None:
    """Write a page that shows one or several runs.

    One file with curves, predictions, errors, weights, statistics of the layers, times, and the command that trains the
    run again; of a sweep also a table and parallel coordinates. In the page of digits, you can draw a digit and see
    what the network answers. The page loads nothing.
    """
    folders = list(dict.fromkeys(map(_absolute, run)))
    with DownloadDisplay() as downloads:
        remarks = write_report(folders, output, data_dir=data_dir, download_progress=downloads)
    for remark in remarks:
        print_stderr(escaped(remark))
    size = f"{output.stat().st_size / 1000:,.0f} kB"
    print_line(make_console(), f"wrote    {escaped(str(output))}: {pluralize(len(folders), 'run')}, {size}")


def check_pictures(output: Path | None) -> None:
    """Raise InputError, before the training, if `draw_pictures` could not draw, or would overwrite a file."""
    if output is None:
        raise InputError("--plot draws into the folder of the run; give that folder with --output")
    check_drawable(*CURVE_FILES, SAMPLE_FILE)
    taken = [name for name in (*CURVE_FILES, SAMPLE_FILE, NUMBER_FILE) if (output / name).exists()]
    if taken:
        raise InputError(f"{str(output)!r} already contains {', '.join(taken)}; name another --output, or delete it")


def draw_pictures(folder: Path, records: Sequence[Logs], experiment: Experiment) -> list[str]:
    """Draw the figures of `train --plot` into the folder of the run, and return the names of the files.

    These are the history (unless training was stopped in its first epoch) and, for images, some test rows; of numbers,
    the predictions for the test rows.
    """
    data, trainer, goal = experiment.data, experiment.trainer, experiment.goal
    drawn: list[str] = []
    if records:
        for name in CURVE_FILES:
            plot_history(dict(zip(_distinct_names([_absolute(folder)]), [records], strict=True)), folder / name)
            drawn.append(name)
    if not goal.classes and len(data.x_test):
        predicted = goal.from_outputs(experiment.settings, np.asarray(trainer.predict(data.x_test)))
        plot_numbers(data.y_test, predicted, folder / NUMBER_FILE, names=goal.targets)
        drawn.append(NUMBER_FILE)
    elif data.x_test.ndim == 3:
        outputs: Any = trainer.predict(data.x_test)
        predictions = np.argmax(outputs, axis=1)  # of images: one output for each class
        plot_samples(data.x_test, data.y_test, predictions, folder / SAMPLE_FILE, classes=data.classes)
        drawn.append(SAMPLE_FILE)
    return drawn


def _absolute(folder: Path) -> Path:
    return Path(os.path.abspath(folder))  # not `resolve`: a link keeps the name that the user gave it


def _distinct_names(folders: list[Path]) -> list[str]:
    """Return the names of the folders, each with as many parents as needed to distinguish it."""
    names = []
    for folder in folders:
        for length in range(1, len(folder.parts) + 1):
            name = folder.parts[-length:]
            if sum(other.parts[-length:] == name for other in folders) == 1:
                break
        names.append(escaped(str(Path(*name))))
    return names
