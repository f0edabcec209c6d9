"""Dropout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xpnn.arrays import random
from xpnn.arrays.namespace import Array, array_namespace
from xpnn.arrays.random import Key
from xpnn.errors import InputError
from xpnn.validation import as_float


@dataclass(frozen=True)
class Dropout:
    """Set elements to 0 at random during training.

    Parameters
    ----------
    p : float
        Probability of dropping an element, 0 ≤ p < 1, rounded to a multiple of 2⁻²⁴.

    Raises
    ------
    InputError
        If `p` is out of range.

    Notes
    -----
    ::

        y = x / (1 − p) for kept elements, else 0

    In inference (without a key), y is x. x has any shape; its first axis is the rows of the batch. The mask depends
    only on the key and on the position of the row in the whole batch, so it is the same on every library. The same as
    ``torch.nn.Dropout``.

    References
    ----------
    Srivastava et al., "Dropout: A simple way to prevent neural networks from overfitting", 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> from xpnn.arrays import random
    >>> layer, x = nn.Dropout(0.5), np.ones((2, 4))
    >>> layer.forward((), x, key=random.key(0, "dropout"))[0]
    array([[2., 2., 2., 0.],
           [2., 2., 0., 2.]])
    >>> layer.forward((), x)[0] is x
    True
    """

    accepts_integers: ClassVar[bool] = False
    fused_role: ClassVar[str] = "dropout"
    features_out: ClassVar[str] = "same"

    p: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", as_float("Dropout: p", self.p))
        if not 0 <= self.p < 1:
            raise InputError(f"Dropout: p is {self.p!r}; expected a probability of dropping, 0 <= p < 1")

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Array | None]:
        """Return (y, mask); the mask is None if nothing is dropped."""
        if key is None or self.p == 0:
            return x, None
        keep = random.keep_mask(key, self.p, tuple(x.shape))
        return self._apply(keep, x), keep

    def backward(
        self, params: tuple[()], keep: Array | None, dy: Array, *, need_dx: bool = True
    ) -> tuple[Array, tuple[()]]:
        """Return dx = dy / (1 − p) for kept elements, else 0."""
        return (dy if keep is None else self._apply(keep, dy)), ()

    def _apply(self, keep: Array, x: Array) -> Array:
        """Return x / (1 − p) for kept elements, else 0."""
        return array_namespace(x).where(keep, x * (1 / (1 - self.p)), 0.0)
