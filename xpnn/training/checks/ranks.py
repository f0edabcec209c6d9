"""Checks of training in several processes: whether the trainer can, and whether all ranks have the same."""

from __future__ import annotations

import platform
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np

from xpnn.arrays import tree
from xpnn.arrays.mapped import MappedRows
from xpnn.devices.place import Place, to_numpy
from xpnn.errors import InputError, XpnnError
from xpnn.nn import traits
from xpnn.nn.protocols import Layer, Params
from xpnn.ranks import Ranks
from xpnn.training.data_feed import DataSource
from xpnn.training.state import State
from xpnn.version import __version__

_ROWS = 4096  # of a data set, that are read at a time
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


def check_can_divide(model: Layer, place: Place) -> None:
    """Raise InputError unless several processes can compute the batches of this model at this place."""
    if place.lib.runner(place.kind) not in ("eager", "torch_via_numpy"):
        raise InputError(
            f"ranks: several processes can train on NumPy arrays and on torch tensors on the CPU; got {place.library} "
            f"on {place.kind}"
        )
    if not traits.sums_over_ranks(model):
        raise InputError(
            "ranks: a custom layer of the model uses statistics of the batch, of which each process has only a part; "
            "let it add them up over key.ranks, and state sums_over_ranks = True"
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
        The data and the validation, which are compared by checksums.
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
                f"{_short(usual)}; all must have the same"
            )
    if batch_size < 2 * ranks.size and ranks.rank == 0 and devices == 1:
        warnings.warn(
            f"a batch of {batch_size} rows is too small to be divided among {ranks.size} processes; nothing is gained "
            f"below {2 * ranks.size} rows",
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
    for first in range(0, rows, _ROWS):
        last = min(first + _ROWS, rows)
        part = x[first:last] if isinstance(x, MappedRows) else to_numpy(x[first:last, ...])
        value = _crc(part, value)
    return value


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}…"
