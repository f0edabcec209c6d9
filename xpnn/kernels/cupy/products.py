"""Matrix products by cublasLt: what CuPy's own `@` refuses inside a capture (cupy/cupy#6290), and with the bias added.

A small typed binding by ctypes of the ten functions that are needed. The library comes with CuPy's wheels or the CUDA
toolkit, and cuda-pathfinder, on which CuPy depends, finds it. Every plan is made, and its algorithm chosen, when a
product of its shape is first asked for: before a capture, since its work has run once by then.

cublasLt counts columns first. An array in C order is there the transpose of what it is here; so y = x @ w is asked for
as yᵀ = wᵀ xᵀ, for which nothing needs to be copied, and the bias runs along yᵀ's rows.
"""

from __future__ import annotations

import ctypes
import functools
import os
import warnings
from typing import Any

from xpnn.arrays.driver import one_line
from xpnn.arrays.namespace import array_namespace

_WORKSPACE = 32 * 2**20  # bytes, as cuBLAS advises for Hopper

# Of cublasLt.h and library_types.h.
_OPERATION_T = 1
_TRANSA, _TRANSB, _EPILOGUE, _BIAS_POINTER = 3, 4, 7, 8
_EPILOGUE_BIAS = 4
_MAX_WORKSPACE_BYTES = 1
#: dtype -> (cudaDataType, compute type, what its scalars are)
_TYPES: dict[str, tuple[int, int, Any]] = {
    "float32": (0, 68, ctypes.c_float),
    "float64": (1, 70, ctypes.c_double),
}

_pointer, _size, _int = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "cublasLtCreate": (_pointer,),
    "cublasLtMatmulDescCreate": (_pointer, _int, _int),
    "cublasLtMatmulDescSetAttribute": (_pointer, _int, _pointer, _size),
    "cublasLtMatrixLayoutCreate": (_pointer, _int, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int64),
    "cublasLtMatmulPreferenceCreate": (_pointer,),
    "cublasLtMatmulPreferenceSetAttribute": (_pointer, _int, _pointer, _size),
    "cublasLtMatmulAlgoGetHeuristic": (*[_pointer] * 7, _int, _pointer, _pointer),
    "cublasLtMatmul": (*[_pointer] * 13, _size, _pointer),
}


class Heuristic(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t."""

    _fields_ = (
        ("algo", ctypes.c_uint64 * 8),
        ("workspace", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


def matmul(x: Any, w: Any, bias: Any = None) -> Any:
    """x @ w, plus bias in each row: 2-D arrays, each in C order or a transpose of one that is."""
    xp = array_namespace(x)
    covered = x.dtype.name in _TYPES and x.dtype == w.dtype and 0 not in (*x.shape, *w.shape)
    if not covered or not (_order(x) and _order(w)) or not _usable(x.device.id):
        y = x @ w
        return y if bias is None else y + bias
    y = xp.empty((x.shape[0], w.shape[1]), dtype=x.dtype)
    plan = _plan(x.device.id, x.dtype.name, *x.shape, w.shape[1], _order(x), _order(w), bias is not None)
    plan.run(x, w, y, bias)
    return y


@functools.cache
def _usable(device: int) -> bool:
    """Whether cublasLt can be loaded and multiplies as `@` does; XPNN_LT=0 says no."""
    import cupy

    if os.environ.get("XPNN_LT") == "0":
        return False
    x, w, bias = (cupy.arange(n, dtype=cupy.float32).reshape(shape) for n, shape in ((6, (2, 3)), (12, (3, 4)), (4, 4)))
    try:
        for a, b in ((x, w), (w.T, x.T)):
            y = cupy.empty((a.shape[0], b.shape[1]), dtype=a.dtype)
            more = bias if y.shape[1] == 4 else None
            Plan("float32", a.shape[0], a.shape[1], b.shape[1], _order(a), _order(b), more is not None).run(
                a, b, y, more
            )
            if not bool((y == a @ b + (0 if more is None else more)).all()):
                return False
    except Exception as error:  # then CuPy's own products do, though not inside a capture
        warnings.warn(f"cublasLt cannot be used, so training runs without CUDA graphs: {one_line(error)}", stacklevel=2)
        return False
    return True


def _order(x: Any) -> str:
    """ "C", "F", or "" for neither."""
    return "C" if x.flags.c_contiguous else "F" if x.flags.f_contiguous else ""


class Plan:
    """A product of one shape, ready to run: y (rows, columns) = x (rows, inner) @ w (inner, columns)."""

    def __init__(
        self, dtype: str, rows: int, inner: int, columns: int, x_order: str, w_order: str, has_bias: bool
    ) -> None:
        kind, compute, self._scalar = _TYPES[dtype]
        self._one, self._zero = self._scalar(1), self._scalar(0)
        self._lt, self._has_bias = library(), has_bias
        self._desc = _made("cublasLtMatmulDescCreate", compute, kind)
        # cublasLt's first factor is wᵀ, (columns, inner); its second xᵀ, (inner, rows)
        self._w = self._factor(_TRANSA, kind, columns, inner, w_order)
        self._x = self._factor(_TRANSB, kind, inner, rows, x_order)
        self._y = _made("cublasLtMatrixLayoutCreate", kind, columns, rows, columns)
        if has_bias:
            _set("cublasLtMatmulDescSetAttribute", self._desc, _EPILOGUE, ctypes.c_int(_EPILOGUE_BIAS))
        preference = _made("cublasLtMatmulPreferenceCreate")
        _set("cublasLtMatmulPreferenceSetAttribute", preference, _MAX_WORKSPACE_BYTES, ctypes.c_uint64(_WORKSPACE))
        self._best, found = Heuristic(), ctypes.c_int(0)
        layouts = (self._w, self._x, self._y, self._y)
        call(
            "cublasLtMatmulAlgoGetHeuristic",
            library().handle,
            self._desc,
            *layouts,
            preference,
            1,
            ctypes.byref(self._best),
            ctypes.byref(found),
        )
        if not found.value:
            raise NotImplementedError(f"cublasLt has no algorithm for {rows} x {inner} x {columns} in {dtype}")

    def _factor(self, attribute: int, kind: int, rows: int, columns: int, order: str) -> Any:
        """The layout of a factor that is to be (rows, columns) for cublasLt: in C order it lies there as it is."""
        if order == "C":
            return _made("cublasLtMatrixLayoutCreate", kind, rows, columns, rows)
        _set("cublasLtMatmulDescSetAttribute", self._desc, attribute, ctypes.c_int(_OPERATION_T))
        return _made("cublasLtMatrixLayoutCreate", kind, columns, rows, columns)

    def run(self, x: Any, w: Any, y: Any, bias: Any) -> None:
        import cupy

        if self._has_bias:
            pointer = ctypes.c_uint64(bias.data.ptr)
            _set("cublasLtMatmulDescSetAttribute", self._desc, _BIAS_POINTER, pointer)
        space = _workspace(cupy.cuda.get_current_stream().ptr)
        call(
            "cublasLtMatmul",
            library().handle,
            self._desc,
            ctypes.byref(self._one),
            w.data.ptr,
            self._w,
            x.data.ptr,
            self._x,
            ctypes.byref(self._zero),
            y.data.ptr,
            self._y,
            y.data.ptr,
            self._y,
            ctypes.byref(self._best.algo),
            space.ptr,
            _WORKSPACE,
            cupy.cuda.get_current_stream().ptr,
        )


class Library:
    """cublasLt with typed functions, and a handle for the current device."""

    def __init__(self) -> None:
        from cuda import pathfinder

        self.functions = ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib("cublasLt").abs_path)
        for name, types in _PROTOTYPES.items():
            function = getattr(self.functions, name)
            function.argtypes, function.restype = types, ctypes.c_int
        self.handle = ctypes.c_void_p()
        status = self.functions.cublasLtCreate(ctypes.byref(self.handle))
        if status:
            raise RuntimeError(f"cublasLtCreate failed with status {status}")


@functools.cache
def _libraries(device: int) -> Library:
    return Library()


def library() -> Library:
    """That of the current device."""
    import cupy

    return _libraries(cupy.cuda.runtime.getDevice())


@functools.lru_cache(maxsize=1024)
def _plan(device: int, *settings: Any) -> Plan:
    return Plan(*settings)


@functools.cache
def _workspace(stream: int) -> Any:
    """Memory that a product may scratch in: one for each stream, and never given back, as graphs remember it."""
    import cupy

    return cupy.cuda.alloc(_WORKSPACE)


def call(name: str, *values: Any) -> None:
    """Raises RuntimeError with cublasLt's status where that is not 0."""
    status = getattr(library().functions, name)(*values)
    if status:
        raise RuntimeError(f"{name} failed with status {status}")


def _made(create: str, *values: Any) -> Any:
    made = ctypes.c_void_p()
    call(create, ctypes.byref(made), *values)
    return made


def _set(setter: str, what: Any, attribute: int, value: Any) -> None:
    call(setter, what, attribute, ctypes.byref(value), ctypes.sizeof(value))
