"""Penalties: terms of the loss that depend on the parameters alone, and their gradients.

A penalty R is added to the *sum* of the losses of the rows of a batch. So a loss that is a mean becomes
(Σ w ℓ + R) / Σ w: the larger the batch, the smaller the share of the penalty, as if it were one more row.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol

from xpnn.arrays import tree
from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.namespace import Array, array_namespace
from xpnn.errors import InputError
from xpnn.nn.protocols import Params
from xpnn.validation import Problems, as_float


class Penalty(Protocol):
    """The interface of a penalty: a frozen dataclass with this method. The rules of `Layer` for functions apply.

    Examples
    --------
    The sum of the absolute values of all parameters:

    >>> import numpy as np
    >>> from xpnn.arrays import tree
    >>> from xpnn.arrays.namespace import array_namespace
    >>> class L1:
    ...     def add(self, loss, grads, params, count, *, donate=False):
    ...         for p in tree.leaves(params):
    ...             loss = loss + array_namespace(p).sum(abs(p)) / count
    ...         return loss, tree.map(lambda g, p: g + array_namespace(p).sign(p) / count, grads, params)
    >>> loss, grads = L1().add(np.asarray(1.0), (np.zeros(2),), (np.array([3.0, -1.0]),), 2)
    >>> float(loss), grads[0].tolist()
    (3.0, [0.5, -0.5])
    """

    def add(
        self, loss: Array, grads: Params, params: Params, count: int | Array, *, donate: bool = False
    ) -> tuple[Array, Params]:
        """Add the penalty to the loss of a batch and to its gradients.

        Parameters
        ----------
        loss : array, ()
        grads, params : Params
            Of one structure, with None for what is not trained.
        count : int or array, ()
            By what the penalty is divided: Σ of the weights of the rows if the loss is a mean, 1 if it is a sum. Above
            0.
        donate : bool
            Whether `grads` may be overwritten.

        Returns
        -------
        loss : array, ()
        grads : Params
        """


@dataclass(frozen=True)
class L2:
    """Half the sum of the squares of the weights, for the argument `penalty` of `Trainer`.

    Parameters
    ----------
    alpha : float
        Factor of the penalty, at least 0.
    only : sequence of str
        Names of the parameters that it applies to, such as "0.weight" or "*.bias": the indices and names in the tree of
        the parameters, joined by dots, or patterns of them. By default all parameters with two or more axes: the
        weights of Linear and Embedding, but no biases and no factors of normalization layers.

    Raises
    ------
    InputError
        If `alpha` is negative. `add` raises it if no parameter has a name in `only`.

    Notes
    -----
    ::

        loss = (Σ w ℓ + ½ alpha Σ p²) / Σ w

    for a loss that is a mean over the rows of the batch, with their weights w; for a sum, the numerator. This is the
    penalty of scikit-learn's `MLPClassifier`. `weight_decay` of an optimizer differs: it applies to all parameters,
    does not depend on the size of the batch, and does not appear in the loss.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import Trainer, nn, optim
    >>> x, y = np.eye(4), np.arange(4.0)
    >>> trainer = Trainer(nn.Linear(4, 1), nn.MSELoss(), optim.SGD(0.1), penalty=nn.L2(2.0))
    >>> _ = trainer.fit(x, y, epochs=300, batch_size=4)
    >>> trainer.snapshot().weight.ravel().round(1)  # without the penalty, they would spread by 3
    array([-0.7, -0.2,  0.3,  0.8])
    """

    alpha: float
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = Problems()
        with problems:
            object.__setattr__(self, "alpha", as_float("L2: alpha", self.alpha))
            if not 0 <= self.alpha < math.inf:
                raise InputError(f"L2: alpha is {self.alpha!r}; expected a finite number of at least 0")
        with problems:
            if isinstance(self.only, str) or not isinstance(self.only, Iterable):
                raise InputError(f"L2: only is {self.only!r}; expected a list of names of parameters")
            object.__setattr__(self, "only", tuple(self.only))
        problems.raise_found()

    def add(
        self, loss: Array, grads: Params, params: Params, count: int | Array, *, donate: bool = False
    ) -> tuple[Array, Params]:
        """Add the penalty to the loss of a batch and to its gradients; see `Penalty.add`."""
        leaves, before = tree.leaves(params), tree.leaves(grads)
        if self.only:
            chosen = _named(self.only, tuple([name for name, _ in tree.named(params)]))
        else:
            chosen = [i for i, leaf in enumerate(leaves) if leaf.ndim > 1]
        if not chosen or not self.alpha:
            return loss, grads
        weights, old = [leaves[i] for i in chosen], [before[i] for i in chosen]
        loss, new = add_squares(weights, old, loss, count, self.alpha, donate=donate)
        if new is old:  # written in place
            return loss, grads
        after = list(before)
        for i, grad in zip(chosen, new, strict=True):
            after[i] = grad
        return loss, tree.rebuild(grads, after)


@functools.lru_cache(maxsize=64)
def _named(patterns: tuple[str, ...], names: tuple[str, ...]) -> list[int]:
    """The indices of the names that match one of the patterns."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(f"L2: no parameter has the name {pattern!r}; the names are {', '.join(names)}")
    return [i for i, name in enumerate(names) if any(fnmatchcase(name, pattern) for pattern in patterns)]


@dispatched
def add_squares(
    weights: list[Array], grads: list[Array], loss: Array, count: int | Array, alpha: float, *, donate: bool
) -> tuple[Array, list[Any]]:
    """Return the loss + ½ alpha Σ w² / count, and the gradients + alpha w / count."""
    factor = alpha / count
    for w in weights:
        xp = array_namespace(w)
        loss = loss + 0.5 * factor * xp.sum(w * w)
    return loss, [g + factor * w for g, w in zip(grads, weights, strict=True)]
