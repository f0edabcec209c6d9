"""Random bits and dropout masks: by NumPy's kernels on the CPU, in one compiled operation on a GPU.

The reference takes over a hundred operations for a mask, and PyTorch launches each of them separately.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch

from xpnn.arrays import random
from xpnn.devices.driver import one_line

#: Whether element i is kept, decided by word i counted from block `start`: Threefry-2x32-20, bit for bit as
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


@random.words.kernel("torch")
def _words(k0: torch.Tensor, k1: torch.Tensor, step: torch.Tensor, n: int, first: int = 0) -> Any:
    """NumPy's words, in shared memory."""
    if not k0.is_cpu:
        return NotImplemented
    return torch.from_numpy(random.words(*_as_numpy(k0, k1, step), n, first).view("int32"))


@random.dropout_mask.kernel("torch")
def _dropout_mask(
    k0: torch.Tensor, k1: torch.Tensor, step: torch.Tensor, n: int, threshold: int, first: int = 0
) -> Any:
    if k0.is_cpu:
        return torch.from_numpy(random.dropout_mask(*_as_numpy(k0, k1, step), n, threshold, first))
    if first % 2 or not compiles(k0.device):
        return NotImplemented
    return compiled_mask(k0, k1, step, n, threshold, first)


def _as_numpy(*lanes: torch.Tensor) -> list[Any]:
    return [lane.numpy().view("uint32") for lane in lanes]


def compiled_mask(k0: torch.Tensor, k1: torch.Tensor, step: torch.Tensor, n: int, threshold: int, first: int) -> Any:
    """As `xpnn.arrays.random.dropout_mask`, for an even `first`."""
    numbers = torch.arange(n, dtype=torch.int32, device=k0.device)
    start = (first // 2 + 2**31) % 2**32 - 2**31  # as a signed number of 32 bits
    return _compiled()(numbers, k0, k1, step, threshold=threshold, start=start) != 0


@functools.cache
def compiles(device: Any) -> bool:
    """Whether torch compiles SOURCE for this device, and it draws the reference's mask; called before any capture."""
    k0, k1, step = (torch.full((1,), word, dtype=torch.int32, device=device) for word in (-1, 12345, 7))
    arguments = (k0, k1, step, 1001, 2**23, 2**32 - 500)
    try:
        return bool((compiled_mask(*arguments) == random.dropout_mask.reference(*arguments)).all())
    except Exception as error:  # torch may change this interface
        warnings.warn(
            f"dropout on {device} is slower, because torch did not compile the mask: {one_line(error)}", stacklevel=2
        )
        return False


@functools.cache
def _compiled() -> Any:
    from torch.cuda.jiterator import _create_jit_fn

    return _create_jit_fn(SOURCE, threshold=0, start=0)
