"""How a data set reaches the steps: it is on the device, or is streamed there in chunks while the steps compute."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from xpnn.arrays import random
from xpnn.arrays.mapped import MappedRows, gather
from xpnn.arrays.namespace import Array, is_array
from xpnn.devices.memory import free_bytes, give_back, is_out_of_memory
from xpnn.devices.place import Place, place_of, to_numpy, to_place
from xpnn.devices.staging import StagingBuffers, staging_for
from xpnn.errors import InputError
from xpnn.ranks import Ranks
from xpnn.ranks.base import any_rank
from xpnn.training.checks.inputs import all_finite, share_out
from xpnn.training.runners.base import batches_of
from xpnn.training.state import Data

_SHARE = 0.7  # of the free memory that a data set may take; the rest is for the steps
_CHECKED = 2**24  # bytes that are checked at a time
_TOO_LARGE = "{name} holds values too large for {dtype}; scale them first, or train in float64"
_CHUNK = 64 * 2**20  # bytes of a chunk, some milliseconds of transfer; two chunks are on the device
_CHUNK_ON_CPU = 2**22  # where nothing is transferred, and the steps find it in the cache
_CHUNK_SHARE = 8  # a chunk takes at most the free memory divided by this


class Chunk(NamedTuple):
    """Data on the device, and the steps to take on it.

    Attributes
    ----------
    data : Data
        The rows, on the device.
    batches : array of shape (≥ steps, batch)
        Indices of rows of `data`, one batch per step.
    steps : int
        How many of the batches to use.
    """

    data: Data
    batches: Array
    steps: int


Ranges: TypeAlias = Callable[[int], list[tuple[int, int]]]  # rows of a batch -> ranges of it that are read
Shuffle: TypeAlias = bool | Callable[[int, int], Any]  # (epoch, rows) -> indices of the rows, in order


class EpochOrder:
    """The order of the rows in each epoch.

    Parameters
    ----------
    seed : int
        Determines the shuffled orders.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._ahead: tuple[int, int, np.ndarray] | None = None

    def of(self, epoch: int, rows: int, shuffle: Shuffle) -> np.ndarray:
        """Return the row indices of an epoch, int32 on the host.

        Parameters
        ----------
        epoch : int
            Counted from 0.
        rows : int
            The number of rows of the data set.
        shuffle : bool or callable
            As for `Trainer.fit`.

        Raises
        ------
        InputError
            If a callable `shuffle` does not return indices of rows.
        """
        if callable(shuffle):
            return row_indices("shuffle returned", shuffle(epoch, rows), rows)
        if not check_shuffle(shuffle):
            return np.arange(rows, dtype=np.int32)
        if self._ahead is None or self._ahead[:2] != (epoch, rows):
            self.draw_ahead(epoch, rows)
        assert self._ahead is not None
        order, self._ahead = self._ahead[2], None
        return order

    def draw_ahead(self, epoch: int, rows: int) -> None:
        """Draw the shuffled order of an epoch now, for example while the device computes."""
        self._ahead = epoch, rows, random.permutation(random.key(self._seed, "shuffle").child(epoch), rows)


def check_shuffle(shuffle: Any) -> Shuffle:
    """Return `shuffle`. Raises InputError unless it is True, False or a function."""
    if callable(shuffle) or isinstance(shuffle, (bool, np.bool_)):
        return shuffle
    raise InputError(f"shuffle: {shuffle!r} is not True, False or a function (epoch, rows) -> row indices")


def row_indices(what: str, given: Any, rows: int) -> np.ndarray:
    """Return indices of rows as int32 on the host. Raises InputError, whose message begins with `what`, for others."""
    order = np.asarray(to_numpy(given) if is_array(given) else given)
    if order.ndim != 1 or order.dtype.kind not in "iu" or not order.size:
        hint = "; of a mask, they are numpy.flatnonzero(mask)" if order.dtype.kind == "b" else ""
        raise InputError(
            f"{what} {order.dtype} of shape {order.shape}; expected a list of row indices, at least one{hint}"
        )
    if order.min() < 0 or order.max() >= rows:
        raise InputError(f"{what} row indices in {order.min()}…{order.max()}; expected 0…{rows - 1}")
    return order.astype(np.int32)


class DataSource(Protocol):
    """A data set that can be read in any order.

    Attributes
    ----------
    data : Data
        All rows: on the device (`Resident`) or on the host (`Streamed`).
    rows : int
        The number of rows.
    """

    data: Data
    rows: int

    def chunks(self, order: np.ndarray, batch_size: int, ranges: Ranges | None = None) -> Iterator[Chunk]:
        """Yield the rows in this order, first in full batches, then the remainder.

        Of a data set on the host, only these ranges of each batch are read; the other rows of a chunk are undefined.
        """


def data_source(
    data: Data, dtypes: tuple[str | None, ...], place: Place, prefix: str = "", ranks: Ranks | None = None
) -> DataSource:
    """Return the data set on the device, or streamed if it would take most of the free memory, or stays in a file.

    Parameters
    ----------
    data : Data
        The data set, on any device.
    dtypes : tuple of str or None
        The dtypes of x, y and the sample weights on the device; None for the dtype that they have.
    place : Place
        The library and the device.
    prefix : str, default ""
        What precedes the names of x and y in messages.
    ranks : Ranks, optional
        Other processes with the same data. Each of them checks a part of a data set that stays in a file. On GPUs, all
        of them stream if one has to.

    Returns
    -------
    DataSource

    Raises
    ------
    InputError
        If a value is too large for its dtype.
    """
    if isinstance(data.x, MappedRows):
        return Streamed(data, dtypes, place, prefix, ranks)
    sizes = [0 if part is None else _bytes(part, dtype, place) for part, dtype in zip(data, dtypes, strict=True)]
    free, agreeing = free_bytes(place), ranks if place.is_gpu else None
    if not any_rank(agreeing, free is not None and sum(sizes) > _SHARE * free):
        resident = None
        names = [f"{prefix}{name}" for name in Data._fields]
        try:
            parts: list[Any] = [
                None if part is None else placed(name, part, dtype, place)
                for name, part, dtype in zip(names, data, dtypes, strict=True)
            ]
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        else:
            resident = Resident(Data(*parts), place)
        if not any_rank(agreeing, resident is None):
            assert resident is not None
            return resident
        resident = None
        give_back(place)  # outside `except`: the frames of the error keep arrays alive
    return Streamed(data, dtypes, place, prefix)


def placed(name: str, x: Array, dtype: str | None, place: Place) -> Array:
    """Return x on the device, in this dtype. Raises InputError if a value is too large for it."""
    there = to_place(x, place, dtype=dtype, copy=False)
    if dtype is not None and there is not x and not all_finite(there):
        raise InputError(_TOO_LARGE.format(name=name, dtype=dtype))
    return there


def _bytes(x: Array, dtype: str | None, place: Place) -> int:
    """The size of a copy of x on the device; 0 if x is there already and is not copied."""
    current = str(x.dtype).rpartition(".")[2]
    if place_of(x).device == place.device and dtype in (None, current):
        return 0
    return math.prod(x.shape) * np.dtype(dtype or current).itemsize


class Resident:
    """A data set on the device."""

    def __init__(self, data: Data, place: Place) -> None:
        self.data, self.rows, self._place = data, data.y.shape[0], place

    def chunks(self, order: np.ndarray, batch_size: int, ranges: Ranges | None = None) -> Iterator[Chunk]:
        """Yield all full batches in one chunk, then the remainder."""
        for batches in batches_of(order, batch_size, self._place):
            yield Chunk(self.data, batches, batches.shape[0])


class Streamed:
    """A data set on the host, of which the device has one chunk at a time.

    Rows are gathered on the host. A chunk is copied to the device while the steps on the previous one compute. The
    steps receive the same batches as if the whole data set were on the device. Their buffers keep their addresses, so
    the steps can be captured as a CUDA graph.

    The parameters are those of `data_source`.
    """

    def __init__(
        self, data: Data, dtypes: tuple[str | None, ...], place: Place, prefix: str = "", ranks: Ranks | None = None
    ) -> None:
        parts: list[Any] = [part if part is None or isinstance(part, MappedRows) else to_numpy(part) for part in data]
        self.data = Data(*parts)
        self.rows, self._place = data.x.shape[0], place
        self._parts = [part for part in parts if part is not None]
        used = [dtype for part, dtype in zip(data, dtypes, strict=True) if part is not None]
        self._kinds = [
            (part.shape[1:], np.dtype(dtype or part.dtype)) for part, dtype in zip(self._parts, used, strict=True)
        ]
        self._stages: dict[int, StagingBuffers] = {}  # by their number of rows
        self._orders: dict[tuple[int, int], Array] = {}  # a copy to the device would wait for the steps in progress
        free = free_bytes(place) or 0
        most = _CHUNK if place.is_gpu else min(_CHUNK, _CHUNK_ON_CPU)
        self._chunk_bytes = min(most, free // _CHUNK_SHARE) if free > 0 else most
        for name, part, (_, dtype) in zip(Data._fields, self._parts, self._kinds, strict=False):
            share_out(ranks, part, functools.partial(_check_sizes, f"{prefix}{name}", dtype))

    def chunks(self, order: np.ndarray, batch_size: int, ranges: Ranges | None = None) -> Iterator[Chunk]:
        """Yield chunks of full batches, each in the same buffers, then the remainder."""
        row_bytes = sum(math.prod(shape) * dtype.itemsize for shape, dtype in self._kinds)
        steps = min(max(1, self._chunk_bytes // (row_bytes * batch_size)), max(1, self.rows // batch_size))
        size, full = steps * batch_size, len(order) // batch_size * batch_size
        for first in range(0, full, size):
            rows = order[first : min(first + size, full)]
            data = self._put(rows, size, _repeated(ranges, batch_size, len(rows)))
            yield Chunk(data, self._indices(steps, batch_size), len(rows) // batch_size)
        if len(order) > full:
            rest = len(order) - full
            yield Chunk(self._put(order[full:], size, _repeated(ranges, rest, rest)), self._indices(1, rest), 1)

    def _indices(self, steps: int, batch_size: int) -> Array:
        """The batches of a chunk, (steps, batch_size), whose rows are in order already."""
        if (steps, batch_size) not in self._orders:
            order = np.arange(steps * batch_size, dtype=np.int32)
            (self._orders[steps, batch_size],) = batches_of(order, batch_size, self._place)
        return self._orders[steps, batch_size]

    def _put(self, rows: np.ndarray, size: int, ranges: list[tuple[int, int]]) -> Data:
        """Copy these rows, as far as they are in the ranges, to the beginning of buffers of `size` rows."""
        if size not in self._stages:
            self._stages[size] = staging_for(self._place, [((size, *shape), dtype) for shape, dtype in self._kinds])

        def fill(buffers: list[np.ndarray]) -> None:
            for part, buffer in zip(self._parts, buffers, strict=True):
                for first, last in ranges:
                    gather(part, rows[first:last], buffer[first:last])

        x, y, *weight = self._stages[size].put(fill)
        return Data(x, y, weight[0] if weight else None)


def _check_sizes(name: str, dtype: np.dtype, part: Any, _first: int) -> None:
    """Raise InputError if a value of an array on the host is too large for the dtype."""
    step = max(1, _CHECKED // max(1, math.prod(part.shape[1:]) * part.dtype.itemsize))
    for first in range(0, len(part), step):
        with np.errstate(over="ignore"):
            if not all_finite(part[first : first + step].astype(dtype, copy=False)):
                raise InputError(_TOO_LARGE.format(name=name, dtype=dtype))


def _repeated(ranges: Ranges | None, batch: int, rows: int) -> list[tuple[int, int]]:
    """The ranges of all batches of some rows, without ranges all rows."""
    if ranges is None:
        return [(0, rows)]
    return [(begin + first, begin + last) for begin in range(0, rows, batch) for first, last in ranges(batch)]
