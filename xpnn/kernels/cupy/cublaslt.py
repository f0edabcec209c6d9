"""A small typed binding of cublasLt by ctypes, and plans that are reused.

CuPy does not run its products inside a capture (cupy/cupy#6290). nvmath-python binds the same library and more, but it
is a beta whose interface changes every few months; ten functions are a smaller dependency. Their speed has not been
compared yet. The library comes with CuPy's wheels or the CUDA toolkit; cuda-pathfinder, a dependency of CuPy, finds it.
A plan is created, and its algorithm chosen, at the first product of its kind: before a capture, because a step has run
once by then. Values are those of cublasLt.h, cublas_api.h and library_types.h of CUDA 12 and 13.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from typing import Any, NamedTuple

from xpnn import config
from xpnn.devices.libraries.cupy import stream_ends

_WORKSPACE = 32 * 2**20  # bytes, as cuBLAS advises for Hopper
_CANDIDATES, _REPEATS = 16, 20  # algorithms that are timed, with XPNN_TUNE=1, and how often each runs

_OPERATION_T, _NOT_SUPPORTED = 1, 15
_TRANSA, _TRANSB, _EPILOGUE, _VECTOR_POINTER = 3, 4, 7, 8  # of a description
_BATCH_COUNT, _BATCH_STRIDE = 5, 6  # of a layout
_MAX_WORKSPACE_BYTES, _MIN_ALIGNMENTS = 1, (5, 6, 7, 8)  # of a preference; of A, B, C and D

#: Epilogues: none; a vector added to each row of y.
NOTHING, BIAS = 1, 4

#: dtype of the factors -> (cudaDataType of the factors, that of the result, the ctypes type of the scalars)
_TYPES: dict[str, tuple[int, int, Any]] = {
    "float32": (0, 0, ctypes.c_float),
    "float64": (1, 1, ctypes.c_double),
    "uint16": (14, 0, ctypes.c_float),  # the bits of bfloat16
}
COMPUTE_32F, COMPUTE_64F, COMPUTE_TF32 = 68, 70, 77

_one_at_a_time = threading.Lock()

_pointer, _size, _int = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "cublasLtCreate": (_pointer,),
    "cublasLtMatmulDescCreate": (_pointer, _int, _int),
    "cublasLtMatmulDescSetAttribute": (_pointer, _int, _pointer, _size),
    "cublasLtMatrixLayoutCreate": (_pointer, _int, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int64),
    "cublasLtMatrixLayoutSetAttribute": (_pointer, _int, _pointer, _size),
    "cublasLtMatmulPreferenceCreate": (_pointer,),
    "cublasLtMatmulPreferenceSetAttribute": (_pointer, _int, _pointer, _size),
    "cublasLtMatmulAlgoGetHeuristic": (*[_pointer] * 7, _int, _pointer, _pointer),
    "cublasLtMatmul": (*[_pointer] * 14, _size, _pointer),
}


class Problem(NamedTuple):
    """A kind of product: y (rows, columns) = x (rows, inner) @ w (inner, columns).

    dtype, compute   of the factors (a key of _TYPES), and the compute type of cublasLt
    x_order, w_order "C", or "F" for the transpose of an array in C order
    epilogue         one of those above
    batch            the number of consecutive w and y; x is the same for all
    alignments       of x, w, y and the vector: their addresses are multiples of this many bytes
    """

    dtype: str
    compute: int
    rows: int
    inner: int
    columns: int
    x_order: str
    w_order: str
    epilogue: int
    alignments: tuple[int, int, int, int]
    batch: int = 1


class Addresses(NamedTuple):
    """The addresses of the arrays; 0 without a vector."""

    x: int
    w: int
    y: int
    vector: int


class Result(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t."""

    _fields_ = (
        ("algo", ctypes.c_uint64 * 8),
        ("workspace", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


class LtError(RuntimeError):
    """A function of cublasLt failed."""

    def __init__(self, name: str, status: int) -> None:
        super().__init__(f"{name} failed with status {status}")
        self.status = status


class Plan:
    """A product of one kind, ready to run.

    cublasLt uses column-major order, in which an array in C order is its transpose. So y = x @ w is computed as
    yᵀ = wᵀ xᵀ without a copy: A is w, B is x, and a vector runs along the rows of yᵀ.
    """

    def __init__(self, problem: Problem, at: Addresses) -> None:
        """Raises NotImplementedError if cublasLt has no algorithm; `at`: the addresses of the first run."""
        factors, result, scalar = _TYPES[problem.dtype]
        self._one, self._zero, self._epilogue = scalar(1), scalar(0), problem.epilogue
        self._description = _made("cublasLtMatmulDescCreate", problem.compute, result)
        self._w = self._factor(_TRANSA, factors, problem.columns, problem.inner, problem.w_order)
        self._x = self._factor(_TRANSB, factors, problem.inner, problem.rows, problem.x_order)
        self._y = _made("cublasLtMatrixLayoutCreate", result, problem.columns, problem.rows, problem.columns)
        if problem.batch > 1:
            strides = (problem.inner * problem.columns, 0, problem.rows * problem.columns)
            for layout, stride in zip((self._w, self._x, self._y), strides, strict=True):
                setter = "cublasLtMatrixLayoutSetAttribute"
                _set(setter, layout, _BATCH_COUNT, ctypes.c_int32(problem.batch))
                _set(setter, layout, _BATCH_STRIDE, ctypes.c_int64(stride))
        self._describe(_EPILOGUE, ctypes.c_uint32(problem.epilogue))
        self._point(at.vector)  # its alignment influences the choice of an algorithm
        found = self._algorithms(problem)
        if not found:
            raise NotImplementedError(f"cublasLt has no algorithm for {problem}")
        self._best = found[0] if len(found) == 1 else self._fastest(found, at)

    def _factor(self, attribute: int, kind: int, rows: int, columns: int, order: str) -> Any:
        """The layout of a factor that is (rows, columns) for cublasLt; a factor in C order needs no transpose."""
        if order == "C":
            return _made("cublasLtMatrixLayoutCreate", kind, rows, columns, rows)
        self._describe(attribute, ctypes.c_int32(_OPERATION_T))
        return _made("cublasLtMatrixLayoutCreate", kind, columns, rows, columns)

    def _describe(self, attribute: int, value: Any) -> None:
        _set("cublasLtMatmulDescSetAttribute", self._description, attribute, value)

    def _point(self, vector: int) -> None:
        if self._epilogue == BIAS:
            self._describe(_VECTOR_POINTER, ctypes.c_uint64(vector))

    def _algorithms(self, problem: Problem) -> list[Any]:
        """The first choice of cublasLt; with XPNN_TUNE=1 several, to be timed."""
        preference = _made("cublasLtMatmulPreferenceCreate")
        setter = "cublasLtMatmulPreferenceSetAttribute"
        _set(setter, preference, _MAX_WORKSPACE_BYTES, ctypes.c_uint64(_WORKSPACE))
        x, w, y, _ = problem.alignments
        for attribute, bytes_ in zip(_MIN_ALIGNMENTS, (w, x, y, y), strict=True):
            _set(setter, preference, attribute, ctypes.c_uint32(bytes_))
        wanted = _CANDIDATES if config.get("XPNN_TUNE") == "1" else 1
        results, count = (Result * wanted)(), ctypes.c_int(0)
        layouts = (self._w, self._x, self._y, self._y)
        rest = (preference, wanted, ctypes.byref(results), ctypes.byref(count))
        try:
            call("cublasLtMatmulAlgoGetHeuristic", library().handle, self._description, *layouts, *rest)
        except LtError as error:
            if error.status == _NOT_SUPPORTED:  # there is none
                return []
            raise
        return [result for result in results[: count.value] if result.state == 0]

    def run(self, at: Addresses) -> None:
        with _one_at_a_time:  # between the vector's address and the call that reads it
            self._point(at.vector)
            self._run(self._best, at)

    def _run(self, algorithm: Any, at: Addresses) -> None:
        import cupy

        stream, lt = cupy.cuda.get_current_stream().ptr, library()
        factors = (at.w, self._w, at.x, self._x)
        results = (at.y, self._y, at.y, self._y)
        scratch = (_workspace(lt.device, stream).ptr, _WORKSPACE, stream)
        one, zero, algo = (ctypes.byref(part) for part in (self._one, self._zero, algorithm.algo))
        call("cublasLtMatmul", lt.handle, self._description, one, *factors, zero, *results, algo, *scratch)

    def _fastest(self, algorithms: list[Any], at: Addresses) -> Any:
        """The algorithm that takes the least time in a graph: a launch from Python takes longer than most of them."""
        import cupy

        cupy.cuda.get_current_stream().synchronize()  # what still reads the memory that y has now
        stream = cupy.cuda.Stream(non_blocking=True)
        start, stop = cupy.cuda.Event(), cupy.cuda.Event()

        def seconds(algorithm: Any) -> float:
            try:
                self._run(algorithm, at)
                stream.begin_capture()
                try:
                    for _ in range(_REPEATS):
                        self._run(algorithm, at)
                finally:
                    graph = stream.end_capture()
            except Exception:  # of cublasLt, or of CUDA for the capture that it has spoilt
                return float("inf")
            taken = []
            for _ in range(4):
                start.record(stream)
                graph.launch(stream)
                stop.record(stream)
                stop.synchronize()
                taken.append(float(cupy.cuda.get_elapsed_time(start, stop)))
            return min(taken)

        try:
            with stream:
                taken, fastest = min([(seconds(one), i) for i, one in enumerate(algorithms)])
        finally:
            for ended in stream_ends:
                ended(library().device, stream.ptr)
        if taken == float("inf"):
            raise NotImplementedError("no algorithm of cublasLt runs")
        return algorithms[fastest]


class Library:
    """cublasLt with typed functions, and a handle for one device."""

    def __init__(self, device: int) -> None:
        from cuda import pathfinder

        self.device, self.functions = device, typed(pathfinder.load_nvidia_dynamic_lib("cublasLt").abs_path)
        self.handle = ctypes.c_void_p()
        status = self.functions.cublasLtCreate(ctypes.byref(self.handle))
        if status:
            raise RuntimeError(f"cublasLtCreate failed with status {status}")


def typed(path: str) -> Any:
    """Load the library at this path and declare the types of its functions: handles have 64 bits."""
    functions = ctypes.CDLL(path)
    for name, types in PROTOTYPES.items():
        function = getattr(functions, name)
        function.argtypes, function.restype = types, ctypes.c_int
    return functions


@functools.cache
def _libraries(device: int) -> Library:
    return Library(device)


def library() -> Library:
    """cublasLt for the current device."""
    import cupy

    return _libraries(cupy.cuda.runtime.getDevice())


def _workspace(device: int, stream: int) -> Any:
    """The workspace of products: one per stream, freed when the stream ends, because graphs keep its address.

    It does not come from a memory pool, of which it might occupy a larger block.
    """
    import cupy

    if (device, stream) not in _workspaces:
        try:
            _workspaces[device, stream] = cupy.cuda.Memory(_WORKSPACE)
        except cupy.cuda.memory.OutOfMemoryError:
            cupy.get_default_memory_pool().free_all_blocks()
            _workspaces[device, stream] = cupy.cuda.Memory(_WORKSPACE)
    return _workspaces[device, stream]


_workspaces: dict[tuple[int, int], Any] = {}
stream_ends.append(lambda device, stream: _workspaces.pop((device, stream), None))


def call(name: str, *values: Any) -> None:
    """Call a function of cublasLt. Raises LtError if its status is not 0."""
    function = getattr(library().functions, name)
    if len(values) != len(PROTOTYPES[name]):
        raise TypeError(f"{name} takes {len(PROTOTYPES[name])} arguments, not {len(values)}")  # ctypes takes more
    status = function(*values)
    if status:
        raise LtError(name, status)


def _made(create: str, *values: Any) -> Any:
    made = ctypes.c_void_p()
    call(create, ctypes.byref(made), *values)
    return made


def _set(setter: str, what: Any, attribute: int, value: Any) -> None:
    call(setter, what, attribute, ctypes.byref(value), ctypes.sizeof(value))
