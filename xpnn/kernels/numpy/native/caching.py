"""How numba compiles this package's functions, and keeps them on disk."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc

_made: list[Any] = []  # the C functions: one that is freed must not be called


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function at its first call for each dtype; it runs without the GIL, and division by 0 gives inf."""
    made = numba.njit(function, error_model="numpy", nogil=True)
    with contextlib.suppress(RuntimeError):  # no folder can be written to: neither the package's, nor the user's
        made._cache = _Cache(function)
    return made


#: A function that becomes part of those that call it.
inlined: Any = numba.njit(forceinline=True, error_model="numpy")


def c_function(function: Callable[..., Any], signature: Any) -> int:
    """Compile a function now, and return its address as a C function.

    What it takes from the function around it must be numbers, strings or dtypes: the cache finds it by their values.
    """
    made: Any = CFunc(function, (signature.args, signature.return_type), {}, {"error_model": "numpy"})
    with contextlib.suppress(RuntimeError):
        made._cache = _Cache(function)
    made.compile()
    _made.append(made)
    return int(made.address)


class _Cache(FunctionCache):  # type: ignore[misc]  # numba has no types
    """numba's cache on disk. If it cannot be read or written, functions are compiled again, which only takes time."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = _stamp()

    def load_overload(self, *what: Any) -> Any:
        with contextlib.suppress(Exception):  # of any type: a damaged file, or one that may not be read
            return super().load_overload(*what)
        return None

    def save_overload(self, *what: Any) -> None:
        with contextlib.suppress(Exception):  # a full disk, or a folder that has become read-only
            super().save_overload(*what)


@functools.cache
def _stamp() -> tuple[Any, ...]:
    """When the sources of this folder were changed. Its functions contain each other; numba looks at one file only."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return tuple((file.name, file.stat().st_mtime, file.stat().st_size) for file in files)
