"""Matrix products: the one function that multiplies matrices, and the precision it may be told.

fp32  in the arrays' own dtype, whatever a library would do by itself: the default
tf32  factors rounded to 11 significant bits    } float32 arrays on a GPU with tensor cores; sums, results
bf16  factors rounded to 8 significant bits     } and everything that is no product stay float32
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from xpnn.arrays import driver
from xpnn.arrays.accelerate import accelerated
from xpnn.arrays.device import Place
from xpnn.arrays.namespace import Array
from xpnn.errors import DeviceUnavailableError, InputError, one_of

PRECISIONS = ("fp32", "tf32", "bf16")
_CAPABILITY = (8, 0)  # from Ampere on: NVIDIA, "CUDA C++ Programming Guide", arithmetic of compute capability 8.x

_chosen: ContextVar[str] = ContextVar("precision", default="fp32")


@accelerated
def product(x: Array, w: Array, bias: Array | None = None, *, exact: bool = False) -> Array:
    """x @ w, plus bias in each row: (rows, inner), (inner, columns), (columns,) -> a fresh (rows, columns).

    Or one x with each of several w, (batch, inner, columns) -> (batch, rows, columns).
    exact: in the arrays' own dtype, also where another precision has been chosen.
    """
    y = x @ w
    if bias is not None:
        y += bias
    return y


def precision(exact: bool = False) -> str:
    """What has been chosen for a product here and now."""
    return "fp32" if exact else _chosen.get()


@contextmanager
def multiplying_in(precision: str) -> Iterator[None]:
    """Inside, products have this precision."""
    before = _chosen.set(precision)
    try:
        yield
    finally:
        _chosen.reset(before)


def check_precision(precision: str, where: Place, dtype: str) -> None:
    """Raises InputError for a precision that is none, DeviceUnavailableError for one that cannot be had there."""
    one_of("precision", precision, PRECISIONS)
    if precision == "fp32":
        return
    if dtype != "float32":
        raise InputError(f"precision {precision} is for products of float32, not of {dtype}: give dtype='float32'")
    cure = "take fp32, or a GPU of compute capability 8.0 or later"
    if not where.is_gpu:
        reason = f" ({where.reason})" if where.fell_back else ""
        raise DeviceUnavailableError(
            f"precision {precision} needs a GPU's tensor cores, and this is the CPU{reason}; {cure}"
        )
    index = int(where.name.partition(":")[2] or 0)
    capability = driver.capability(index)
    if capability < _CAPABILITY:
        has = ".".join(map(str, capability))
        raise DeviceUnavailableError(f"precision {precision}: {where.name} has compute capability {has}; {cure}")
