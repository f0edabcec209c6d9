"""Dropout's masks on a GPU in one operation of torch's, which compiles it when it is first used.

The reference takes over a hundred operations for a mask, each of which torch would launch by itself.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

from xpnn.arrays import random
from xpnn.devices.driver import one_line

#: Whether element i is kept, which word i counted from block `start` decides: Threefry-2x32-20, bit for bit as
#: xpnn/arrays/random.py; torch's lanes are signed.
SOURCE = """
template <typename T> T dropout_mask(T i, T k0, T k1, T step, T threshold, T start) {
    unsigned ks[3] = {(unsigned)k0, (unsigned)k1, (unsigned)k0 ^ (unsigned)k1 ^ 0x1BD11BDAu};
    const int turns[8] = {13, 15, 26, 6, 17, 29, 16, 24};
    unsigned a = (unsigned)start + (unsigned)i / 2 + ks[0], b = (unsigned)step + ks[1];
    for (int group = 0; group < 5; ++group) {
        for (int j = 0; j < 4; ++j) {
            int r = turns[group % 2 * 4 + j];
            a += b;
            b = ((b << r) | (b >> (32 - r))) ^ a;
        }
        a += ks[(group + 1) % 3];
        b += ks[(group + 2) % 3] + (unsigned)(group + 1);
    }
    return ((i % 2 ? b : a) >> 8) >= (unsigned)threshold;
}
"""


def dropout_mask(k0: Any, k1: Any, step: Any, n: int, threshold: int, first: int = 0) -> Any:
    """As `xpnn.arrays.random.dropout_mask`, for an even `first`."""
    import torch

    numbers = torch.arange(n, dtype=torch.int32, device=k0.device)
    start = (first // 2 + 2**31) % 2**32 - 2**31  # as a signed number of 32 bits
    return _compiled()(numbers, k0, k1, step, threshold=threshold, start=start) != 0


@functools.cache
def works(device: Any) -> bool:
    """Whether torch compiles it there, and it draws what the reference draws; asked before anything is recorded."""
    import torch

    reference = random.dropout_mask.reference
    k0, k1, step = (torch.full((1,), word, dtype=torch.int32, device=device) for word in (-1, 12345, 7))
    try:
        drawn, wanted = (draw(k0, k1, step, 1001, 2**23, 2**32 - 500) for draw in (dropout_mask, reference))
        return bool((drawn == wanted).all())
    except Exception as error:  # an interface that torch may change
        warnings.warn(
            f"dropout on {device} takes the long way, as torch compiles no mask: {one_line(error)}", stacklevel=2
        )
        return False


@functools.cache
def _compiled() -> Any:
    from torch.cuda.jiterator import _create_jit_fn

    return _create_jit_fn(SOURCE, threshold=0, start=0)
