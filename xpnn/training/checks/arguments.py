"""Checks of the arguments of `Trainer`."""

from __future__ import annotations

import warnings
from typing import Any

from xpnn.arrays.matmul import PRECISIONS
from xpnn.devices.names import parse_device
from xpnn.devices.place import Place
from xpnn.errors import InputError
from xpnn.nn.traits import reduction, uses_batch_statistics
from xpnn.validation import Problems, as_float, ensure_methods, one_of


def check_parts(model: Any, loss: Any, optimizer: Any, penalty: Any = None) -> None:
    """Raise InputError if a part is a class or a name instead of an instance, or if the loss is not a scalar."""
    problems = Problems()
    for name, part, methods, hint in (
        ("a model", model, ("init", "forward", "backward"), "nn.Sequential(…)"),
        ("a loss", loss, ("init", "forward", "backward"), "nn.CrossEntropyLoss()"),
        ("an optimizer", optimizer, ("init", "update"), "optim.Adam()"),
    ):
        with problems:
            if isinstance(part, (str, type, int, float, list, tuple)):
                argument = name.partition(" ")[2]
                raise InputError(f"{argument}: {part!r} is not {name}; give an instance, for example {hint}")
            ensure_methods(name, part, methods, hint)
    with problems:
        if penalty is not None and (isinstance(penalty, type) or not callable(getattr(penalty, "add", None))):
            raise InputError(f"penalty: {penalty!r} is not a penalty; give an instance, for example nn.L2(1e-4)")
    with problems:
        if not isinstance(loss, (str, type)) and reduction(loss) == "none":
            raise InputError('loss: reduction "none" does not give a scalar to minimize; use "mean" or "sum"')
    problems.raise_found()


def check_numbers(device: Any, dtype: str | None, precision: str, ema: float | None, ranks: Any = None) -> None:
    """Raise InputError if the device, dtype, precision or ranks are unknown, or the decay out of range."""
    problems = Problems()
    with problems:
        if isinstance(device, str):
            parse_device(device)
        elif device is not None and not isinstance(device, Place):
            raise InputError(f"device: {device!r} is not a name, such as 'cpu' or 'cuda:0', or a Place")
    with problems:
        if ranks is not None:
            ensure_methods("ranks", ranks, ("rank", "size", "sum", "gather"), "xpnn.ranks.mpi()")
    with problems:
        if dtype not in (None, "float32", "float64"):
            raise InputError(f"dtype: {dtype!r} is not one of float32, float64, None")
    with problems:
        one_of("precision", precision, PRECISIONS)
    with problems:
        if ema is not None and not 0 <= as_float("ema", ema) < 1:
            raise InputError(f"ema: {ema!r} is not a decay; expected 0 <= ema < 1, or None")
    problems.raise_found()


def clip_batch(batch_size: int, rows: int) -> int:
    """Return the batch size, at most all rows, with a warning if it is larger."""
    if batch_size > rows:
        warnings.warn(f"batch_size {batch_size} is larger than the data; using {rows}, all rows", stacklevel=3)
    return min(batch_size, rows)


def warn_of_parts(model: Any, accumulate: int) -> None:
    """Warn if batches are computed in parts, and the model uses statistics of the batch."""
    if accumulate > 1 and uses_batch_statistics(model):
        warnings.warn(
            f"accumulate is {accumulate} and the model uses statistics of the batch (BatchNorm1d): they are computed "
            "from each part of a batch, so results differ from those with accumulate=1",
            stacklevel=3,
        )
