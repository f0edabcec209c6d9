"""Embeddings: tables of vectors that integers select."""

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
from xpnn.arrays.special import concat
from xpnn.devices.place import to_numpy
from xpnn.errors import InputError
from xpnn.nn import initializers
from xpnn.nn.initializers import Initializer
from xpnn.nn.sizes import ensure_weights_fit
from xpnn.validation import Problems, as_count, as_finite


class EmbeddingParams(NamedTuple):
    """weight: array, (num_embeddings, embedding_dim)."""

    weight: Array


@dataclass(frozen=True)
class Embedding:
    """Look up a trained vector for each integer.

    Parameters
    ----------
    num_embeddings : int
        Number of rows of the table. x must hold integers from 0 to num_embeddings − 1.
    embedding_dim : int
        Size of each vector.
    padding_idx : int, optional
        A row that is initially 0 and is not trained; negative numbers count from the end.
    weight_init : str or Initializer, optional
        A name in `xpnn.nn.initializers.INITIALIZERS`, or an initializer; the table has the fans (num_embeddings,
        embedding_dim). By default the standard normal distribution.

    Raises
    ------
    InputError
        If a size is not a positive integer, `padding_idx` is not a row of the table, or an initializer is unknown.
        `forward` raises it if x does
        not have an integer dtype.

    Notes
    -----
    ::

        y[…, :] = weight[x[…], :]

    x has any shape (batch, …); y has the shape (batch, …, embedding_dim) and the dtype of the weight. `Trainer` checks
    the range of x before training; `forward` does not, and not every library raises for an index that is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> from xpnn.nn.layers.embedding import EmbeddingParams
    >>> layer, params = nn.Embedding(3, 2), EmbeddingParams(np.array([[0.0, 0.5], [1.0, 1.5], [2.0, 2.5]]))
    >>> y, residuals = layer.forward(params, np.array([2, 0, 2]))
    >>> y.tolist()
    [[2.0, 2.5], [0.0, 0.5], [2.0, 2.5]]
    >>> dx, grads = layer.backward(params, residuals, np.ones((3, 2)))
    >>> grads.weight.tolist()
    [[1.0, 1.0], [0.0, 0.0], [2.0, 2.0]]
    """

    accepts_integers: ClassVar[bool] = True

    num_embeddings: int
    embedding_dim: int
    padding_idx: int | None = None
    weight_init: str | Initializer | None = None

    def __post_init__(self) -> None:
        problems = Problems()
        for name in ("num_embeddings", "embedding_dim"):
            with problems:
                object.__setattr__(self, name, as_count(f"Embedding: {name}", getattr(self, name)))
        if self.padding_idx is not None and not problems:  # its range is that of the first
            with problems:
                object.__setattr__(self, "padding_idx", self._row(self.padding_idx))
        if self.weight_init is not None:
            with problems:
                initializers.get(self.weight_init)
        problems.raise_found()

    @property
    def weight_count(self) -> int:
        """How many weights the table has."""
        return self.num_embeddings * self.embedding_dim

    def init(self, key: Key) -> EmbeddingParams:
        ensure_weights_fit(self)
        drawn, shape = key.child("weight"), (self.num_embeddings, self.embedding_dim)
        if self.weight_init is None:
            weight = random.normal(drawn, shape)
        else:
            weight = initializers.first_values(self.weight_init, drawn, shape)
        if self.padding_idx is not None:
            weight[self.padding_idx] = 0
        return EmbeddingParams(weight)

    def forward(self, params: EmbeddingParams, x: Array, *, key: Key | None = None) -> tuple[Array, Array]:
        xp = array_namespace(x)
        if not xp.isdtype(x.dtype, "integral"):
            raise InputError(
                f"Embedding({self.num_embeddings}, {self.embedding_dim}): x has dtype {x.dtype}; "
                "expected integers (row indices); convert it: x.astype('int32')"
            )
        rows = xp.astype(xp.reshape(x, (-1,)), xp.int32, copy=False)  # not every library takes uint8 as indices
        y = xp.take(params.weight, rows, axis=0)
        return xp.reshape(y, (*x.shape, self.embedding_dim)), rows

    def backward(
        self, params: EmbeddingParams, rows: Array, dy: Array, *, need_dx: bool = True
    ) -> tuple[None, EmbeddingParams]:
        """Return dweight[i,:] = Σ dy[…,:] over all positions at which x is i, and 0 for row padding_idx.

        dx is None, because integers have no gradient.
        """
        xp = array_namespace(dy)
        dweight = add_rows(xp.reshape(dy, (-1, self.embedding_dim)), rows, self.num_embeddings)
        if self.padding_idx is not None:
            number = xp.arange(self.num_embeddings, dtype=rows.dtype, device=device_of(rows))
            dweight = xp.where(number[:, None] == self.padding_idx, 0.0, dweight)
        return None, EmbeddingParams(dweight)

    def check_input(self, name: str, x: Array) -> None:
        """Raise InputError if `x` does not hold integers from 0 to num_embeddings − 1. Copies `x` to the host."""
        what = f"Embedding({self.num_embeddings}, {self.embedding_dim})"
        if not array_namespace(x).isdtype(x.dtype, "integral"):
            raise InputError(
                f"{name} has dtype {x.dtype}, but the model begins with {what}, which expects integers; "
                f"convert it: {name}.astype('int32')"
            )
        host, last = to_numpy(x), self.num_embeddings - 1
        wrong = (host < 0) | (host > last)
        if wrong.any():
            first = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise InputError(
                f"{name}[{', '.join(map(str, first))}] = {host[first]}, but {what} has rows 0…{last} "
                f"({int(wrong.sum())} of {wrong.size} values are out of range)"
            )

    def _row(self, index: object) -> int:
        """Return `index` as a row of the table, counted from 0."""
        n = self.num_embeddings
        if isinstance(index, numbers.Integral) and not isinstance(index, bool) and index in range(-n, n):
            return int(index) % n
        raise InputError(f"Embedding: padding_idx is {index!r}; expected a row of the table, 0…{n - 1}, or None")


@dataclass(frozen=True)
class EmbedColumns:
    """Replace columns of category numbers by trained vectors, and pass the other columns on.

    Parameters
    ----------
    columns : tuple of int
        Which columns of x hold categories: ascending numbers from 0 on.
    embeddings : tuple of Embedding
        The table of each of these columns. Its `padding_idx` can be the row of categories that training does not have.

    Raises
    ------
    InputError
        If the columns are not ascending, or do not have one table each. `forward` raises it if x has another shape.

    Notes
    -----
    ::

        y = [x[:, 0], …, weight_c[x[:, c], :], …]

    x has the shape (batch, features), and y has the columns of x in their order, each category column as the
    `embedding_dim` columns of its vector. x is floating point, so that it can hold measured columns too; categories are
    rounded to the nearest integer, and their gradient is 0. The parameters are the tuple of those of the tables; table
    i draws its initial values by ``key.child(i)``. `Trainer` checks the categories before training if this is the first
    layer; `forward` does not check them.

    References
    ----------
    Guo and Berkhahn, "Entity embeddings of categorical variables", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> from xpnn.nn.layers.embedding import EmbeddingParams
    >>> layer = nn.EmbedColumns((1,), (nn.Embedding(3, 2),))
    >>> params = (EmbeddingParams(np.array([[0.0, 0.5], [1.0, 1.5], [2.0, 2.5]])),)
    >>> y, residuals = layer.forward(params, np.array([[7.0, 2.0, 9.0], [8.0, 0.0, 9.0]]))
    >>> y.tolist()
    [[7.0, 2.0, 2.5, 9.0], [8.0, 0.0, 0.5, 9.0]]
    >>> dx, grads = layer.backward(params, residuals, np.ones((2, 4)))
    >>> dx.tolist(), grads[0].weight.tolist()
    ([[1.0, 0.0, 1.0], [1.0, 0.0, 1.0]], [[1.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
    """

    accepts_integers: ClassVar[bool] = False

    columns: tuple[int, ...]
    embeddings: tuple[Embedding, ...]

    def __post_init__(self) -> None:
        columns = tuple(int(as_finite("EmbedColumns: columns", column)) for column in self.columns)
        if not columns or len(columns) != len(self.embeddings):
            raise InputError(
                f"EmbedColumns: {len(columns)} columns, but {len(self.embeddings)} embeddings; expected at least one "
                "column, and one embedding for each"
            )
        if columns != self.columns or columns != tuple(sorted({*columns})) or columns[0] < 0:
            raise InputError(f"EmbedColumns: columns is {self.columns!r}; expected ascending numbers from 0 on")

    @property
    def weight_count(self) -> int:
        """How many weights all tables have."""
        return sum(table.weight_count for table in self.embeddings)

    def init(self, key: Key) -> tuple[EmbeddingParams, ...]:
        return tuple(table.init(key.child(i)) for i, table in enumerate(self.embeddings))

    def forward(
        self, params: tuple[EmbeddingParams, ...], x: Array, *, key: Key | None = None
    ) -> tuple[Array, tuple[Array, ...]]:
        xp = array_namespace(x)
        if x.ndim != 2 or x.shape[1] <= self.columns[-1]:
            raise InputError(
                f"EmbedColumns: x has shape {tuple(x.shape)}; expected (batch, features) with at least "
                f"{self.columns[-1] + 1} features"
            )
        parts, residuals, start = [], [], 0
        for column, table, branch in zip(self.columns, self.embeddings, params, strict=True):
            vectors, rows = table.forward(branch, xp.astype(xp.round(x[:, column]), xp.int32))
            parts += [x[:, start:column], vectors]
            residuals.append(rows)
            start = column + 1
        return concat([*parts, x[:, start:]], axis=1), tuple(residuals)

    def backward(
        self, params: tuple[EmbeddingParams, ...], residuals: tuple[Array, ...], dy: Array, *, need_dx: bool = True
    ) -> tuple[Array | None, tuple[EmbeddingParams, ...]]:
        """Return dx, which is dy in the other columns and 0 in those of categories, and the gradients of the tables."""
        xp = array_namespace(dy)
        parts, grads, start, here = [], [], 0, 0  # start: in x, here: in dy
        for column, table, branch, rows in zip(self.columns, self.embeddings, params, residuals, strict=True):
            first = here + column - start
            last = first + table.embedding_dim
            grads.append(table.backward(branch, rows, dy[:, first:last])[1])
            parts += [dy[:, here:first], xp.zeros_like(dy[:, :1])]
            start, here = column + 1, last
        return (concat([*parts, dy[:, here:]], axis=1) if need_dx else None), tuple(grads)

    def check_input(self, name: str, x: Array) -> None:
        """Raise InputError if a column holds other values than the rows of its table. Copies it to the host."""
        for column, table in zip(self.columns, self.embeddings, strict=True):
            if x.ndim != 2 or x.shape[1] <= column:
                return  # `forward` says so
            host, last = to_numpy(x[:, column]), table.num_embeddings - 1
            wrong = (host < 0) | (host > last) | (host != np.rint(host))
            if wrong.any():
                row = int(np.argmax(wrong))
                raise InputError(
                    f"{name}[{row}, {column}] = {host[row]}, but EmbedColumns takes integers from 0 to {last} in this "
                    f"column ({int(wrong.sum())} of {wrong.size} values are others)"
                )


@dispatched
def add_rows(values: Array, rows: Array, count: int) -> Array:
    """Return sums[i, :] = Σ values[j, :] over all j with rows[j] = i, a scatter-add.

    Parameters
    ----------
    values : array, (n, width)
    rows : array, (n,)
        Integers from 0 to count − 1.
    count : int
        Number of rows of the result.

    Returns
    -------
    array, (count, width)

    Notes
    -----
    The array API standard has no scatter-add. Instead, a (count, n) matrix of 0 and 1 multiplies the values, in blocks
    of 512 columns: 2 · n · count · width operations, and a temporary array of (count, 512). A value that is not finite
    makes its whole column NaN.

    Examples
    --------
    >>> import numpy as np
    >>> add_rows(np.array([[1.0], [2.0], [4.0]]), np.array([1, 0, 1]), 3).tolist()
    [[2.0], [5.0], [0.0]]
    """
    xp = array_namespace(values)
    number = xp.arange(count, dtype=rows.dtype, device=device_of(rows))[:, None]
    sums = xp.zeros((count, values.shape[1]), dtype=values.dtype, device=device_of(values))
    for i in range(math.ceil(rows.shape[0] / _BLOCK)):
        part = slice(i * _BLOCK, min((i + 1) * _BLOCK, rows.shape[0]))
        sums = sums + matmul(xp.astype(number == rows[part], values.dtype), values[part, :], exact=True)
    return sums


_BLOCK = 512
