"""xpnn train: train a network, and test it once at the end."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from xpnn import nn
from xpnn.cli.plot import check_pictures, draw_pictures
from xpnn.cli.terminal.console import (
    Output,
    escaped,
    make_console,
    pluralize,
    print_line,
    print_result,
    print_stderr,
    test_figures,
)
from xpnn.cli.terminal.downloads import DownloadDisplay
from xpnn.cli.terminal.options import Backend, Debug, Device, Json, NoFallback, Offline, choose_place, takes_settings
from xpnn.cli.terminal.progress import EpochDisplay
from xpnn.cli.terminal.ranks import (
    Notices,
    RankBlocks,
    RanksOption,
    RankTimeout,
    open_ranks,
    own_backend,
    own_place,
)
from xpnn.cli.terminal.stopping import Stopping
from xpnn.cli.terminal.sweep import Jobs, Scheduler, Seeds, SweepOptions, Varied, train_sweep, widest
from xpnn.data.tables.column import Column
from xpnn.errors import InputError
from xpnn.experiments import CheckpointPlan, Experiment, Hooks, Settings, factory, recipes, run
from xpnn.training.checks.ranks import on_rank_0
from xpnn.training.history import to_json

_SHOWN = 8  # classes and columns


@takes_settings()
def train(
    context: typer.Context,
    device: Device = "auto",
    backend: Backend = "auto",
    no_fallback: NoFallback = False,
    offline: Offline = False,
    output: Annotated[Path | None, typer.Option(help="New folder for the model and its history.")] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|auto",
            help="Continue the run in this folder; auto: begin the run in --output, or continue it if it exists.",
        ),
    ] = None,
    checkpoint_every: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Save a checkpoint in --output after every N epochs, or fewer if they are short; 0 for never.",
        ),
    ] = 1,
    checkpoint_steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Save a checkpoint after every N steps, too.")
    ] = None,
    checkpoint_minutes: Annotated[
        float | None, typer.Option(metavar="M", help="Save a checkpoint after every M minutes, too.")
    ] = None,
    keep_checkpoints: Annotated[
        int, typer.Option(min=1, metavar="N", help="Keep the newest N checkpoints, and that of the best epoch.")
    ] = 2,
    tensorboard: Annotated[
        bool,
        typer.Option("--tensorboard", help="Write event files for TensorBoard into --output, or --tensorboard-dir."),
    ] = False,
    tensorboard_dir: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write event files for TensorBoard into this folder.")
    ] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Draw the history, and test images, into --output.")] = False,
    varied: Varied = None,
    seeds: Seeds = None,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    ranks: RanksOption = None,
    rank_timeout: RankTimeout = 300.0,
    rank_blocks: RankBlocks = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no progress, only the result.")] = False,
    debug: Debug = False,
    **values: Any,
) -> None:
    """Train a network, and test it once at the end."""
    plan = CheckpointPlan(checkpoint_every, checkpoint_steps, checkpoint_minutes, keep_checkpoints)
    wanted = SweepOptions(varied, seeds, jobs, scheduler, output, resume, plot, tensorboard, tensorboard_dir)
    together = open_ranks(ranks, rank_timeout, rank_blocks)
    if wanted.is_sweep:
        if together is not None:
            raise InputError("--ranks trains one run in several processes; for several runs, use --jobs in its place")
        grid = wanted.grid()
        settings = _settings(context, values, {name: options[0] for name, options in grid.items()})
        place = choose_place(device, backend, not no_fallback, widest(settings.precision, grid))
        raise typer.Exit(train_sweep(wanted, grid, settings, place, plan, _print_plan, as_json=as_json, quiet=quiet))
    settings = _settings(context, values)
    factory.check(settings)
    folder, resumes = _folder(output, resume)
    for name in ("checkpoint_every", "checkpoint_steps", "checkpoint_minutes", "keep_checkpoints"):
        if folder is None and _is_given(context, name):
            raise InputError(f"--{name.replace('_', '-')} needs --output, the folder of the checkpoints")
    if plot:
        on_rank_0(together, lambda: check_pictures(folder))
    backend = own_backend(backend, together)
    place = own_place(choose_place(device, backend, not no_fallback, settings.precision), device, together)
    console = make_console(stderr=as_json, quiet=quiet)
    display = EpochDisplay(make_console(stderr=True), quiet=quiet)

    def on_start(experiment: Experiment) -> None:
        downloads.stop()
        _print_plan(console, experiment)
        display.start(experiment)

    def on_trained(experiment: Experiment) -> None:
        stopping.saving(together)
        display.stop()

    with Stopping() as stopping, display, Notices(console), DownloadDisplay(quiet=quiet) as downloads:
        hooks = Hooks(on_start, on_trained, stopping.is_interrupted, downloads)
        result = run(
            settings,
            output=folder,
            device=place,
            callbacks=[stopping, display],
            progress=display.step,
            tensorboard=tensorboard_dir or tensorboard,
            hooks=hooks,
            checkpoints=plan,
            resume=resumes,
            ranks=together,
        )
        drawn = []
        if plot and folder is not None and not Output.is_silent:
            drawn = draw_pictures(folder, result.history, result.experiment)
    facts = result.facts
    if stopping.is_interrupted():
        hint = "" if folder is None else f"; to continue: xpnn train --resume {shlex.quote(str(folder))}"
        print_stderr(f"stopped by a signal after {pluralize(facts['epochs'], 'whole epoch')}{escaped(hint)}")
    if as_json and not Output.is_silent:
        print_result(json.dumps(to_json(facts)))
    elif not as_json:
        _print_result(facts, make_console(), drawn, quiet=quiet)
    if together is not None:
        sys.stdout.flush()
        together.agree(None)  # the others wait until rank 0 has printed
    raise typer.Exit(stopping.status)


def _folder(output: Path | None, resume: str | None) -> tuple[Path | None, bool | str]:
    """The folder of the run, and whether a run in it is continued."""
    if resume is None:
        return output, False
    if resume == "auto":
        if output is None:
            raise InputError("--resume auto needs --output, the folder of the run")
        return output, "auto"
    if output is not None and output.absolute() != Path(resume).absolute():
        raise InputError("--resume continues the run in its own folder; leave --output out")
    return Path(resume), True


def _settings(
    context: typer.Context, values: dict[str, Any], first: Mapping[str, Any] = MappingProxyType({})
) -> Settings:
    """The settings: `first`, then those of the command line, then those of the recipe, then the defaults."""
    name = values.pop("recipe")
    if name is None:
        return Settings(**{**values, **first})
    given = {key: value for key, value in values.items() if _is_given(context, key)}
    return Settings.from_recipe(name, **{**given, **first})


def _is_given(context: typer.Context, name: str) -> bool:
    """Whether an option is on the command line."""
    return "COMMANDLINE" in str(context.get_parameter_source(name))


def _print_plan(console: Console, experiment: Experiment) -> None:
    """Print a few lines about what will be trained."""
    settings, data, place = experiment.settings, experiment.data, experiment.place
    train_rows, validation_rows = len(experiment.train_rows), len(experiment.validation_rows)
    linear = [layer for layer in experiment.model.layers if isinstance(layer, nn.Linear)]
    network = "-".join(str(width) for width in (linear[0].in_features, *(layer.out_features for layer in linear)))
    length = f"{pluralize(experiment.epochs, 'epoch')} in batches of {settings.batch_size}"
    schedule = "" if settings.schedule == "constant" else f" ({settings.schedule})"
    if experiment.trainer.steps:
        done = f"{pluralize(experiment.trainer.epoch, 'epoch')} and {pluralize(experiment.trainer.epoch_steps, 'step')}"
        print_line(console, f"resumed  after {done}")
    if settings.recipe is not None:
        print_line(console, f"recipe   {settings.recipe}: {recipes.read(settings.recipe).title}")
    for line in (
        f"data     {escaped(data.source)}: {train_rows:,} to train, {validation_rows:,} to validate, "
        f"{len(data.x_test):,} to test",
        *_described(experiment),
        f"network  {network}, {settings.activation}, dropout {settings.dropout}: "
        f"{experiment.n_parameters:,} parameters",
        f"training {settings.optimizer}, lr {settings.lr:g}{schedule}, {length}",
        f"device   {place.name} with {place.library}, {settings.precision}",
        *([] if (ranks := experiment.trainer.ranks) is None else [f"ranks    {ranks.size}, by {ranks.engine}"]),
    ):
        print_line(console, line)


def _described(experiment: Experiment) -> list[str]:
    """The target and the features of a table."""
    data, goal = experiment.data, experiment.goal
    if data.target is None or data.schema is None:
        return []
    targets = ", ".join(map(escaped, goal.targets))
    if goal.classes:
        counts = np.bincount(np.concatenate([data.y_train, data.y_test]), minlength=len(goal.classes))
        shown = [f"{escaped(name[:20])} {count:,}" for name, count in zip(goal.classes, counts, strict=True)]
        more = f", and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        what = f"{targets}: {len(shown)} classes ({', '.join(shown[:_SHOWN])}{more})"
    else:
        y = np.concatenate([data.y_train, data.y_test])
        ranges = ", ".join(f"{low:g} to {high:g}" for low, high in zip(y.min(axis=0), y.max(axis=0), strict=True))
        what = f"{targets}: regression, {ranges}"
    names = [escaped(column.name[:20]) + _embedded(column) for column in data.schema.columns]
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"target   {what}", f"features {len(names):,}: {', '.join(names[:_SHOWN])}{more}"]


def _embedded(column: Column) -> str:
    return f" ({len(column.levels):,} vectors of {column.embedding})" if column.embedding else ""


def _print_result(facts: dict[str, Any], console: Console, drawn: list[str], *, quiet: bool) -> None:
    print_line(console, f"result   {test_figures(facts)}")
    if not quiet:
        speed = f"{facts['samples_per_second']:,.0f} samples/s"
        print_line(console, f"time     {pluralize(facts['epochs'], 'epoch')} in {facts['seconds']:.1f} s, {speed}")
        if facts["output"]:
            print_line(console, f"saved    {escaped(facts['output'])}")
        if drawn:
            print_line(console, f"drawn    {', '.join(drawn)}")
