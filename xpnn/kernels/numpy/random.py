"""Random bits and dropout masks."""

from __future__ import annotations

import numpy as np

from xpnn.arrays import random
from xpnn.kernels.numpy.compiled import NO_DTYPE, loops, parts

_SAVED = 8e-9  # seconds that the loop saves per word: median on an AMD EPYC, 2026-11-21
_PIECE = 7_500  # blocks; what the rounds read and write fits into the L2 cache


@random.words.kernel("numpy")
def _words(k0: np.ndarray, k1: np.ndarray, step: np.ndarray, n: int, first: int = 0) -> np.ndarray:
    """As `random.words`, piece by piece and in place."""
    start, skipped, size = _blocks(n, first)
    words = np.empty(size, dtype=np.uint32)
    fast = loops(_SAVED * n)
    if fast:
        numbers = np.array((k0[0], k1[0], step[0], start, size), np.int64)
        fast.run("words", NO_DTYPE, parts(size), numbers, words)
        return words[skipped : skipped + n]
    ks = (k0, k1, k0 ^ k1 ^ np.uint32(random.PARITY))
    blocks, offset = np.arange(words.size // 2, dtype=np.uint32), ks[0] + np.uint32(start)
    shifted = np.empty(_PIECE, dtype=np.uint32)
    for begin in range(0, blocks.size, _PIECE):
        x0 = blocks[begin : begin + _PIECE]
        x1 = np.full_like(x0, (step + ks[1])[0])
        x0 += offset
        _rounds(x0, x1, ks, shifted[: x0.size])
        end = begin + x0.size
        words[2 * begin : 2 * end : 2] = x0
        words[2 * begin + 1 : 2 * end : 2] = x1
    return words[skipped : skipped + n]


def _blocks(n: int, first: int) -> tuple[int, int, int]:
    """For words first to first + n: their first block, how many words before them it has, and the words to draw."""
    skipped = first % 2
    return first // 2 % 2**32, skipped, (skipped + n + 1) // 2 * 2


def _rounds(x0: np.ndarray, x1: np.ndarray, ks: tuple[np.ndarray, ...], shifted: np.ndarray) -> None:
    """The twenty rounds of `random.threefry2x32`, in place."""
    for group in range(5):
        for r in random.ROTATIONS[group % 2]:
            x0 += x1
            np.right_shift(x1, np.uint32(32 - r), out=shifted)
            x1 <<= np.uint32(r)
            x1 |= shifted
            x1 ^= x0
        x0 += ks[(group + 1) % 3]
        x1 += ks[(group + 2) % 3] + np.uint32(group + 1)


@random.dropout_mask.kernel("numpy")
def _dropout_mask(
    k0: np.ndarray, k1: np.ndarray, step: np.ndarray, n: int, threshold: int, first: int = 0
) -> np.ndarray:
    """(bits >> 8) ≥ threshold is bits ≥ threshold · 2⁸."""
    if threshold >= 2**24:  # everything is dropped
        return NotImplemented
    fast = loops(_SAVED * n)
    if fast:
        start, skipped, size = _blocks(n, first)
        kept = np.empty(size, dtype=bool)
        numbers = np.array((k0[0], k1[0], step[0], start, size, threshold << 8), np.int64)
        fast.run("mask", NO_DTYPE, parts(size), numbers, kept)
        return kept[skipped : skipped + n]
    return random.words(k0, k1, step, n, first) >= np.uint32(threshold << 8)
