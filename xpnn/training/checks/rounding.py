"""What the conversion of data to float32 would round away: large offsets of columns."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from xpnn.arrays.mapped import MappedRows, parts_of
from xpnn.arrays.namespace import Array, array_namespace
from xpnn.devices.place import current, place_of, to_numpy
from xpnn.errors import InputError
from xpnn.nn import traits
from xpnn.nn.protocols import Layer
from xpnn.ranks import Ranks
from xpnn.training.checks.inputs import all_finite, own_part

_ROWS = 2**16  # converted at a time
_SHARE = 5e-3  # of the standard deviation of a column that the conversion may change
_WIDE = ("float64", "int32", "int64", "uint32", "uint64")  # can hold what float32 rounds


class Offsets:
    """The large constant that a model subtracts from x first: in float32, it is subtracted on the host in float64.

    Parameters
    ----------
    model : Layer
        The model; see `xpnn.nn.traits.centred`.
    dtype : {"float32", "float64"}
        The dtype of training.

    Attributes
    ----------
    offset : ndarray or None
        The constant.
    model : Layer
        The model that computes the same, with the same parameters, from x − offset.
    """

    def __init__(self, model: Layer, dtype: str) -> None:
        self._rounds, self._warned = dtype == "float32", set[str]()
        found = traits.centred(model) if self._rounds else None
        self.offset: np.ndarray | None = None if found is None else found[0]
        self.model: Layer = model if found is None else found[1]

    def features(self, name: str, x: Array, stacklevel: int, ranks: Ranks | None = None) -> Array:
        """Return x − offset, in float32 on the host; x itself if there is none. Raises InputError, warns.

        With ranks, all of them must call it.
        """
        if self.offset is None:
            hint = 'put nn.Standardize.fit(x) first in the model, or use dtype="float64"'
            self._warn(name, x, hint, stacklevel, ranks)
            return x
        if isinstance(x, MappedRows):
            centred_rows: Any = x.minus(self.offset)
            return centred_rows
        host = to_numpy(x)
        centred = np.empty(host.shape, np.float32)
        with np.errstate(over="ignore"):
            for first in range(0, len(host), _ROWS):
                rows = slice(first, first + _ROWS)
                centred[rows] = host[rows] - self.offset.reshape(host.shape[1:])
        if not all_finite(centred):
            raise InputError(f"{name} holds values too large for float32; scale them first, or train in float64")
        return centred

    def targets(self, name: str, y: Array, stacklevel: int) -> Array:
        """Return y. Warns."""
        self._warn(name, y, 'subtract an offset, or use dtype="float64"', stacklevel)
        return y

    def _warn(self, name: str, x: Array, hint: str, stacklevel: int, ranks: Ranks | None = None) -> None:
        """Warn of rounding, once for x and once for y."""
        known = name[-1] in self._warned
        if self._rounds and own_part(x, ranks)[0] is not x:  # all ranks must go on alike
            known = all(_gathered(ranks, known))
        if self._rounds and not known and warn_of_rounding(name, x, hint, stacklevel + 2, ranks):
            self._warned.add(name[-1])


def warn_of_rounding(name: str, x: Any, hint: str, stacklevel: int, ranks: Ranks | None = None) -> bool:
    """Warn if a column of x loses more than half a percent of its standard deviation in float32; return whether it did.

    Parameters
    ----------
    name : str
        The name of `x` in the message.
    x : array of shape (rows, …)
        The data.
    hint : str
        What to do about it.
    stacklevel : int
        As for `warnings.warn`, counted from the caller.
    ranks : Ranks, optional
        Each of them reads a part of `MappedRows`.

    Returns
    -------
    bool
    """
    own, _ = own_part(x, ranks)
    together = None if own is x else ranks
    if not any(_gathered(together, 0 not in own.shape and _may_round(own))):
        return False
    host = x if isinstance(x, MappedRows) else to_numpy(x)
    host = host.reshape(len(host), -1) if host.ndim != 2 else host
    if 0 in host.shape:
        return False
    rows = own_part(host, ranks)[0]
    some = [(part.min(axis=0).astype(np.float64), part.max(axis=0).astype(np.float64)) for part in parts_of(rows)]
    ranges = [pair for pairs in _gathered(together, some) for pair in pairs]
    low, high = np.min([r[0] for r in ranges], axis=0), np.max([r[1] for r in ranges], axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        spacing = np.spacing(np.maximum(np.abs(low), np.abs(high)).astype(np.float32)).astype(np.float64)
        least = (high - low) / np.sqrt(2.0 * len(host))  # of the standard deviation, for this range
    for i in np.flatnonzero((high > low) & (spacing > _SHARE * least) & np.isfinite(spacing)):
        column = np.concatenate([part[:, i] for part in parts_of(host)]).astype(np.float64)
        lost = np.abs(column - column.astype(np.float32)).max()
        if lost > _SHARE * column.std():
            where = f"column {i} of {name}" if host.shape[1] > 1 else name
            span = f"{low[i]:.10g} to {high[i]:.10g}"
            warnings.warn(
                f"{where} has values of {span}, which float32 rounds by up to {lost:.2g}; {hint}",
                stacklevel=stacklevel + 1,
            )
            return True
    return False


def _gathered(ranks: Ranks | None, value: Any) -> list[Any]:
    return [value] if ranks is None else ranks.gather(value, "the check of the data")


def _may_round(x: Array) -> bool:
    """Whether x has a dtype, and integers large enough, that float32 rounds."""
    if str(x.dtype).rpartition(".")[2] not in _WIDE:
        return False
    xp = array_namespace(x)
    if xp.isdtype(x.dtype, "real floating"):
        return True
    with current(place_of(x)):
        return any(max(-int(xp.min(part)), int(xp.max(part))) > 2**24 for part in parts_of(x))
