"""Trees of arrays: tuples and NamedTuples, nested; None is an empty branch (so JAX sees the same trees).

Params, gradients and optimizer states are such trees. A field that is carried from step to step without being trained
(a running mean, a fitted scale) holds `Carried(value)`: `trained` hides those fields from the optimizer, `merge` puts
their next values back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

from xpnn.arrays.namespace import Array

Tree: TypeAlias = Any


class Carried(NamedTuple):
    """A value that a layer carries, not trains. Its "gradient" is its next value."""

    value: Array


def map(f: Callable[..., Any], tree: Tree, *rest: Tree) -> Tree:
    """The tree of `f(leaf, …)`; `rest` are trees of the same shape."""
    if tree is None:
        return None
    if isinstance(tree, tuple):
        return _like(tree, [map(f, *branches) for branches in zip(tree, *rest, strict=True)])
    return f(tree, *rest)


def leaves(tree: Tree) -> list[Array]:
    """The arrays of a tree, in order."""
    if tree is None:
        return []
    if isinstance(tree, tuple):
        return [leaf for branch in tree for leaf in leaves(branch)]
    return [tree]


def rebuild(tree: Tree, new_leaves: list[Array]) -> Tree:
    """A tree shaped as `tree`, with `new_leaves` in the order of `leaves`."""
    supply = iter(new_leaves)
    return map(lambda _: next(supply), tree)


def named(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Array]]:
    """(name, array) for each leaf: the fields' names and the tuples' indices, joined by dots."""
    if isinstance(tree, Carried):
        yield prefix, tree.value
    elif isinstance(tree, tuple):
        names = getattr(tree, "_fields", range(len(tree)))
        for name, branch in zip(names, tree, strict=True):
            yield from named(branch, f"{prefix}.{name}" if prefix else str(name))
    elif tree is not None:
        yield prefix, tree


def trained(tree: Tree) -> Tree:
    """The same tree with each `Carried` field left empty: what an optimizer may see."""
    if isinstance(tree, Carried):
        return None
    if isinstance(tree, tuple):
        return _like(tree, [trained(branch) for branch in tree])
    return tree


def merge(trained_part: Tree, carried_from: Tree) -> Tree:
    """`trained_part` with its emptied fields filled by the `Carried` values of `carried_from`."""
    if isinstance(carried_from, Carried):
        return carried_from
    if isinstance(carried_from, tuple):
        pairs = zip(trained_part, carried_from, strict=True)
        return _like(carried_from, [merge(*pair) for pair in pairs])
    return trained_part


def outline(tree: Tree) -> str:
    """The types and the shapes of a tree, in words: to compare, and to show."""
    if isinstance(tree, tuple):
        return f"{type(tree).__name__}({', '.join([outline(branch) for branch in tree])})"
    return "None" if tree is None else str(tuple(getattr(tree, "shape", ())))


def _like(tree: tuple, branches: list) -> Tree:
    return getattr(tree, "_make", tuple)(branches)  # a NamedTuple has `_make`
