"""Dropout: random silence while training."""

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
    """y = x / (1 − p) where a coin shows keep, else 0; y = x in inference (no key), and for p = 0.

    p: probability of dropping, 0 ≤ p < 1, rounded to a multiple of 2⁻²⁴. The mask depends on the key alone, so it is
    the same on every library. Source: Srivastava et al. 2014.
    """

    accepts_integers: ClassVar[bool] = False
    fused_role: ClassVar[str] = "dropout"

    p: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", as_float("Dropout: p", self.p))
        if not 0 <= self.p < 1:
            raise InputError(f"Dropout: p is {self.p!r}; expected a probability of dropping, 0 <= p < 1")

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Array | None]:
        if key is None or self.p == 0:
            return x, None
        keep = random.keep_mask(key, self.p, tuple(x.shape))
        return self._apply(keep, x), keep

    def backward(
        self, params: tuple[()], keep: Array | None, dy: Array, *, need_dx: bool = True
    ) -> tuple[Array, tuple[()]]:
        """dx = dy / (1 − p) where kept, else 0."""
        return (dy if keep is None else self._apply(keep, dy)), ()

    def _apply(self, keep: Array, x: Array) -> Array:
        return array_namespace(x).where(keep, x * (1 / (1 - self.p)), 0.0)
