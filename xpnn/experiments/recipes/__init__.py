"""Recipes: experiments as TOML, one file each, for `xpnn train --recipe NAME` and `xpnn reproduce`.

title, source   what it is, and where it was published (no source: it is ours)
[train]         the options of `xpnn train`, by their names there with _ for -
[chosen]        by option, why it is so where the source leaves it open
[[published]]   measure (train_accuracy, test_accuracy, train_loss, …), said (the figure as published), and at_least or
                at_most: what to meet
seeds           how many seeds `reproduce` tries, each with a network of its own; one that meets a figure is enough
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from xpnn.validation import one_of


@dataclass(frozen=True)
class Published:
    """One figure to meet. said: the figure in the source's words; exactly one of at_least and at_most is a number."""

    measure: str
    said: str
    at_least: float | None = None
    at_most: float | None = None

    def is_met(self, measured: float) -> bool:
        """Whether the measured figure is as good."""
        return measured >= self.at_least if self.at_least is not None else measured <= (self.at_most or 0.0)


@dataclass(frozen=True)
class Recipe:
    """One recipe file, read."""

    name: str
    title: str
    source: str
    train: dict[str, Any]
    chosen: dict[str, str]
    published: tuple[Published, ...]
    seeds: int = 1


def names() -> list[str]:
    """The recipes that come with xpnn."""
    return sorted(file.name.removesuffix(".toml") for file in resources.files(__package__).iterdir()
                  if file.name.endswith(".toml"))  # fmt: skip


def read(name: str) -> Recipe:
    """The recipe called so. Raises InputError with the nearest name."""
    one_of("recipe", name, names())
    table = tomllib.loads(resources.files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))
    published = tuple(Published(**row) for row in table.pop("published", ()))
    return Recipe(name, published=published, **{"chosen": {}, "source": "", **table})
