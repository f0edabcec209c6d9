"""The OpenBLAS that NumPy has loaded, by its C functions: matrix products at given addresses, and its threads.

OpenBLAS's own threads wait for each other actively. Beside another busy process, a step with two of them took 5 to 56
times as long as alone, and two trainings at once up to 20 times (Intel Xeon, 2 cores, 2026-11-26; `python -m
bench.busy`). So training gives OpenBLAS one thread, and divides large products itself; see `xpnn.kernels.numpy`.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

#: Values of CBLAS_ORDER and CBLAS_TRANSPOSE in cblas.h.
ROW_MAJOR, AS_IT_IS, TRANSPOSED = 101, 111, 112
_AFFIXES = (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", ""))


class OpenBLAS:
    """The functions of one loaded library. As a context, it has one thread; contexts may overlap.

    Parameters
    ----------
    file : str
        Where it was loaded from.

    Raises
    ------
    AttributeError
        If it has not all of the functions.
    """

    def __init__(self, file: str) -> None:
        library = ctypes.CDLL(file)
        known = [affix for affix in _AFFIXES if hasattr(library, "{}openblas_get_config{}".format(*affix))]
        prefix, suffix = (*known, ("", ""))[0]

        def function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
            found = getattr(library, f"{prefix}{name}{suffix}")
            found.restype, found.argtypes = result, arguments
            return found

        config = function("openblas_get_config", ctypes.c_char_p)
        #: Whether its integers have 64 bits.
        self.is_wide = b"USE64BITINT" in config()
        integer = ctypes.c_int64 if self.is_wide else ctypes.c_int32
        flag, address = ctypes.c_int, ctypes.c_void_p

        def gemm(name: str, real: Any) -> Callable[..., Any]:
            matrices = (address, integer, address, integer, real, address, integer)
            return function(name, None, flag, flag, flag, integer, integer, integer, real, *matrices)

        #: y = x @ w by cblas_sgemm and cblas_dgemm, by the name of the dtype.
        self.gemm = {"float32": gemm("cblas_sgemm", ctypes.c_float), "float64": gemm("cblas_dgemm", ctypes.c_double)}
        self._threads: Callable[[], int] = function("openblas_get_num_threads", ctypes.c_int)
        self._set_threads: Callable[[int], None] = function("openblas_set_num_threads", None, ctypes.c_int)
        self._lock, self._inside, self._before = threading.Lock(), 0, 1

    def gemm_address(self, dtype: str) -> int:
        """Return where the function is that `gemm` has for this dtype."""
        return int(ctypes.cast(self.gemm[dtype], ctypes.c_void_p).value or 0)  # type: ignore[arg-type]

    def threads(self) -> int:
        """Return how many threads it has outside of this context."""
        return self._before if self._inside else self._threads()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = self._threads()
                self._set_threads(1)
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._set_threads(self._before)


@functools.cache
def openblas() -> OpenBLAS | None:
    """Return NumPy's OpenBLAS; None if NumPy uses another BLAS, or if it is not certain which of several is NumPy's."""
    import threadpoolctl

    pools = threadpoolctl.ThreadpoolController().select(internal_api="openblas").info()
    files = [pool["filepath"] for pool in pools]
    root = Path(np.__file__).parent
    places = (root / ".libs", root / ".dylibs", root.parent / "numpy.libs")
    own = [file for file in files if Path(file).parent in places]
    with contextlib.suppress(AttributeError, OSError):
        if len(own or files) == 1:
            return OpenBLAS((own or files)[0])
    return None
