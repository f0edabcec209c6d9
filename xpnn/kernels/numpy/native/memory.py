"""What compiled code needs beside numba's own functions: words in memory that several threads share, and C functions.

Each takes and returns 64-bit integers, as numba's int64; addresses are integers too.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from xpnn.devices.libraries.openblas import ROW_MAJOR

_WORD, _INT = ir.IntType(64), ir.IntType(32)


@intrinsic
def load(context: Any, address: Any) -> Any:
    """The word at this address, as last written by any thread."""

    def code(c: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load_atomic(builder.inttoptr(values[0], _WORD.as_pointer()), "acquire", 8)

    return types.int64(types.int64), code


@intrinsic
def exchange(context: Any, address: Any, value: Any) -> Any:
    """Write the word at this address, and return what it was."""

    def code(c: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], _WORD.as_pointer())
        return builder.atomic_rmw("xchg", pointer, values[1], "seq_cst")

    return types.int64(types.int64, types.int64), code


@intrinsic
def replace(context: Any, address: Any, old: Any, new: Any) -> Any:
    """Write the word at this address if it is `old`; return whether it was."""

    def code(c: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], _WORD.as_pointer())
        both = builder.cmpxchg(pointer, values[1], values[2], "seq_cst", "seq_cst")
        return builder.zext(builder.extract_value(both, 1), _WORD)

    return types.int64(types.int64, types.int64, types.int64), code


@intrinsic
def pause(context: Any) -> Any:
    """Leave the core's units to its other hardware thread for some 100 cycles."""

    def code(c: Any, builder: Any, signature: Any, values: Any) -> Any:
        if platform.machine() in ("x86_64", "AMD64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return c.get_dummy_value()

    return types.void(), code


@intrinsic
def word(context: Any, address: Any, index: Any) -> Any:
    """Word number `index` from this address on."""

    def code(c: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], _WORD.as_pointer())
        return builder.load(builder.gep(pointer, [values[1]]))

    return types.int64(types.int64, types.int64), code


@intrinsic
def stack_words(context: Any) -> Any:
    """The address of 32 words, until the function returns that asked for them."""

    def code(c: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.ptrtoint(cgutils.alloca_once(builder, ir.ArrayType(_WORD, 32)), _WORD)

    return types.int64(), code


@intrinsic
def write_addresses(context: Any, address: Any, arrays: Any) -> Any:
    """Write the addresses of the arrays in this tuple, one word after the other."""

    def code(c: Any, builder: Any, signature: Any, values: Any) -> Any:
        at = builder.inttoptr(values[0], _WORD.as_pointer())
        for i, kind in enumerate(signature.args[1].types):
            data = c.make_array(kind)(c, builder, builder.extract_value(values[1], i)).data
            builder.store(builder.ptrtoint(data, _WORD), builder.gep(at, [ir.Constant(_WORD, i)]))
        return c.get_dummy_value()

    return types.void(types.int64, arrays), code


@intrinsic
def set_word(context: Any, address: Any, index: Any, value: Any) -> Any:
    """Write word number `index` from this address on."""

    def code(c: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], _WORD.as_pointer())
        builder.store(values[2], builder.gep(pointer, [values[1]]))
        return c.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), code


@intrinsic
def at(context: Any, address: Any, index: Any) -> Any:
    """Word number `index` from this address on, as a pointer for `numba.carray`."""

    def code(c: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], _WORD.as_pointer())
        word = builder.load(builder.gep(pointer, [values[1]]))
        return builder.inttoptr(word, ir.IntType(8).as_pointer())

    return types.voidptr(types.int64, types.int64), code


@intrinsic
def call(context: Any, function: Any, argument: Any) -> Any:
    """Call int f(void *)."""

    def code(c: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(_INT, [_WORD])
        return builder.zext(builder.call(builder.inttoptr(values[0], kind.as_pointer()), [values[1]]), _WORD)

    return types.int64(types.int64, types.int64), code


@intrinsic
def call_clock(context: Any, function: Any, result: Any) -> Any:
    """Call clock_gettime(CLOCK_MONOTONIC, result)."""

    def code(c: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(_INT, [_INT, _WORD])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), [ir.Constant(_INT, 1), values[1]])
        return c.get_dummy_value()

    return types.void(types.int64, types.int64), code


@intrinsic
def call_task(context: Any, function: Any, words: Any, part: Any, parts: Any) -> Any:
    """Call void f(int64, int64, int64)."""

    def code(c: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_WORD] * 3)
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), values[1:])
        return c.get_dummy_value()

    return types.void(*[types.int64] * 4), code


def _gemm(real: Any) -> Any:
    """Call cblas_sgemm or cblas_dgemm: the function, the transpositions, m, n, k, then address and stride of each."""

    @intrinsic
    def gemm(context: Any, f: Any, a: Any, b: Any, m: Any, n: Any, k: Any,
             x: Any, of_x: Any, w: Any, of_w: Any, y: Any, of_y: Any) -> Any:  # fmt: skip
        def code(c: Any, builder: Any, signature: Any, values: Any) -> Any:
            f, a, b, m, n, k, x, of_x, w, of_w, y, of_y = values
            flags = [ir.Constant(_INT, ROW_MAJOR), builder.trunc(a, _INT), builder.trunc(b, _INT)]
            one, zero = ir.Constant(real, 1.0), ir.Constant(real, 0.0)
            given = [*flags, m, n, k, one, x, of_x, w, of_w, zero, y, of_y]
            kind = ir.FunctionType(ir.VoidType(), [value.type for value in given])
            builder.call(builder.inttoptr(f, kind.as_pointer()), given)
            return c.get_dummy_value()

        return types.void(*[types.int64] * 12), code

    return gemm


sgemm, dgemm = _gemm(ir.FloatType()), _gemm(ir.DoubleType())
