"""Checks of training in several processes: whether the trainer can, and whether all ranks have the same."""

from __future__ import annotations

import platform
import re
import socket
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np

from xpnn.arrays import tree
from xpnn.arrays.mapped import MappedRows
from xpnn.devices.libraries.transfers import on_device
from xpnn.devices.place import Place, to_numpy
from xpnn.errors import InputError, XpnnError
from xpnn.nn import traits
from xpnn.nn.protocols import Layer, Params
from xpnn.ranks import Ranks
from xpnn.ranks.base import blocks_of, divided_by_library, shares_of
from xpnn.ranks.on_device import DeviceRanks
from xpnn.training.data_feed import DataSource
from xpnn.training.state import State
from xpnn.version import __version__

_ON_GPUS = "CuPy does so with mpi, and torch with torchrun"
_ROWS = 4096  # of a data set, that are read at a time
_SAMPLED = 1024  # rows of an array that stays in its file, which are compared
_DATA = ("rows", "x", "y", "sample_weight")
_WHOLE = (
    "; give every process the whole data, of which it reads its rows: with a part for each, the batches would depend "
    "on the number of processes"
)
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
Result = TypeVar("Result")


class Described(Protocol):
    """What is compared of a trainer."""

    model: Any
    loss: Any
    optimizer: Any
    metrics: Any
    penalty: Any
    ema: float | None
    seed: int
    steps: int
    lr_scale: float
    ranks: Ranks | None

    @property
    def epoch_steps(self) -> int: ...


def ranks_at(ranks: Ranks | None, model: Layer, place: Place) -> Ranks | None:
    """Return the ranks as the steps at this place use them: on a GPU, arrays are added up there. None if there is one.

    Raises InputError unless several processes can compute the batches of this model at this place.
    """
    if ranks is None or (ranks.size == 1 and blocks_of(ranks) is None and not on_device(ranks)):
        return None  # alone, the same bits as without ranks
    if divided_by_library(ranks):
        return ranks
    check_can_divide(model, place, ranks)
    if not place.is_gpu or on_device(ranks):
        return ranks
    where = [f"{place.library} on {place.kind}", place.index, socket.gethostname()]
    everywhere = ranks.gather(where, "the choice of the devices")
    for rank, other in enumerate(everywhere):
        if other[0] != where[0]:
            raise InputError(f"ranks: rank {rank} is to train with {other[0]}, but rank {ranks.rank} with {where[0]}")
        if other[1:] in [each[1:] for each in everywhere[:rank]]:
            raise InputError(
                f"ranks: several processes are to use {place.kind}:{other[1]} of {other[2]}; each needs a GPU of its "
                f"own, such as device='{place.kind}:1'"
            )
    device_sum = place.lib.rank_sum(ranks, place.device)
    if device_sum is None:
        raise InputError(f"ranks: {place.library} on {place.kind} cannot add up over {ranks.engine}; {_ON_GPUS}")
    return DeviceRanks(ranks, device_sum)


def check_can_divide(model: Layer, place: Place, ranks: Ranks) -> None:
    """Raise InputError unless these processes can compute the batches of this model at this place."""
    if place.lib.runner(place.kind) not in ("eager", "torch_via_numpy", "cuda_graph"):
        raise InputError(
            "ranks: several processes can train on NumPy arrays, on torch tensors and on CuPy arrays; got "
            f"{place.library} on {place.kind}"
        )
    if not traits.sums_over_ranks(model):
        raise InputError(
            "ranks: a custom layer of the model uses statistics of the batch, of which each process has only a part; "
            "let it add them up over key.ranks, and state sums_over_ranks = True"
        )
    blocks = blocks_of(ranks)
    if blocks is None:
        return
    if place.is_gpu:
        raise InputError(
            f"ranks: the sums of blocks are computed on the CPU, but these arrays are on {place.kind}; leave blocks "
            "out, or train on the CPU"
        )
    if blocks < ranks.size:
        raise InputError(f"ranks: blocks is {blocks}, but there are {ranks.size} processes; expected at least as many")
    if traits.uses_batch_statistics(model):
        raise InputError(
            "ranks: a layer of the model, such as BatchNorm1d, uses statistics of the whole batch, but each of the "
            "blocks is computed by itself; leave blocks out, or use nn.LayerNorm"
        )


class Computing(Protocol):
    """What is compared of an engine."""

    place: Place
    state: State
    dtype: str


def check_same(
    trainer: Described, engine: Computing, sources: list[DataSource | None], *, batch_size: int, **numbers: Any
) -> None:
    """Raise InputError, on all ranks, if they differ in something that the training depends on.

    Parameters
    ----------
    trainer : Trainer
        Its `ranks`; None checks nothing. Model, loss, optimizer and so on are compared by their texts.
    engine : Engine
        Its parameters are compared by a checksum.
    sources : list of DataSource or None
        The data and the validation, which are compared by checksums; of `MappedRows`, by that of some rows.
    batch_size : int
    **numbers
        Further values to compare, by name.
    """
    ranks, devices = trainer.ranks, engine.place.lib.count(engine.place.device)
    if devices > 1 and batch_size % devices and ranks is not None and ranks.rank == 0:
        warnings.warn(
            f"a batch of {batch_size} rows cannot be divided among {devices} devices, so each computes all of it: the "
            "result is the same, but it takes no less time",
            stacklevel=4,
        )
    if ranks is None or ranks.size == 1:
        return
    facts: dict[str, Any] = {
        "versions": f"xpnn {__version__}, NumPy {np.__version__}, Python {platform.python_version()}",
        "seed": trainer.seed,
        "dtype": engine.dtype,
        "batch_size": batch_size,
        "blocks": blocks_of(ranks),
        **numbers,
        "steps": trainer.steps,
        "epoch_steps": trainer.epoch_steps,
        "lr_scale": float(trainer.lr_scale),
    }
    for name in ("model", "loss", "optimizer", "metrics", "penalty", "ema"):
        facts[name] = _ADDRESS.sub("", repr(getattr(trainer, name)))
    facts["parameters"] = f"checksum {checksum(engine.state.params):08x}"
    for prefix, source in zip(("", "validation_"), sources, strict=True):
        facts[f"{prefix}rows"] = 0 if source is None else source.rows
        if source is not None:
            for name, part in zip(("x", "y", "sample_weight"), source.data, strict=True):
                facts[f"{prefix}{name}"] = part if part is None else f"checksum {_of_rows(part, source.rows):08x}"
    gathered = ranks.gather(facts, "the comparison of the ranks")
    for name in {name: None for facts in gathered for name in facts}:
        values = [str(facts.get(name)) for facts in gathered]
        (usual, _), *others = Counter(values).most_common()
        if others:
            odd = next(rank for rank, value in enumerate(values) if value != usual)
            raise InputError(
                f"ranks: rank {odd} has {name}: {_short(values[odd])}, but rank {values.index(usual)} has "
                f"{_short(usual)}; all must have the same{_WHOLE if name.removeprefix('validation_') in _DATA else ''}"
            )
    least = 2 * shares_of(ranks).total
    if batch_size < least and ranks.rank == 0 and not divided_by_library(ranks):
        whom = f"{ranks.size} processes" if least == 2 * ranks.size else f"{least // 2} blocks"
        warnings.warn(
            f"a batch of {batch_size} rows is too small to be divided among {whom}; nothing is gained below {least} "
            "rows",
            stacklevel=3,
        )


def same_logs(ranks: Ranks, logs: dict[str, Any], params: Params, step: int) -> dict[str, Any]:
    """Return the logs of rank 0 on all ranks, so that callbacks decide alike.

    Raises XpnnError, on all ranks, if their parameters are no longer the same bits.
    """
    gathered = ranks.gather(
        (checksum(params), logs if ranks.rank == 0 else None), f"the epoch that ends at step {step}"
    )
    odd = [rank for rank, (value, _) in enumerate(gathered) if value != gathered[0][0]]
    if odd:
        raise XpnnError(
            f"the parameters of rank {odd[0]} are no longer those of rank 0 after step {step}: the processes compute "
            "differently, so the training cannot go on; use the same machines and libraries for all"
        )
    shared: dict[str, Any] = gathered[0][1]
    return shared


def on_rank_0(ranks: Ranks | None, function: Callable[[], Result]) -> Result | None:
    """Call a function on rank 0 only; its exception is raised on all ranks. The others return None."""
    if ranks is None:
        return function()
    result, error = None, None
    if ranks.rank == 0:
        try:
            result = function()
        except Exception as raised:
            error = raised
    failed = ranks.agree(None if error is None else (type(error), str(error)))
    if error is not None:
        raise error
    if failed is not None:
        raise failed[0](failed[1])
    return result


def from_rank_0(ranks: Ranks | None, function: Callable[[], Result]) -> Result:
    """Call a function on rank 0 only, and return its result, which pickle must support, on all ranks."""
    if ranks is None:
        return function()
    result: Result = ranks.agree(on_rank_0(ranks, function))
    return result


def checksum(params: Params) -> int:
    """Return the CRC of all arrays of a tree."""
    value = 0
    for leaf in tree.leaves(params):
        value = _crc(to_numpy(leaf), value)
    return value


def _crc(x: np.ndarray, before: int) -> int:
    return zlib.crc32(np.ascontiguousarray(x).data, before)


def _of_rows(x: Any, rows: int) -> int:
    value = zlib.crc32(f"{x.dtype} {tuple(x.shape)}".encode())
    if isinstance(x, MappedRows):  # reading all would take longer than a rank's share of an epoch
        return _crc(x[np.unique(np.linspace(0, rows - 1, min(rows, _SAMPLED)).astype(np.int64))], value)
    for first in range(0, rows, _ROWS):
        value = _crc(to_numpy(x[first : min(first + _ROWS, rows), ...]), value)
    return value


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}…"
