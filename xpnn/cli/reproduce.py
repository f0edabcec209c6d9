"""xpnn recipes and xpnn reproduce: published networks, trained again, and what came of it."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, replace
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from xpnn.cli.terminal.console import make_console, pluralize, print_line, print_stderr
from xpnn.cli.terminal.options import Backend, DataDir, Debug, Device, Json, NoFallback
from xpnn.cli.terminal.progress import EpochDisplay
from xpnn.cli.terminal.stopping import Stopping
from xpnn.devices.place import Place
from xpnn.experiments import factory, recipes
from xpnn.experiments.recipes import Published, Recipe
from xpnn.experiments.run import Experiment, prepare
from xpnn.experiments.settings import Settings, choose_place
from xpnn.training.history import to_json
from xpnn.version import __version__


def list_recipes(as_json: Json = False, debug: Debug = False) -> None:
    """List the recipes, with the figures to meet."""
    found = [recipes.read(name) for name in recipes.names()]
    if as_json:
        rows = [asdict(recipe) for recipe in found]
        print(json.dumps({"schema_version": 1, "version": __version__, "recipes": rows}))
        return
    console = make_console()
    for recipe in found:
        print_line(console, recipe.name)
        print_line(console, f"    {recipe.title}")
        for figure in recipe.published:
            print_line(console, f"    {_words(figure.measure)}: {figure.said}")


def reproduce(
    names: Annotated[list[str] | None, typer.Argument(help="Recipes. [default: all]")] = None,
    device: Device = "auto",
    backend: Backend = "auto",
    no_fallback: NoFallback = False,
    data_dir: DataDir = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, only the results.")] = False,
    debug: Debug = False,
) -> None:
    """Train recipes: published against measured.

    Exit status 1 where a figure is not met.
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
            if stopping.signal is not None:
                break
    if stopping.signal is not None:
        print_stderr(
            f"stopped by a signal; {pluralize(len({row['recipe'] for row in results}), 'recipe')} of {len(chosen)} done"
        )
    if as_json:
        facts = {"schema_version": 1, "version": __version__, "backend": place.library, "device": place.name}
        print(json.dumps(to_json({**facts, "results": results})))
    elif results:
        _show(results, place)
    raise typer.Exit(stopping.status or int(not all(row["met"] for row in results)))


def _train(recipe: Recipe, place: Place, data_dir: str | None, quiet: bool, stopping: Stopping) -> list[dict[str, Any]]:
    """One result for each published figure; of several seeds, each trains a network of its own."""
    folder = data_dir if recipe.train["dataset"] == "mnist" else None
    settings = Settings(**recipe.train, data_dir=folder)
    factory.check(settings)
    figures: list[dict[str, float]] = []
    start = time.perf_counter()
    for seed in range(recipe.seeds):
        experiment = prepare(replace(settings, seed=seed), place, quiet=quiet)
        if stopping.signal is not None:  # since the last training
            break
        stopping.training(experiment.trainer)
        quietly = quiet or recipe.seeds > 1
        with EpochDisplay(experiment.epochs, len(experiment.rows), make_console(stderr=True), quiet=quietly) as display:
            experiment.fit([display], display.step)
        if stopping.signal is not None:
            break
        figures.append(_figures(experiment))
        if recipe.seeds > 1 and not quiet and (seed + 1) % 10 == 0:
            print_line(make_console(stderr=True), f"{seed + 1} of {recipe.seeds} seeds done")
    if len(figures) < recipe.seeds:
        return []
    return [_result(recipe, figure, figures, time.perf_counter() - start) for figure in recipe.published]


def _figures(experiment: Experiment) -> dict[str, float]:
    measured = {f"test_{name}": value for name, value in experiment.test().items()}
    measured |= {f"train_{name}": value for name, value in experiment.figures_of_training().items()}
    for part in ("train", "test"):
        measured[f"{part}_error"] = 100 * (1 - measured[f"{part}_accuracy"])
    return measured


def _result(recipe: Recipe, figure: Published, figures: list[dict[str, float]], seconds: float) -> dict[str, Any]:
    values = [measured[figure.measure] for measured in figures]
    reached = sum(map(figure.is_met, values))
    return {
        "recipe": recipe.name,
        "measure": figure.measure,
        "published": figure.said,
        "at_least": figure.at_least,
        "at_most": figure.at_most,
        "measured": statistics.median(values),
        "seeds": len(values),
        "seeds_that_met": reached,
        "met": reached > 0,
        "seconds": seconds,
    }


def _show(results: list[dict[str, Any]], place: Place) -> None:
    console = make_console()
    utf = console.encoding.lower().startswith("utf")
    yes, no = ("✓", "✗") if utf else ("+", "x")
    table = Table(box=box.SIMPLE, padding=(0, 1), pad_edge=False)
    for title in ("recipe", "", "published", "measured", "", "seconds"):
        table.add_column(title, justify="right" if title == "seconds" else "left")
    for row in results:
        table.add_row(
            row["recipe"],
            _words(row["measure"]),
            row["published"],
            _measured(row),
            yes if row["met"] else no,
            f"{row['seconds']:.0f}",
        )
    console.print(table)
    met = sum(row["met"] for row in results)
    print_line(console, f"{met} of {pluralize(len(results), 'figure')} met, on {place.name} with {place.library}.")


def _words(measure: str) -> str:
    """ "train accuracy" """
    return measure.replace("_", " ")


def _measured(row: dict[str, Any]) -> str:
    if row["seeds"] > 1:
        return f"{row['seeds_that_met']} of {row['seeds']} seeds"
    value = row["measured"]
    if row["measure"].endswith("accuracy"):
        return f"{value:.2%}"
    return f"{value:.3f} %" if row["measure"].endswith("error") else f"{value:.5f}"
