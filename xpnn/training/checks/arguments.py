"""What a Trainer is made of, checked."""

from __future__ import annotations

from typing import Any

from xpnn.arrays.matmul import PRECISIONS
from xpnn.errors import InputError
from xpnn.nn.traits import reduction
from xpnn.validation import as_float, one_of


def check_parts(model: Any, loss: Any, optimizer: Any) -> None:
    """Raises InputError for a class or a name where an instance is wanted, and for a loss of many numbers."""
    for name, part, hint in (
        ("model", model, "nn.Sequential(…)"),
        ("loss", loss, "nn.CrossEntropyLoss()"),
        ("optimizer", optimizer, "optim.Adam()"),
    ):
        if isinstance(part, (str, type, int, float, list, tuple)):
            raise InputError(f"{name}: {part!r} is no {name}; give an instance, as {hint}")
    if reduction(loss) == "none":
        raise InputError('loss: reduction "none" gives no one number to be made small; use "mean" or "sum"')


def check_numbers(dtype: str | None, precision: str, ema: float | None) -> None:
    """Raises InputError for a dtype or precision that is none, and a decay out of range."""
    if dtype not in (None, "float32", "float64"):
        raise InputError(f"dtype: {dtype!r} is not one of float32, float64, None")
    one_of("precision", precision, PRECISIONS)
    if ema is not None and not 0 <= as_float("ema", ema) < 1:
        raise InputError(f"ema: {ema!r} is no decay; expected 0 <= ema < 1, or None")
