"""Recipes, trained again: published figures against measured ones."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from xpnn.devices.place import Place
from xpnn.experiments.experiment import Experiment, prepare
from xpnn.experiments.recipes import Published, Recipe
from xpnn.experiments.run_experiment import Hooks
from xpnn.experiments.settings import Settings
from xpnn.training.engine import Progress
from xpnn.training.trainer import Callback

_NO_HOOKS = Hooks()


def reproduce(
    recipe: Recipe,
    place: Place | None = None,
    *,
    data_dir: str | None = None,
    callbacks: Sequence[Callback] = (),
    progress: Progress | None = None,
    hooks: Hooks = _NO_HOOKS,
    on_seed: Callable[[int], None] | None = None,
) -> list[dict[str, Any]]:
    """Train a recipe, one network for each of its seeds, and compare with what is published.

    Parameters
    ----------
    recipe : Recipe
        From `xpnn.experiments.recipes.read`.
    place : Place, optional
        Where to run; None for NumPy on the CPU.
    data_dir : str, optional
        Folder with the MNIST files, for a recipe that uses them.
    callbacks, progress, hooks
        See `run`; for each seed.
    on_seed : callable, optional
        Called as ``on_seed(n)`` when n seeds are done.

    Returns
    -------
    list of dict
        One result for each published figure: "recipe", "measure", "published", "at_least", "at_most", "measured" (the
        median over the seeds), "seeds", "seeds_that_met", "met" (whether at least one did), "seconds". Empty if
        ``hooks.is_interrupted()`` became true before the last seed was done.

    Examples
    --------
    >>> from xpnn.experiments import recipes, reproduce
    >>> recipe = recipes.Recipe(
    ...     "quick", "a few epochs on the digits", "", {"dataset": "digits", "hidden": "64", "epochs": 5}, {},
    ...     (recipes.Published("test_accuracy", "50 %", at_least=0.5),),
    ... )
    >>> [result["met"] for result in reproduce(recipe)]
    [True]
    """
    folder = data_dir if recipe.train["dataset"] == "mnist" else None
    settings = Settings(**recipe.train, data_dir=folder)
    measured: list[dict[str, float]] = []
    start = time.perf_counter()
    for seed in range(recipe.seeds):
        experiment = prepare(replace(settings, seed=seed), place, download_progress=hooks.download_progress)
        if hooks.is_interrupted():  # since the last training
            return []
        hooks.on_start(experiment)
        experiment.fit(callbacks, progress)
        if hooks.is_interrupted():
            return []
        measured.append(measures(experiment))
        if on_seed is not None:
            on_seed(seed + 1)
    seconds = time.perf_counter() - start
    return [_result(recipe, figure, measured, seconds) for figure in recipe.published]


def measures(experiment: Experiment) -> dict[str, float]:
    """Return what a recipe may publish of a trained experiment: {train,test}_{loss,accuracy,error}; errors in %."""
    found = {f"test_{name}": value for name, value in experiment.evaluate_test().items()}
    found |= {f"train_{name}": value for name, value in experiment.evaluate_train().items()}
    for part in ("train", "test"):
        found[f"{part}_error"] = 100 * (1 - found[f"{part}_accuracy"])
    return found


def _result(recipe: Recipe, figure: Published, measured: list[dict[str, float]], seconds: float) -> dict[str, Any]:
    values = [found[figure.measure] for found in measured]
    met = sum(map(figure.is_met, values))
    return {
        "recipe": recipe.name,
        "measure": figure.measure,
        "published": figure.said,
        "at_least": figure.at_least,
        "at_most": figure.at_most,
        "measured": statistics.median(values),
        "seeds": len(values),
        "seeds_that_met": met,
        "met": met > 0,
        "seconds": seconds,
    }
