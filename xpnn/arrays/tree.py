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
        if not rest:
            return _like(tree, [map(f, branch) for branch in tree])
        return _like(tree, [map(f, *branches) for branches in zip(tree, *rest, strict=True)])
    return f(tree, *rest)


def leaves(tree: Tree) -> list[Array]:
    """The arrays of a tree, in order."""
    found: list[Array] = []
    _collect((tree,), found)
    return found


def _collect(branches: tuple[Tree, ...], found: list[Array]) -> None:
    for branch in branches:
        if isinstance(branch, tuple):
            if branch:
                _collect(branch, found)
        elif branch is not None:
            found.append(branch)


def rebuild(tree: Tree, new_leaves: list[Array], old_leaves: list[Array] | None = None) -> Tree:
    """A tree shaped as `tree`, with `new_leaves` in the order of `leaves`.

    old_leaves: what `leaves(tree)` gave; the tree itself comes back where it is the very list that was written into.
    """
    return tree if new_leaves is old_leaves else _rebuild(tree, iter(new_leaves))


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
    if not isinstance(tree, tuple):
        return tree
    if isinstance(tree, Carried):
        return None
    changed = {}
    for i, branch in enumerate(tree):
        if isinstance(branch, tuple) and (new := trained(branch)) is not branch:
            changed[i] = new
    return _with(tree, changed)


def merge(trained_part: Tree, carried_from: Tree) -> Tree:
    """`trained_part` with its emptied fields filled by the `Carried` values of `carried_from`."""
    if not isinstance(carried_from, tuple):
        return trained_part
    if isinstance(carried_from, Carried):
        return carried_from
    changed = {}
    for i, branch in enumerate(carried_from):
        if isinstance(branch, tuple) and (new := merge(trained_part[i], branch)) is not trained_part[i]:
            changed[i] = new
    return _with(trained_part, changed)


def outline(tree: Tree) -> str:
    """The types and the shapes of a tree, in words: to compare, and to show."""
    if isinstance(tree, tuple):
        return f"{type(tree).__name__}({', '.join([outline(branch) for branch in tree])})"
    return "None" if tree is None else str(tuple(getattr(tree, "shape", ())))


def _rebuild(tree: Tree, supply: Iterator[Array]) -> Tree:
    if not isinstance(tree, tuple):
        return None if tree is None else next(supply)
    return _like(tree, [_rebuild(branch, supply) for branch in tree])


def _with(tree: tuple, changed: dict[int, Tree]) -> Tree:
    """The tree with these branches changed; `tree` itself where none is: the usual case, once in each step."""
    return _like(tree, [changed.get(i, branch) for i, branch in enumerate(tree)]) if changed else tree


def _like(tree: tuple, branches: list) -> Tree:
    return getattr(tree, "_make", tuple)(branches)  # a NamedTuple has `_make`
