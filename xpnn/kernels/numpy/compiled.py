"""When compiled code (`native`) is loaded: once they would have saved more time than loading them takes.

Loading numba takes 0.35 s (AMD EPYC, 2026-11-21), too long for a short run, and compiling for the first time 9 s more:
`XPNN_FAST=1 xpnn train` on digits takes 12 s without compiled code on disk, and 3 s with it (Intel Xeon, 2026-11-27).
So NumPy's kernels report the time that a loop would have saved, and the loops are loaded when the sum reaches a
fraction of the cost. Both give the same bits, so results do not depend on this. Beside it: what all callers of compiled
code need, the number of threads and arrays of constants.

XPNN_FAST=0 disables the loops, XPNN_FAST=1 loads them at once.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from xpnn import config
from xpnn.devices.threads import step_threads

#: For tasks that have no dtype.
NO_DTYPE = np.dtype(np.float32)
_PART = 8_000  # elements
_FEW = 256  # elements for which a call of a loop saves nothing
_WARM, _COLD = 0.1, 5.0  # seconds that would have been saved: with the compiled loops on disk, and without

_saved = 0.0
_loops: ModuleType | None = None
_absent = False


def loops(seconds: float, size: int = _FEW) -> ModuleType | None:
    """Return the compiled loops, or None if NumPy is to be used.

    Parameters
    ----------
    seconds : float
        About the time that the loops would save in this call.
    size : int, optional
        The number of elements.
    """
    global _saved
    if size < _FEW:
        return None
    if _loops is None and not _absent:
        _saved += seconds
        if config.get("XPNN_FAST") == "1" or (_saved > _WARM and _saved > (_WARM if _is_warm() else _COLD)):
            load()
    return _loops


def parts(size: int) -> int:
    """Return how many threads work on so many elements: one if it would take less than about 20 µs."""
    return 1 if size < 2 * _PART else min(step_threads(), size // _PART)


@functools.lru_cache(maxsize=1024)
def constant(value: Any, kind: Any) -> np.ndarray:
    """Return a number, or a tuple of numbers, as an array that must not be changed."""
    return np.array(value, kind, ndmin=1)


def load() -> None:
    """Load the loops now, if numba is installed and XPNN_FAST is not 0."""
    global _loops, _absent
    if config.get("XPNN_FAST") == "0":
        _absent = True
        return
    try:
        _loops = importlib.import_module("xpnn.kernels.numpy.native")
    except ImportError as error:
        _absent = True
        if not isinstance(error, ModuleNotFoundError) or config.get("XPNN_FAST") == "1":
            warnings.warn(f"the compiled kernels are not used: {error}; pip install 'xpnn[fast]'", stacklevel=2)


@functools.cache
def _is_warm() -> bool:
    """Whether numba has cached compiled loops: beside their source, or where it does if that folder is read-only."""
    here = Path(__file__).parent / "native"
    if any((here / "__pycache__").glob("tasks.*.nbc")):
        return True
    caches = [os.environ.get("NUMBA_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME"), os.path.expanduser("~/.cache")]
    folders = [Path(cache) / part for cache in caches if cache for part in (".", "numba")]
    with contextlib.suppress(OSError):
        return any(any(folder.glob(f"{here.name}_*/tasks.*.nbc")) for folder in folders)
    return False
