"""xpnn train"""

from __future__ import annotations

import contextlib
import json
import math
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from xpnn import nn
from xpnn.arrays import random, tree
from xpnn.arrays.device import Place
from xpnn.cli.console import counted, people, readable_numbers, say, shown, tell
from xpnn.cli.downloads import download_progress
from xpnn.cli.options import Backend, DataDir, Debug, Device, Json, NoFallback
from xpnn.cli.plot import check_pictures, draw_pictures
from xpnn.cli.progress import EpochDisplay
from xpnn.cli.run_folder import HISTORY, SCHEMA_VERSION, RunFolder
from xpnn.cli.saved import SavedRun, sha256_of
from xpnn.cli.settings import DTYPES, Settings, choose_place, preprocessing
from xpnn.cli.stopping import Stopping
from xpnn.cli.threads import one_thread_if_small
from xpnn.data.datasets import Dataset, load
from xpnn.data.splits import stratified_split
from xpnn.errors import XpnnError
from xpnn.nn.activations import ACTIVATIONS
from xpnn.training import JSONLLogger, Trainer
from xpnn.training.history import to_json
from xpnn.version import __version__

#: What a record of the history holds, in --json; the validation's part is null without one.
RECORD = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds")


def train(
    dataset: Annotated[str, typer.Argument(help="digits, mnist, or a .csv file with a header row.")] = "digits",
    hidden: Annotated[str, typer.Option(help="Widths of the hidden layers, as 256,128; '' for none.")] = "256,128",
    activation: Annotated[str, typer.Option(metavar="|".join(ACTIVATIONS), help="Of the hidden layers.")] = "relu",
    dropout: Annotated[str, typer.Option(help="Probability of dropping; one, or one a hidden layer.")] = "0.3",
    optimizer: Annotated[str, typer.Option(metavar="adam|sgd", help="The optimizer.")] = "adam",
    lr: Annotated[float | None, typer.Option(help="Learning rate. [default: 0.001 for adam, 0.01 for sgd]")] = None,
    momentum: Annotated[float | None, typer.Option(help="Of sgd. [default: 0.9]")] = None,
    weight_decay: Annotated[float, typer.Option(help="Added to the gradient, times the weight.")] = 0.0,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the data. [default: for 2,500 steps, at least 15]")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Rows a step. [default: 32 below 10,000 rows, else 128]")
    ] = None,
    validation_fraction: Annotated[float, typer.Option(help="Of the training rows, kept to validate; 0: none.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Decides weights, batches, dropout and splits.")] = 0,
    device: Device = "auto",
    backend: Backend = "auto",
    no_fallback: NoFallback = False,
    precision: Annotated[str, typer.Option(metavar="fp32|fp64", help="Of the floats.")] = "fp32",
    data_dir: DataDir = None,
    target: Annotated[
        str | None, typer.Option(help="CSV column of classes. [default: label, target, class or y]")
    ] = None,
    test_fraction: Annotated[float | None, typer.Option(help="Of the CSV rows, kept to test. [default: 0.2]")] = None,
    output: Annotated[Path | None, typer.Option(help="New folder for the model and its history.")] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Draw the history, and test images, into --output.")] = False,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, only the result.")] = False,
    debug: Debug = False,
) -> None:
    """Train a network on a data set, test it once at the end, and save it if asked."""
    asked = dict(locals())
    settings = Settings(**{name: value for name, value in asked.items() if name in Settings.__dataclass_fields__})
    if plot:
        check_pictures(output)
    where = choose_place(device, backend, not no_fallback, precision)
    console = people(stderr=as_json, quiet=quiet)
    with Stopping() as stopping:
        folder = None if output is None else RunFolder(output)
        facts: dict[str, Any] = {}
        try:
            data, trainer = _run(settings, where, folder, console, quiet, stopping, facts)
        except BaseException as error:
            if folder is not None:
                _record_failure(folder, facts, error)
            raise
        if folder is not None:
            folder.write_run(facts)
        drawn = draw_pictures(folder.path, facts["history"], data, trainer) if plot and folder is not None else []
    if stopping.signal is not None:
        tell(f"stopped by a signal after {counted(facts['epochs'], 'whole epoch')}")
    if as_json:
        print(json.dumps(to_json({name: value for name, value in facts.items() if name != "options"})))
    else:
        _report(facts, people(), drawn, quiet=quiet)
    raise typer.Exit(stopping.status)


def _run(
    settings: Settings,
    where: Place,
    folder: RunFolder | None,
    console: Console,
    quiet: bool,
    stopping: Stopping,
    facts: dict[str, Any],
) -> tuple[Dataset, Trainer]:
    """Train, save and test; fills `facts` with what run.json and --json hold."""
    with download_progress(quiet) as progress:
        data = load(
            settings.dataset,
            data_dir=settings.data_dir,
            target=settings.target,
            test_fraction=settings.test_fraction,
            seed=settings.seed,
            progress=progress,
        )
    rows, held = _validation_rows(data, settings)
    settings = settings.complete(len(rows))
    x, y = data.x_train[rows], data.y_train[rows]
    _warn_of_absent_classes(data, y)
    model = settings.model(math.prod(x.shape[1:]), len(data.classes), preprocessing(data, x))
    trainer = Trainer(
        model,
        nn.CrossEntropyLoss(),
        settings.optimizer_object(),
        seed=settings.seed,
        device=where,
        dtype=DTYPES[settings.precision],
    )
    n_parameters = sum(leaf.size for leaf in tree.leaves(tree.trained(trainer.snapshot())))
    facts |= {
        "schema_version": SCHEMA_VERSION,
        "version": __version__,
        "status": "running",
        "dataset": settings.dataset,
        "backend": where.library,
        "device": where.name,
        "device_reason": where.reason,
        "precision": settings.precision,
        "seed": settings.seed,
        "n_parameters": n_parameters,
        "options": asdict(settings),
    }
    saved = SavedRun(
        settings.with_absolute_paths(), data.classes, data.features, x.shape[1:], sha256_of(settings.dataset)
    )
    _announce(console, settings, data, len(rows), len(held), model, n_parameters, where)

    assert settings.epochs is not None and settings.batch_size is not None  # `complete` filled them in
    loggers = [] if folder is None else [JSONLLogger(folder.path / HISTORY)]
    display = EpochDisplay(settings.epochs, len(rows), people(stderr=True), quiet=quiet)
    start = time.perf_counter()
    stopping.training(trainer)
    with display, one_thread_if_small(where, settings.batch_size, n_parameters):
        history = trainer.fit(
            x,
            y,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            validation_data=(data.x_train[held], data.y_train[held]) if len(held) else None,
            callbacks=[*loggers, display],
            progress=display.step,
        )
    seconds = time.perf_counter() - start
    stopping.saving()
    if folder is not None:
        saved.save(folder.path, model, trainer.snapshot())
    tested = trainer.evaluate(data.x_test, data.y_test)
    facts |= {
        "status": "finished" if stopping.signal is None else "interrupted",
        "epochs": len(history),
        "history": [{name: record.get(name) for name in RECORD} for record in history],
        "test_loss": tested["loss"],
        "test_accuracy": tested["accuracy"],
        "seconds": seconds,
        "samples_per_second": len(history) * len(rows) / seconds,
        "output": None if folder is None else str(folder.path),
    }
    return data, trainer


def _validation_rows(data: Dataset, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """(rows to train on, rows to validate on) of the training part; too few rows for the fraction: none to validate."""
    y, fraction = data.y_train, settings.validation_fraction
    if round(fraction * len(y)) == 0:
        fraction = 0.0
    return stratified_split(y, fraction, random.key(settings.seed, "validation split"))


def _warn_of_absent_classes(data: Dataset, y: np.ndarray) -> None:
    absent = sorted(set(range(len(data.classes))) - set(y.tolist()))
    if absent:
        names = ", ".join(repr(data.classes[i]) for i in absent[:8])
        warnings.warn(f"no training row has the class {names}: it cannot be learnt", stacklevel=2)


def _record_failure(folder: RunFolder, facts: dict[str, Any], error: BaseException) -> None:
    """Leave in the run folder what is known of a run that failed; a run that never began leaves nothing."""
    if not facts:
        folder.release()
        return
    text = str(error) if isinstance(error, XpnnError) else f"{type(error).__name__}: {error}"
    with contextlib.suppress(OSError):  # the error that is on its way says more
        folder.write_run({**facts, "status": "failed", "error": text})


def _announce(
    console: Console, settings: Settings, data: Dataset, rows: int, held: int, model: Any, size: int, where: Place
) -> None:
    """A few lines on what is going to happen."""
    widths = [str(layer.out_features) for layer in model.layers if isinstance(layer, nn.Linear)]
    network = "-".join([str(math.prod(data.x_train.shape[1:])), *widths])
    length = f"{counted(settings.epochs or 0, 'epoch')} in batches of {settings.batch_size}"
    for line in (
        f"data     {shown(data.source)}: {rows:,} to train, {held:,} to validate, {len(data.x_test):,} to test",
        f"network  {network}, {settings.activation}, dropout {settings.dropout}: {size:,} parameters",
        f"training {settings.optimizer}, lr {settings.lr:g}, {length}",
        f"device   {where.name} with {where.library}, {settings.precision}",
    ):
        say(console, line)


def _report(facts: dict[str, Any], console: Console, drawn: list[str], *, quiet: bool) -> None:
    """The result, for people."""
    tested = readable_numbers({"test accuracy": facts["test_accuracy"], "test loss": facts["test_loss"]})
    say(console, f"result   {tested}")
    if not quiet:
        speed = f"{facts['samples_per_second']:,.0f} samples/s"
        say(console, f"time     {counted(facts['epochs'], 'epoch')} in {facts['seconds']:.1f} s, {speed}")
        if facts["output"]:
            say(console, f"saved    {shown(facts['output'])}")
        if drawn:
            say(console, f"drawn    {', '.join(drawn)}")
