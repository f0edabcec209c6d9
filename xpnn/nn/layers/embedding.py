"""A table that is looked up by whole numbers."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from xpnn.arrays import random
from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.matmul import matmul
from xpnn.arrays.namespace import Array, array_namespace, device_of
from xpnn.arrays.random import Key
from xpnn.devices.place import to_numpy
from xpnn.errors import InputError
from xpnn.validation import as_count


class EmbeddingParams(NamedTuple):
    """weight: (num_embeddings, embedding_dim)."""

    weight: Array


@dataclass(frozen=True)
class Embedding:
    """y[…, :] = weight[x[…], :]: integers x of any shape (batch, …) -> (batch, …, embedding_dim), in weight's dtype.

    padding_idx: a row that starts at 0 and is not trained; a negative one counts from the end

    The rows start standard normal. x must hold 0 … num_embeddings − 1: `Trainer` checks it before anything is uploaded;
    called alone, the layer leaves other values to the library, and not every one raises.
    Raises InputError for an x that is not of integers, or a padding_idx that is no row.
    """

    accepts_integers: ClassVar[bool] = True

    num_embeddings: int
    embedding_dim: int
    padding_idx: int | None = None

    def __post_init__(self) -> None:
        for name in ("num_embeddings", "embedding_dim"):
            object.__setattr__(self, name, as_count(f"Embedding: {name}", getattr(self, name)))
        if self.padding_idx is not None:
            object.__setattr__(self, "padding_idx", self._row(self.padding_idx))

    def init(self, key: Key) -> EmbeddingParams:
        weight = random.normal(key.child("weight"), (self.num_embeddings, self.embedding_dim))
        if self.padding_idx is not None:
            weight[self.padding_idx] = 0
        return EmbeddingParams(weight)

    def forward(self, params: EmbeddingParams, x: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        xp = array_namespace(x)
        if not xp.isdtype(x.dtype, "integral"):
            raise InputError(
                f"Embedding({self.num_embeddings}, {self.embedding_dim}): x has dtype {x.dtype}; "
                "expected integers, the numbers of rows: convert it, as x.astype('int32')"
            )
        rows = xp.astype(xp.reshape(x, (-1,)), xp.int32, copy=False)  # not every library indexes with bytes
        y = xp.take(params.weight, rows, axis=0)
        return xp.reshape(y, (*x.shape, self.embedding_dim)), rows

    def backward(
        self, params: EmbeddingParams, rows: Array, dy: Array, *, need_dx: bool = True
    ) -> tuple[None, EmbeddingParams]:
        """dweight[i, :] = Σ dy[…, :] over the places where x is i; 0 for padding_idx. Integers have no gradient."""
        xp = array_namespace(dy)
        dweight = add_rows(xp.reshape(dy, (-1, self.embedding_dim)), rows, self.num_embeddings)
        if self.padding_idx is not None:
            number = xp.arange(self.num_embeddings, dtype=rows.dtype, device=device_of(rows))
            dweight = xp.where(number[:, None] == self.padding_idx, 0.0, dweight)
        return None, EmbeddingParams(dweight)

    def check_input(self, name: str, x: Array) -> None:
        """Raise InputError unless x holds integers that the table has rows for; on the host, as for labels."""
        what = f"Embedding({self.num_embeddings}, {self.embedding_dim})"
        if not array_namespace(x).isdtype(x.dtype, "integral"):
            raise InputError(
                f"{name} has dtype {x.dtype}, but the model begins with {what}, which reads integers: "
                f"convert it, as {name}.astype('int32')"
            )
        host, last = to_numpy(x), self.num_embeddings - 1
        wrong = (host < 0) | (host > last)
        if wrong.any():
            first = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise InputError(
                f"{name}[{', '.join(map(str, first))}] = {host[first]}, but {what} has the rows 0…{last} "
                f"({int(wrong.sum())} of {wrong.size} values have none)"
            )

    def _row(self, index: object) -> int:
        n = self.num_embeddings
        if isinstance(index, numbers.Integral) and not isinstance(index, bool) and index in range(-n, n):
            return int(index) % n
        raise InputError(f"Embedding: padding_idx is {index!r}; expected a row of the table, 0…{n - 1}, or None")


@dispatched
def add_rows(values: Array, rows: Array, count: int) -> Array:
    """sums[i, :] = Σ values[j, :] over all j with rows[j] = i: (n, width) values, (n,) rows -> (count, width).

    The standard has no scatter that adds, so rows are compared with 0 … count − 1 and the matches multiply the values:
    2 · n · count · width operations, and a temporary array of count × 512 of the values' dtype. A value that is not
    finite spoils its whole column.
    """
    xp = array_namespace(values)
    number = xp.arange(count, dtype=rows.dtype, device=device_of(rows))[:, None]
    sums = xp.zeros((count, values.shape[1]), dtype=values.dtype, device=device_of(values))
    for i in range(math.ceil(rows.shape[0] / _BLOCK)):
        part = slice(i * _BLOCK, min((i + 1) * _BLOCK, rows.shape[0]))
        sums = sums + matmul(xp.astype(number == rows[part], values.dtype), values[part, :], exact=True)
    return sums


_BLOCK = 512
