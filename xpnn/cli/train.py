"""xpnn train"""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from xpnn import nn
from xpnn.cli.plot import check_pictures, draw_pictures
from xpnn.cli.terminal.console import escaped, make_console, pluralize, print_line, print_stderr, readable_numbers
from xpnn.cli.terminal.options import Backend, DataDir, Debug, Device, Json, NoFallback
from xpnn.cli.terminal.progress import EpochDisplay
from xpnn.cli.terminal.stopping import Stopping
from xpnn.devices.place import Place
from xpnn.errors import XpnnError
from xpnn.experiments import factory, recipes
from xpnn.experiments.run import Experiment, prepare
from xpnn.experiments.run_folder import HISTORY, SCHEMA_VERSION, RunFolder
from xpnn.experiments.saved_run import SavedRun, sha256_of
from xpnn.experiments.settings import LOSSES, OPTIMIZERS, OUTPUTS, SCHEDULES, Settings, choose_place
from xpnn.nn.layers.activations import ACTIVATIONS
from xpnn.training import JSONLLogger
from xpnn.training.history import to_json
from xpnn.version import __version__

#: What a record of the history holds, in --json; the validation's part is null without one.
RECORD = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds")


def train(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(help="digits, mnist, xor, or a .csv file with a header row.")] = "digits",
    recipe: Annotated[str | None, typer.Option(help="Start from a recipe (see xpnn recipes).")] = None,
    hidden: Annotated[str, typer.Option(help="Widths of the hidden layers, as 256,128; '' for none.")] = "256,128",
    activation: Annotated[str, typer.Option(metavar="|".join(ACTIVATIONS), help="Of the hidden layers.")] = "relu",
    output_activation: Annotated[
        str, typer.Option(metavar="|".join(OUTPUTS), help="Of the last layer; cross-entropy has its own softmax.")
    ] = "none",
    norm: Annotated[str, typer.Option(metavar="none|batch|layer|rms", help="Before each activation.")] = "none",
    weight_init: Annotated[
        str | None, typer.Option(metavar="NAME", help="he_normal, glorot_uniform, … [default: by activation]")
    ] = None,
    dropout: Annotated[str, typer.Option(help="Probability of dropping; one, or one a hidden layer.")] = "0.3",
    scale: Annotated[
        float | None,
        typer.Option(help="Of the features. [default: images to 0…1; tables are standardised]"),
    ] = None,
    augment: Annotated[
        str, typer.Option(metavar="NAME=X,…", help="Distort training images: degrees=10,translate=0.05,alpha=8,…")
    ] = "",
    loss: Annotated[str, typer.Option(metavar="|".join(LOSSES), help="The loss.")] = "cross-entropy",
    reduction: Annotated[str, typer.Option(metavar="mean|sum", help="Of the loss, over a batch.")] = "mean",
    label_smoothing: Annotated[float, typer.Option(help="Share of each label spread over all classes.")] = 0.0,
    optimizer: Annotated[str, typer.Option(metavar="|".join(OPTIMIZERS), help="The optimizer.")] = "adam",
    lr: Annotated[float | None, typer.Option(help="Learning rate. [default: the optimizer's own]")] = None,
    momentum: Annotated[float | None, typer.Option(help="Of sgd, rmsprop, muon. [default: 0.9 for sgd]")] = None,
    betas: Annotated[str | None, typer.Option(help="Of adam and its kin. [default: their own]")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="[default: the optimizer's own]")] = None,
    clip_norm: Annotated[float | None, typer.Option(help="Largest norm of the gradient.")] = None,
    schedule: Annotated[
        str, typer.Option(metavar="|".join(SCHEDULES), help="Of the learning rate, over all epochs.")
    ] = "constant",
    decay: Annotated[
        float | None, typer.Option(help="Of step (factor), exponential, inverse-time (per epoch), polynomial (power).")
    ] = None,
    warmup: Annotated[float, typer.Option(help="Epochs in which the rate rises. [one-cycle: 0.3 of all]")] = 0.0,
    ema: Annotated[float | None, typer.Option(help="Decay of a moving average of the weights, as 0.999.")] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the data. [default: for 2,500 steps, at least 15]")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Rows a step; 0: all. [default: 32 below 10,000 rows, else 128]")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many epochs without a better val_loss; keep the best.")
    ] = None,
    validation_fraction: Annotated[float, typer.Option(help="Of the training rows, kept to validate; 0: none.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Decides weights, batches, dropout and splits.")] = 0,
    device: Device = "auto",
    backend: Backend = "auto",
    no_fallback: NoFallback = False,
    precision: Annotated[
        str, typer.Option(metavar="fp32|tf32|bf16|fp64", help="tf32, bf16: of products, on a GPU.")
    ] = "fp32",
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
    """Train a network, and test it once at the end."""
    asked = {name: value for name, value in locals().items() if name in Settings.__dataclass_fields__}
    if recipe is not None:
        source = context.get_parameter_source  # of the command line, or a default
        given = {name for name in asked if "COMMANDLINE" in str(source(name))}
        asked |= {name: value for name, value in recipes.read(recipe).train.items() if name not in given}
    settings = Settings(**asked)
    factory.check(settings)
    if plot:
        check_pictures(output)
    place = choose_place(device, backend, not no_fallback, settings.precision)
    console = make_console(stderr=as_json, quiet=quiet)
    with Stopping() as stopping:
        folder = None if output is None else RunFolder(output)
        facts: dict[str, Any] = {}
        try:
            experiment = _run(settings, place, folder, console, quiet, stopping, facts)
        except BaseException as error:
            if folder is not None:
                _record_failure(folder, facts, error)
            raise
        if folder is not None:
            folder.write_run(facts)
        drawn = []
        if plot and folder is not None:
            drawn = draw_pictures(folder.path, facts["history"], experiment.data, experiment.trainer)
    if stopping.signal is not None:
        print_stderr(f"stopped by a signal after {pluralize(facts['epochs'], 'whole epoch')}")
    if as_json:
        print(json.dumps(to_json({name: value for name, value in facts.items() if name != "options"})))
    else:
        _report(facts, make_console(), drawn, quiet=quiet)
    raise typer.Exit(stopping.status)


def _run(
    settings: Settings,
    place: Place,
    folder: RunFolder | None,
    console: Console,
    quiet: bool,
    stopping: Stopping,
    facts: dict[str, Any],
) -> Experiment:
    """Train, save and test; fills `facts` with what run.json and --json hold."""
    experiment = prepare(settings, place, quiet=quiet)
    settings, data, trainer, rows = experiment.settings, experiment.data, experiment.trainer, len(experiment.rows)
    facts |= {
        "schema_version": SCHEMA_VERSION,
        "version": __version__,
        "status": "running",
        "dataset": settings.dataset,
        "backend": place.library,
        "device": place.name,
        "device_reason": place.reason,
        "precision": settings.precision,
        "seed": settings.seed,
        "n_parameters": experiment.n_parameters,
        "options": asdict(settings),
    }
    shape = data.x_train.shape[1:]
    saved = SavedRun(settings.with_absolute_paths(), data.classes, data.features, shape, sha256_of(settings.dataset))
    _announce(console, experiment)

    loggers = [] if folder is None else [JSONLLogger(folder.path / HISTORY)]
    stopping.training(trainer)
    with EpochDisplay(experiment.epochs, rows, make_console(stderr=True), quiet=quiet) as display:
        history, seconds = experiment.fit([*loggers, display], display.step)
    stopping.saving()
    if folder is not None:
        saved.save(folder.path, experiment.model, trainer.snapshot())
    tested = experiment.test()
    facts |= {
        "status": "finished" if stopping.signal is None else "interrupted",
        "epochs": len(history),
        "history": [{name: record.get(name) for name in RECORD} for record in history],
        "test_loss": tested["loss"],
        "test_accuracy": tested["accuracy"],
        "seconds": seconds,
        "samples_per_second": len(history) * rows / seconds,
        "output": None if folder is None else str(folder.path),
    }
    return experiment


def _record_failure(folder: RunFolder, facts: dict[str, Any], error: BaseException) -> None:
    """Leave in the run folder what is known of a run that failed; a run that never began leaves nothing."""
    if not facts:
        folder.release()
        return
    text = str(error) if isinstance(error, XpnnError) else f"{type(error).__name__}: {error}"
    with contextlib.suppress(OSError):  # the error that is on its way says more
        folder.write_run({**facts, "status": "failed", "error": text})


def _announce(console: Console, experiment: Experiment) -> None:
    """A few lines on what is going to happen."""
    settings, data, place = experiment.settings, experiment.data, experiment.place
    rows, held, tested = len(experiment.rows), len(experiment.held), len(data.x_test)
    widths = [str(layer.out_features) for layer in experiment.model.layers if isinstance(layer, nn.Linear)]
    network = "-".join([str(math.prod(data.x_train.shape[1:])), *widths])
    length = f"{pluralize(experiment.epochs, 'epoch')} in batches of {settings.batch_size}"
    schedule = "" if settings.schedule == "constant" else f" ({settings.schedule})"
    if settings.recipe is not None:
        print_line(console, f"recipe   {settings.recipe}: {recipes.read(settings.recipe).title}")
    for line in (
        f"data     {escaped(data.source)}: {rows:,} to train, {held:,} to validate, {tested:,} to test",
        f"network  {network}, {settings.activation}, dropout {settings.dropout}: "
        f"{experiment.n_parameters:,} parameters",
        f"training {settings.optimizer}, lr {settings.lr:g}{schedule}, {length}",
        f"device   {place.name} with {place.library}, {settings.precision}",
    ):
        print_line(console, line)


def _report(facts: dict[str, Any], console: Console, drawn: list[str], *, quiet: bool) -> None:
    """The result, for people."""
    tested = readable_numbers({"test accuracy": facts["test_accuracy"], "test loss": facts["test_loss"]})
    print_line(console, f"result   {tested}")
    if not quiet:
        speed = f"{facts['samples_per_second']:,.0f} samples/s"
        print_line(console, f"time     {pluralize(facts['epochs'], 'epoch')} in {facts['seconds']:.1f} s, {speed}")
        if facts["output"]:
            print_line(console, f"saved    {escaped(facts['output'])}")
        if drawn:
            print_line(console, f"drawn    {', '.join(drawn)}")
