"""xpnn train"""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console

import xpnn
from xpnn import nn
from xpnn.arrays import random, tree
from xpnn.arrays.device import Place
from xpnn.cli import run_folder
from xpnn.cli.downloads import download_progress
from xpnn.cli.progress import EpochDisplay, people
from xpnn.cli.settings import DTYPES, Settings, choose_place, preprocessing
from xpnn.data.datasets import Dataset, load
from xpnn.data.splits import stratified_split
from xpnn.errors import XpnnError
from xpnn.training import JSONLLogger, Trainer, save_model
from xpnn.training.history import to_json

#: What a record of the history holds, in --json; the validation's part is null without one.
RECORD = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds")


def train(
    dataset: Annotated[str, typer.Argument(help="digits, mnist, or a .csv file with a header row.")] = "digits",
    hidden: Annotated[str, typer.Option(help="Widths of the hidden layers, as 256,128; '' for none.")] = "256,128",
    activation: Annotated[str, typer.Option(metavar="relu|sigmoid|tanh", help="Of the hidden layers.")] = "relu",
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
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|cuda:N", help="Where to compute.")] = "auto",
    backend: Annotated[
        str, typer.Option(metavar="auto|numpy|cupy|torch|jax|strict", help="The array library to compute with.")
    ] = "auto",
    no_fallback: Annotated[
        bool, typer.Option("--no-fallback", help="Fail where the GPU asked for is missing.")
    ] = False,
    precision: Annotated[str, typer.Option(metavar="fp32|fp64", help="Of the floats.")] = "fp32",
    data_dir: Annotated[str | None, typer.Option(help="Folder with the MNIST files.")] = None,
    target: Annotated[
        str | None, typer.Option(help="CSV column of classes. [default: label, target, class or y]")
    ] = None,
    test_fraction: Annotated[float | None, typer.Option(help="Of the CSV rows, kept to test. [default: 0.2]")] = None,
    output: Annotated[Path | None, typer.Option(help="New folder for the model and its history.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object; progress to standard error.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, only the result.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Train a network on a data set, test it once at the end, and save it if asked."""
    asked = dict(locals())
    fields = Settings.__dataclass_fields__
    settings = Settings(**{name: value for name, value in asked.items() if name in fields})
    where = choose_place(device, backend, not no_fallback, precision)
    console = people(stderr=as_json, quiet=quiet)
    if output is not None:
        run_folder.claim(output)
    facts: dict[str, Any] = {}
    try:
        status = _run(settings, where, output, console, quiet, facts)
    except BaseException as error:
        if output is not None:
            _record_failure(output, facts, error)
        raise
    if output is not None:
        run_folder.write_run(output, facts)
    if as_json:
        print(json.dumps(to_json({name: value for name, value in facts.items() if name != "options"})))
    else:
        _report(facts, people(), quiet=quiet)
    raise typer.Exit(status)


def _run(
    settings: Settings, where: Place, output: Path | None, console: Console, quiet: bool, facts: dict[str, Any]
) -> int:
    """Train and test; fills `facts` with what the run folder and --json hold. Returns the exit status."""
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
    front = preprocessing(data, x)
    model = settings.model(math.prod(x.shape[1:]), len(data.classes), front)
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
        "schema_version": run_folder.SCHEMA_VERSION,
        "version": xpnn.__version__,
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
    _announce(console, settings, data, len(rows), len(held), model, n_parameters, where)

    assert settings.epochs is not None and settings.batch_size is not None  # `complete` filled them in
    loggers = [] if output is None else [JSONLLogger(output / run_folder.HISTORY)]
    display = EpochDisplay(settings.epochs, len(rows), people(stderr=True), quiet=quiet)
    start = time.perf_counter()
    with _stopping(trainer) as signals, display:
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
    if output is not None:
        shape = x.shape[1:]
        about = {"dataset": data.name, "classes": data.classes, "features": data.features, "input_shape": shape}
        save_model(output / run_folder.MODEL, model, trainer.snapshot(), about)
    tested = trainer.evaluate(data.x_test, data.y_test)
    facts |= {
        "status": "interrupted" if signals else "finished",
        "epochs": len(history),
        "history": [{name: record.get(name) for name in RECORD} for record in history],
        "test_loss": tested["loss"],
        "test_accuracy": tested["accuracy"],
        "seconds": seconds,
        "samples_per_second": len(history) * len(rows) / seconds,
        "output": None if output is None else str(output),
    }
    return 128 + signals[0] if signals else 0


def _validation_rows(data: Dataset, settings: Settings) -> tuple[Any, Any]:
    """(rows to train on, rows to validate on) of the training part; too few rows for the fraction: none to validate."""
    y, fraction = data.y_train, settings.validation_fraction
    if round(fraction * len(y)) == 0:
        fraction = 0.0
    return stratified_split(y, fraction, random.key(settings.seed, "validation split"))


@contextmanager
def _stopping(trainer: Trainer) -> Iterator[list[int]]:
    """SIGINT and SIGTERM end the training after the present step; a second one ends the program at once."""
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if received:
            raise SystemExit(128 + number)
        received.append(number)
        trainer.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _record_failure(output: Path, facts: dict[str, Any], error: BaseException) -> None:
    """Leave in the run folder what is known of a run that failed; a run that never began leaves nothing."""
    if not facts:
        run_folder.release(output)
        return
    text = str(error) if isinstance(error, XpnnError) else f"{type(error).__name__}: {error}"
    run_folder.write_run(output, {**facts, "status": "failed", "error": text})


def _announce(
    console: Console, settings: Settings, data: Dataset, rows: int, held: int, model: Any, size: int, where: Place
) -> None:
    """A few lines on what is going to happen."""
    widths = [str(layer.out_features) for layer in model.layers if isinstance(layer, nn.Linear)]
    features = math.prod(data.x_train.shape[1:])
    console.print(f"data     {data.source}: {rows:,} to train, {held:,} to validate, {len(data.x_test):,} to test")
    console.print(
        f"network  {'-'.join([str(features), *widths])}, {settings.activation}, dropout {settings.dropout}: "
        f"{size:,} parameters"
    )
    console.print(
        f"training {settings.optimizer}, lr {settings.lr:g}; {settings.epochs} epochs, batches of {settings.batch_size}"
    )
    reason = where.reason.partition(";")[0]  # the cure is in --json and in xpnn doctor
    console.print(f"device   {where.name} with {where.library}, {settings.precision} ({reason})")


def _report(facts: dict[str, Any], console: Console, *, quiet: bool) -> None:
    """The result, for people."""
    if facts["status"] == "interrupted":
        print(f"xpnn: stopped by a signal after {facts['epochs']} whole epochs", file=sys.stderr)
    console.print(f"result   test accuracy {facts['test_accuracy']:.2%}, test loss {facts['test_loss']:.4f}")
    if not quiet:
        speed = f"{facts['samples_per_second']:,.0f} samples/s"
        console.print(f"time     {facts['epochs']} epochs in {facts['seconds']:.1f} s, {speed}")
        if facts["output"]:
            console.print(f"saved    {facts['output']}")
