"""Trees of arrays: nested tuples and NamedTuples; None is an empty branch, as in JAX's trees.

Parameters, gradients and optimizer states are such trees. A field that is carried from step to step without being
trained (a running mean, a fitted scale) holds `Carried(value)`: `trained` hides those fields from the optimizer, and
`merge` restores them with their next values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

from xpnn.arrays.namespace import Array

Tree: TypeAlias = Any


class Carried(NamedTuple):
    """A value that a layer carries instead of training it. `backward` returns its next value as its "gradient"."""

    value: Array


def map(f: Callable[..., Any], tree: Tree, *rest: Tree) -> Tree:
    """Apply a function to each leaf.

    Parameters
    ----------
    f : callable
        Called with one leaf of each tree.
    tree, *rest : trees
        Trees of the same structure.

    Returns
    -------
    tree
        The results, in the structure of `tree`.

    Examples
    --------
    >>> map(lambda x, y: x + y, (1, (2, None)), (10, (20, None)))
    (11, (22, None))
    """
    if tree is None:
        return None
    if isinstance(tree, tuple):
        if not rest:
            return _like(tree, [map(f, branch) for branch in tree])
        return _like(tree, [map(f, *branches) for branches in zip(tree, *rest, strict=True)])
    return f(tree, *rest)


def leaves(tree: Tree) -> list[Array]:
    """Return the arrays of a tree, in order.

    Examples
    --------
    >>> leaves((1, (2, None), ()))
    [1, 2]
    """
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
    """Return a tree of the structure of `tree` with other leaves.

    Parameters
    ----------
    tree : tree
    new_leaves : list of arrays
        In the order of `leaves`.
    old_leaves : list of arrays, optional
        The list that ``leaves(tree)`` returned. If `new_leaves` is this very list, its arrays were written in place,
        and `tree` itself is returned.

    Examples
    --------
    >>> rebuild((1, (2, None)), [3, 4])
    (3, (4, None))
    """
    return tree if new_leaves is old_leaves else _rebuild(tree, iter(new_leaves))


def named(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Array]]:
    """Yield (name, array) for each leaf: the names of the fields or the indices of the tuples, joined by dots.

    Examples
    --------
    >>> list(named((1, (2, None))))
    [('0', 1), ('1.0', 2)]
    """
    if isinstance(tree, Carried):
        yield prefix, tree.value
    elif isinstance(tree, tuple):
        names = getattr(tree, "_fields", range(len(tree)))
        for name, branch in zip(names, tree, strict=True):
            yield from named(branch, f"{prefix}.{name}" if prefix else str(name))
    elif tree is not None:
        yield prefix, tree


def trained(tree: Tree) -> Tree:
    """Return the tree that an optimizer sees: with None for each `Carried` field.

    Examples
    --------
    >>> trained((1, Carried(2)))
    (1, None)
    """
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
    """Return `trained_part` with the `Carried` fields of `carried_from`.

    Examples
    --------
    >>> merge((1, None), (3, Carried(4)))
    (1, Carried(value=4))
    """
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
    """Return the types and shapes of a tree as text, to compare and to display.

    Examples
    --------
    >>> import numpy as np
    >>> outline((np.zeros((2, 3)), None))
    'tuple((2, 3), None)'
    """
    if isinstance(tree, tuple):
        return f"{type(tree).__name__}({', '.join([outline(branch) for branch in tree])})"
    return "None" if tree is None else str(tuple(getattr(tree, "shape", ())))


def _rebuild(tree: Tree, supply: Iterator[Array]) -> Tree:
    if not isinstance(tree, tuple):
        return None if tree is None else next(supply)
    return _like(tree, [_rebuild(branch, supply) for branch in tree])


def _with(tree: tuple, changed: dict[int, Tree]) -> Tree:
    """The tree with these branches changed, or `tree` itself if none is: the usual case, once per step."""
    return _like(tree, [changed.get(i, branch) for i, branch in enumerate(tree)]) if changed else tree


def _like(tree: tuple, branches: list) -> Tree:
    return getattr(tree, "_make", tuple)(branches)  # a NamedTuple has `_make`
