"""When the compiled loops of `loops.py` step in: once they have shown that they save more time than loading them takes.

Loading numba takes 0.35 s, compiling the loops for the first time 3 s more (AMD EPYC, 2026-11-21), which a short run
would never win back. So the kernels of NumPy say what a loop would have saved them, and when that adds up to a good
part of the cost the loops are loaded. Both give the same bits, so nobody sees the change.

XPNN_FAST=0 keeps them away, XPNN_FAST=1 loads them at once.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from pathlib import Path
from types import ModuleType

from xpnn import config

_WARM, _COLD = 0.1, 2.0  # seconds that must have been saved where the compiled loops lie on disk, and where they do not

_saved = 0.0
_loops: ModuleType | None = None
_absent = False


def loops(seconds: float) -> ModuleType | None:
    """The compiled loops, or None while NumPy should do it; `seconds`: about what this call would save."""
    global _saved
    if _loops is None and not _absent:
        _saved += seconds
        if config.get("XPNN_FAST") == "1" or (_saved > _WARM and _saved > (_WARM if _is_warm() else _COLD)):
            load()
    return _loops


def load() -> None:
    """Load the loops now, where numba is installed and XPNN_FAST is not 0."""
    global _loops, _absent
    if config.get("XPNN_FAST") == "0":
        _absent = True
        return
    try:
        _loops = importlib.import_module("xpnn.kernels.numpy.loops")
    except ImportError as error:
        _absent = True
        if not isinstance(error, ModuleNotFoundError) or config.get("XPNN_FAST") == "1":
            warnings.warn(f"the compiled kernels are left out: {error}; pip install 'xpnn[fast]'", stacklevel=2)


@functools.cache
def _is_warm() -> bool:
    """Whether numba has kept compiled loops beside their source; where it keeps them elsewhere, no."""
    return any((Path(__file__).parent / "__pycache__").glob("loops.*.nbc"))
