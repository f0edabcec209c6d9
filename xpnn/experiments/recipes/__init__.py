"""Recipes: experiments as TOML files, for `xpnn train --recipe NAME` and `xpnn reproduce`.

title, source   what it is, and where it was published (without a source, it is xpnn's own)
[train]         settings by name, see `xpnn.experiments.Settings`
[chosen]        by setting, the reason for a value that the source leaves open
[[published]]   measure (train_accuracy, test_accuracy, train_loss, …), said (the figure as published), and at_least or
                at_most: the bound to meet
seeds           how many seeds `reproduce` tries, each with its own network; one that meets a figure is enough
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from xpnn.validation import one_of


@dataclass(frozen=True)
class Published:
    """One published figure.

    Parameters
    ----------
    measure : str
        "train_" or "test_", and "loss", "accuracy" or "error" (in per cent).
    said : str
        The figure in the words of the source.
    at_least, at_most : float or None
        The bound to meet; exactly one of the two is a number.
    """

    measure: str
    said: str
    at_least: float | None = None
    at_most: float | None = None

    def is_met(self, measured: float) -> bool:
        """Whether the measured value is within the bound."""
        return measured >= self.at_least if self.at_least is not None else measured <= (self.at_most or 0.0)


@dataclass(frozen=True)
class Recipe:
    """One recipe.

    Parameters
    ----------
    name, title, source : str
        Its name, a line that describes it, and where it was published, or "".
    train : dict
        Settings by name.
    chosen : dict of str
        By setting, the reason for a value that the source leaves open.
    published : tuple of Published
        The figures to meet.
    seeds : int
        How many seeds `reproduce` tries.
    """

    name: str
    title: str
    source: str
    train: dict[str, Any]
    chosen: dict[str, str]
    published: tuple[Published, ...]
    seeds: int = 1


def names() -> list[str]:
    """The names of the recipes that come with xpnn."""
    return sorted(
        file.name.removesuffix(".toml")
        for file in resources.files(__package__).iterdir()
        if file.name.endswith(".toml")
    )


def read(name: str) -> Recipe:
    """Read a recipe.

    Parameters
    ----------
    name : str
        One of `names`.

    Returns
    -------
    Recipe

    Raises
    ------
    InputError
        If there is no such recipe; the message offers the nearest name.

    Examples
    --------
    >>> from xpnn.experiments import recipes
    >>> recipes.read("tiny-relu").train["hidden"]
    '10'
    """
    one_of("recipe", name, names())
    table = tomllib.loads(resources.files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))
    published = tuple(Published(**row) for row in table.pop("published", ()))
    return Recipe(name, published=published, **{"chosen": {}, "source": "", **table})
