"""Bytes, scaled as they are converted."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnn.kernels.numpy.compiled import loops
from xpnn.nn.layers.preprocessing import scaled

_SAVED = 0.1e-9  # seconds that the loop saves per element: median on an AMD EPYC, 2026-11-21


@scaled.kernel("numpy")
def _scaled(x: np.ndarray, factor: Any) -> Any:
    if x.dtype == factor.dtype:
        return NotImplemented
    y = np.empty(x.shape, factor.dtype)
    fast = loops(_SAVED * x.size)
    if fast and x.flags.c_contiguous and x.dtype == np.uint8:
        fast.scaled(x.reshape(-1), factor[()], y.reshape(-1))
    else:
        np.copyto(y, x)
        y *= factor
    return y
