"""When the compiled loops of `loops.py` step in: once they save more time than loading them takes.

Loading numba takes about 0.4 s, which a run of two seconds would never win back. So the kernels of NumPy say what the
loop would have saved them, and the loops are loaded when that adds up to as much as their loading costs: no run takes
longer than it would with the better choice by more than that. Both give the same bits, so nobody sees the change.

XPNN_FAST=0 keeps them away, XPNN_FAST=1 loads them at once.
"""

from __future__ import annotations

import importlib
import os
import warnings
from types import ModuleType

_LOADING = 0.4  # seconds for numba and the first loops, from the cache on disk (AMD EPYC, 2026-11-21)

_saved = 0.0
_loops: ModuleType | None = None
_absent = False


def loops(seconds: float) -> ModuleType | None:
    """The compiled loops, or None while NumPy should do it; `seconds`: about what this call would save."""
    global _saved
    if _loops is None and not _absent:
        _saved += seconds
        if _saved > _LOADING or os.environ.get("XPNN_FAST") == "1":
            load()
    return _loops


def load() -> None:
    """Load the loops now, where numba is installed and XPNN_FAST is not 0."""
    global _loops, _absent
    if os.environ.get("XPNN_FAST") == "0":
        _absent = True
        return
    try:
        _loops = importlib.import_module("xpnn.kernels.numpy.loops")
    except ImportError as error:
        _absent = True
        if not isinstance(error, ModuleNotFoundError) or os.environ.get("XPNN_FAST") == "1":
            warnings.warn(f"the compiled kernels are left out: {error}; pip install 'xpnn[fast]'", stacklevel=2)
