"""Matrix products, also inside a capture: small ones by a kernel, others by cublasLt.

ReLU is never an epilogue of cublasLt: some of its algorithms turn NaN into 0 there (on an H200, cublasLt 13.1), which
would hide that a network has diverged. A factor in bfloat16 is an array of its bits, as uint16; `factor` converts it.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np

from xpnn import config
from xpnn.arrays.matmul import current_precision, matmul
from xpnn.arrays.namespace import array_namespace
from xpnn.devices.buffers import address_of
from xpnn.devices.driver import one_line
from xpnn.devices.memory import is_out_of_memory
from xpnn.kernels.cupy import cublaslt
from xpnn.kernels.cupy.cublaslt import BIAS, NOTHING, Addresses, Problem
from xpnn.kernels.cupy.launch import ACTIVATIONS, launch

_DTYPES = ("float32", "float64")
# The most multiplications of a product for which `small_product` is used: with w in C order, with a transposed w, which
# neighbouring threads read far apart, and if the kernel also saves the launch that applies the activation. Chosen from
# bench/results/small_products-2026-11-27.md, in float32 on an H200; used for float64 and for other GPUs too.
_SMALL, _SMALL_TURNED, _SMALL_FINISHED = 11_000_000, 4_000_000, 26_000_000
_DOWN, _ACROSS = 4, 2  # a tile of y, as in matmul.cu
_FEW = 2**13  # elements of y up to which a tile has one row, so that there are enough of them
_LOOP, _SHARES = 8, {1: 64, _DOWN: 32}  # multiplications of a thread, and the most shares, by the rows of a tile
NO_MASK = (None, None, 0, 0, None, 0, 0, 1.0)  # what fused.cu takes if nothing is dropped
AS_IT_IS = (ACTIVATIONS["IDENTITY"], 0.0, *NO_MASK)  # the same, from `kind` on, without an activation
_ALIGNED = 256  # bytes; no algorithm requires more


@matmul.kernel("cupy")
def _product(x: Any, w: Any, bias: Any = None, *, exact: bool = False) -> Any:
    if exact and bias is None and w.ndim == 3:
        return _batched(x, w)
    x, w = as_matrices(x, w)
    if not covers(x, w, exact):
        return NotImplemented
    return affine(factor(x, exact), factor(w, exact), bias, exact=exact)


def _batched(x: Any, w: Any) -> Any:
    """One x with each of several w, an array in C order."""
    (batch, inner, columns), rows = w.shape, x.shape[0]
    if not w.flags.c_contiguous or not covers(x, w.reshape(batch * inner, columns), exact=True):
        return NotImplemented
    y = array_namespace(x).empty((batch, rows, columns), dtype=x.dtype)
    at = Addresses(address_of(x), address_of(w), address_of(y), 0)
    alignments = (_alignment(at.x), _alignment(at.w), _alignment(at.y), _ALIGNED)
    dtype, compute = _kind(x.dtype, "fp32")
    problem = Problem(dtype, compute, rows, inner, columns, _order(x), "C", NOTHING, alignments, batch)
    return y if execute(_device_of(x), problem, at) else NotImplemented


def as_matrices(x: Any, w: Any) -> tuple[Any, Any]:
    """x and w; a copy of what is neither in C order nor transposed from it: CuPy's product cannot be captured."""
    xp = array_namespace(x)
    x, w = (xp.ascontiguousarray(part) if part.ndim == 2 and not _order(part) else part for part in (x, w))
    return x, w


def covers(x: Any, w: Any, exact: bool = False) -> bool:
    """Return whether cublasLt multiplies these: matrices of one dtype, each in C order or transposed from it."""
    alike = x.dtype == w.dtype and x.dtype.name in _DTYPES and x.ndim == w.ndim == 2
    if not alike or 0 in (*x.shape, *w.shape) or not (_order(x) and _order(w)):
        return False
    return _works(_device_of(x), *_kind(x.dtype, current_precision(exact)), NOTHING)


def factor(x: Any, exact: bool = False) -> Any:
    """Convert x for products in the current precision: x itself, or its bits in bfloat16."""
    if current_precision(exact) != "bf16" or x.dtype.name != "float32":
        return x
    flat = x if _order(x) == "C" else x.T
    words = array_namespace(x).empty(flat.shape, dtype="uint16")
    launch("round_to_bf16", "float32", flat.size, flat.view("uint32"), words, flat.size)
    return words if flat is x else words.T


def affine(x: Any, w: Any, bias: Any = None, *, exact: bool = False) -> Any:
    """x @ w + bias, optionally without bias; x and w come from `factor`, and are covered."""
    if is_small(x, w, exact):
        return small_product(x, w, bias)
    if bias is None:
        return by_cublaslt(x, w, exact)
    y = _multiplied(x, w, bias, BIAS, exact)
    if y is None:
        y = by_cublaslt(x, w, exact)
        launch("fused_forward", y.dtype, (y.size + 1) // 2, y, bias, y, None, y.size, y.shape[1], *AS_IT_IS)
    return y


def is_small(x: Any, w: Any, exact: bool = False, finishes: bool = False) -> bool:
    """Whether `small_product` of matmul.cu is faster than cublasLt, and with `finishes` another launch after it."""
    most = _SMALL_FINISHED if finishes else _SMALL
    if x.shape[0] * w.size > (most if _order(w) == "C" else _SMALL_TURNED):
        return False
    return x.dtype.name == "float64" or (x.dtype.name == "float32" and current_precision(exact) == "fp32")


def small_product(x: Any, w: Any, bias: Any = None, kept: Any = None, then: tuple[Any, ...] = AS_IT_IS) -> Any:
    """dropout(f(x @ w + bias)) in one launch; `then`: the arguments of `fused_forward` from `kind` on."""
    (rows, inner), columns = x.shape, w.shape[1]
    y = array_namespace(x).empty((rows, columns), dtype=x.dtype)
    turned = [_order(part) == "F" for part in (x, w)]
    factors = [part.T if is_turned else part for part, is_turned in zip((x, w), turned, strict=True)]
    down, shares, threads = shape_of_work(rows, inner, columns)
    rest = (bias, y, kept, rows, inner, columns, *turned, down, shares, *then)
    launch("small_product", y.dtype, threads, *factors, *rest)
    return y


def shape_of_work(rows: int, inner: int, columns: int) -> tuple[int, int, int]:
    """(rows of a tile, shares of the inner dimension, threads) of `small_product`.

    More shares than necessary make the sum over them longer; fewer make each thread wait for more loads.
    """
    down = 1 if rows * columns <= _FEW else _DOWN
    wanted = 1 if inner <= 2 * _LOOP else -(-inner // _LOOP)
    shares = min(1 << (wanted - 1).bit_length(), _SHARES[down])
    return down, shares, -(-rows // down) * -(-columns // _ACROSS) * shares


def by_cublaslt(x: Any, w: Any, exact: bool = False) -> Any:
    """x @ w, by CuPy if cublasLt has no algorithm for it, which cannot be captured."""
    y = _multiplied(x, w, None, NOTHING, exact)
    if y is None:
        x, w = ((part.astype(np.uint32) << 16).view(np.float32) if part.dtype == np.uint16 else part for part in (x, w))
        y = x @ w
    return y


def _multiplied(x: Any, w: Any, vector: Any, epilogue: int, exact: bool = False) -> Any:
    """x @ w with this epilogue, or None if cublasLt has no such product."""
    compute = _kind(x.dtype, current_precision(exact))[1]
    if epilogue != NOTHING and not _works(_device_of(x), x.dtype.name, compute, epilogue):
        return None
    y = array_namespace(x).empty((x.shape[0], w.shape[1]), dtype=_result(x.dtype))
    at = Addresses(*[0 if part is None else address_of(part) for part in (x, w, y, vector)])
    alignments = (_alignment(at.x), _alignment(at.w), _alignment(at.y), _alignment(at.vector))
    (rows, inner), columns = x.shape, w.shape[1]
    problem = Problem(x.dtype.name, compute, rows, inner, columns, _order(x), _order(w), epilogue, alignments)
    return y if execute(_device_of(x), problem, at) else None


def _alignment(address: int) -> int:
    """The largest power of two that divides the address, at most _ALIGNED."""
    return min(address & -address or _ALIGNED, _ALIGNED)


def execute(device: int, problem: Problem, at: Addresses) -> bool:
    """Run a product; False if cublasLt has no algorithm for it."""
    if (device, problem) not in _plans:
        try:
            _plans[device, problem] = cublaslt.Plan(problem, at)
        except NotImplementedError:
            _plans[device, problem] = None
    plan = _plans[device, problem]
    if plan is None:
        return False
    plan.run(at)
    return True


_plans: dict[tuple[int, Problem], cublaslt.Plan | None] = {}


@functools.cache
def _works(device: int, dtype: str, compute: int, epilogue: int) -> bool:
    """Whether cublasLt can be loaded, and its product with this epilogue equals that of `@`; XPNN_LT=0 disables it.

    The test uses integers so small that no precision rounds them.
    """
    if config.get("XPNN_LT") == "0":
        return False
    try:
        return _tried(dtype, compute, epilogue)
    except Exception as error:  # CuPy's products are used instead, but not inside a capture
        if is_out_of_memory(error):
            raise  # says nothing about cublasLt, and is not cached
        if epilogue == NOTHING:
            why = f"cublasLt cannot be used, so training runs without CUDA graphs: {one_line(error)}"
            warnings.warn(why, stacklevel=2)
        return False


def _tried(dtype: str, compute: int, epilogue: int) -> bool:
    import cupy

    real = "float32" if dtype == "uint16" else dtype
    x, w = ((cupy.arange(256, dtype=real).reshape(16, 16) * step % 7) - 3 for step in (3, 5))
    vector, worked = cupy.arange(16, dtype=real) - 8, False
    for left, right in ((x, w), (x.T, w), (x, w.T), (x.T, w.T)):
        y, wanted = cupy.empty((16, 16), real), left @ right
        if epilogue == BIAS:
            wanted = wanted + vector
        factors = [_bits(part) if dtype == "uint16" else part for part in (left, right)]
        at = Addresses(*[address_of(part) for part in (*factors, y, vector)])
        aligned = (_ALIGNED, _ALIGNED, _ALIGNED, _ALIGNED)
        orders = (_order(factors[0]), _order(factors[1]))
        problem = Problem(dtype, compute, 16, 16, 16, *orders, epilogue, aligned)
        try:
            plan = cublaslt.Plan(problem, at)
        except NotImplementedError:
            if epilogue == NOTHING:
                raise
            continue  # not for factors in this order; `execute` checks that for each product
        plan.run(at)
        worked = True
        if not bool((y == wanted).all()):
            raise ArithmeticError(f"wrong values of a product of {dtype}")
    return worked


def _bits(x: Any) -> Any:
    """The bits of small integers in bfloat16: the upper halves of those in float32; in the order of x."""
    if _order(x) == "F":
        return _bits(x.T).T
    import cupy

    return cupy.ascontiguousarray((x.view(np.uint32) >> 16).astype(np.uint16))


def _kind(dtype: Any, precision: str) -> tuple[str, int]:
    """(dtype of the factors, compute type of cublasLt) for arrays of `dtype`."""
    if dtype.name == "float64":
        return "float64", cublaslt.COMPUTE_64F
    if dtype.name == "uint16" or precision == "bf16":
        return "uint16", cublaslt.COMPUTE_32F
    return "float32", cublaslt.COMPUTE_TF32 if precision == "tf32" else cublaslt.COMPUTE_32F


def _result(dtype: Any) -> Any:
    return np.dtype("float32") if dtype.name == "uint16" else dtype


def _order(x: Any) -> str:
    """ "C", "F", or "" for neither."""
    return "C" if x.flags.c_contiguous else "F" if x.flags.f_contiguous else ""


def _device_of(x: Any) -> int:
    return getattr(x.device, "id", -1)
