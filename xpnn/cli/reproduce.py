"""xpnn recipes and xpnn reproduce: published networks, trained again."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from xpnn.cli.terminal.console import (
    make_console,
    make_table,
    marks,
    pluralize,
    print_line,
    print_result,
    print_stderr,
    print_table,
)
from xpnn.cli.terminal.downloads import DownloadDisplay
from xpnn.cli.terminal.options import Backend, DataDir, Debug, Device, Json, NoFallback, Offline, choose_place
from xpnn.cli.terminal.progress import EpochDisplay
from xpnn.cli.terminal.stopping import Stopping
from xpnn.devices.place import Place
from xpnn.experiments import Experiment, Hooks, Recipe, recipes
from xpnn.experiments import reproduce as train_recipe
from xpnn.training.history import to_json
from xpnn.version import __version__


def list_recipes(as_json: Json = False, debug: Debug = False) -> None:
    """List the recipes and their published figures."""
    found = [recipes.read(name) for name in recipes.names()]
    if as_json:
        rows = [asdict(recipe) for recipe in found]
        print_result(json.dumps({"schema_version": 1, "version": __version__, "recipes": rows}))
        return
    console = make_console()
    for recipe in found:
        print_line(console, recipe.name)
        print_line(console, f"    {recipe.title}")
        for figure in recipe.published:
            print_line(console, f"    {_spaced(figure.measure)}: {figure.said}")


def reproduce(
    names: Annotated[list[str] | None, typer.Argument(help="Recipes. [default: all]")] = None,
    device: Device = "auto",
    backend: Backend = "auto",
    no_fallback: NoFallback = False,
    offline: Offline = False,
    data_dir: DataDir = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no progress, only the results.")] = False,
    debug: Debug = False,
) -> None:
    """Train recipes and compare with the published figures.

    The exit status is 1 if a figure is not reached.
    """
    chosen = [recipes.read(name) for name in names or recipes.names()]
    precisions = {recipe.train.get("precision", "fp32") for recipe in chosen}
    place = choose_place(device, backend, not no_fallback, max(precisions))  # "fp64" is switched on for all
    results: list[dict[str, Any]] = []
    with Stopping() as stopping:
        for recipe in chosen:
            if not quiet:
                print_line(make_console(stderr=True), f"{recipe.name}: {recipe.title}")
            results += _train(recipe, place, data_dir, quiet, stopping)
            if stopping.is_interrupted():
                break
    if stopping.is_interrupted():
        done = len({row["recipe"] for row in results})
        print_stderr(f"stopped by a signal; {pluralize(done, 'recipe')} of {len(chosen)} done")
    if as_json:
        facts = {"schema_version": 1, "version": __version__, "backend": place.library, "device": place.name}
        print_result(json.dumps(to_json({**facts, "results": results})))
    elif results:
        _show(results, place)
    raise typer.Exit(stopping.status or int(not all(row["met"] for row in results)))


def _train(recipe: Recipe, place: Place, data_dir: str | None, quiet: bool, stopping: Stopping) -> list[dict[str, Any]]:
    console = make_console(stderr=True)
    display = EpochDisplay(console, quiet=quiet or recipe.seeds > 1)

    def on_start(experiment: Experiment) -> None:
        downloads.stop()
        display.stop()
        display.start(experiment)

    def on_seed(done: int) -> None:
        if recipe.seeds > 1 and not quiet and done % 10 == 0:
            print_line(console, f"{done} of {recipe.seeds} seeds done")

    with display, DownloadDisplay(quiet=quiet) as downloads:
        hooks = Hooks(on_start=on_start, is_interrupted=stopping.is_interrupted, download_progress=downloads)
        return train_recipe(
            recipe,
            place,
            data_dir=data_dir,
            callbacks=[stopping, display],
            progress=display.step,
            hooks=hooks,
            on_seed=on_seed,
        )


def _show(results: list[dict[str, Any]], place: Place) -> None:
    console, table = make_console(), make_table()
    right, wrong = marks(console)
    for title in ("recipe", "", "published", "measured", "", "seconds"):
        table.add_column(title, justify="right" if title == "seconds" else "left")
    for row in results:
        table.add_row(
            row["recipe"],
            _spaced(row["measure"]),
            row["published"],
            _measured(row),
            right if row["met"] else wrong,
            f"{row['seconds']:.0f}",
        )
    print_table(console, table, "the table of the figures")
    met = sum(row["met"] for row in results)
    print_line(console, f"{met} of {pluralize(len(results), 'figure')} met, on {place.name} with {place.library}.")


def _spaced(measure: str) -> str:
    """ "train accuracy" """
    return measure.replace("_", " ")


def _measured(row: dict[str, Any]) -> str:
    if row["seeds"] > 1:
        return f"{row['seeds_that_met']} of {row['seeds']} seeds"
    value = row["measured"]
    if row["measure"].endswith("accuracy"):
        return f"{value:.2%}"
    return f"{value:.3f} %" if row["measure"].endswith("error") else f"{value:.5f}"
