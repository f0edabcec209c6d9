"""Random numbers as pure functions: the same bits on every array library, and no state.

The generator is Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy
as 1, 2, 3", 2011), written in the integer operations of the array API standard. A number is a function of its purpose:

    key      two 32-bit words from (seed, purpose), xor 2 · 31 bits from the position of the layer in the model
    counter  (block, global step)
    output   words 2·block and 2·block + 1 of the array, in row-major order

A mask or noise for a part of a batch (`Key.share`) consists of the part's rows of what the whole batch would draw.

Lanes are `uint32`, but `int32` for torch, whose uint32 lacks addition and shifts on the CPU. Both wrap.
"""

from __future__ import annotations

import functools
import hashlib
import math
from typing import Any, NamedTuple

import numpy as np

from xpnn import deprecated
from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.namespace import Array, array_namespace, device_of
from xpnn.arrays.quantile import normal_probability, normal_quantile
from xpnn.errors import InputError

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


class Key(NamedTuple):
    """The key of random draws.

    Parameters
    ----------
    words : tuple of two arrays
        The words of the key, of shape (1,) each: 0-d `uint32` values would become NumPy scalars, which warn when they
        wrap.
    step : array
        The second word of the counter, of shape (1,).
    path : tuple of str and int
        The position in the model, such as (0, "weight"). It is combined with the words only when bits are drawn, so
        that `child` is cheap.
    share : tuple of two ints, optional
        (first row, rows of the whole batch) if the draws are for a part of a batch. Python integers: they do not change
        between steps. Kernels expect an even first row; the reference supports any.
    ranks : Ranks, optional
        The processes that compute the other parts of the batch. A layer that uses statistics of the batch adds up its
        sums over them.

    Examples
    --------
    The mask of rows 4 and 5 of a batch of 6:

    >>> whole = key(0, "dropout").child(1)
    >>> part = whole._replace(share=(4, 6))
    >>> bool((keep_mask(part, 0.5, (2, 3)) == keep_mask(whole, 0.5, (6, 3))[4:]).all())
    True
    """

    words: tuple[Array, Array]
    step: Array
    path: tuple[str | int, ...] = ()
    share: tuple[int, int] | None = None
    ranks: Any = None

    def child(self, name: str | int) -> Key:
        """Return the key of the part called `name`, with the same share and ranks."""
        return self._replace(path=(*self.path, name))

    def first_word(self, shape: tuple[int, ...]) -> int:
        """Return the number of the first word of a draw of `shape`, whose first axis is the rows: 0 without a share."""
        return 0 if self.share is None else self.share[0] * math.prod(shape[1:])


def key(seed: int, purpose: str) -> Key:
    """Create a key on the host.

    Parameters
    ----------
    seed : int
        0 … 2⁶⁴ − 1.
    purpose : str
        What the numbers are for: "init", "shuffle", "dropout", …

    Returns
    -------
    Key
        NumPy arrays: the words, and step 0.

    Raises
    ------
    InputError
        If the seed is not such an integer.

    Examples
    --------
    >>> bits(key(0, "init").child(0).child("weight"), (3,))
    array([3889260116,  549170837,  678681054], dtype=uint32)
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64:
        raise InputError(f"seed: {seed!r} is not an integer from 0 to 2**64 - 1")
    k0, k1 = (np.asarray([word], dtype=np.uint32) for word in _digest(f"{seed}/{purpose}"))
    return Key((k0, k1), np.zeros(1, dtype=np.uint32))


def lanes(words: np.ndarray, dtype: str) -> np.ndarray:
    """Return `uint32` words of the host in the integer dtype in which a library computes, with the same bits."""
    return words.view(dtype)


def threefry2x32(k0: Array, k1: Array, x0: Array, x1: Array) -> tuple[Array, Array]:
    """Compute one block of Threefry-2x32-20 for each counter.

    Parameters
    ----------
    k0, k1 : arrays
        The words of the key, in 32-bit lanes.
    x0, x1 : arrays
        The words of the counters; all four broadcast.

    Returns
    -------
    tuple of two arrays
        The two words of each block.
    """
    signed = array_namespace(k0).isdtype(k0.dtype, "signed integer")
    ks = (k0, k1, k0 ^ k1 ^ PARITY)
    x0, x1 = x0 + ks[0], x1 + ks[1]
    for group in range(5):
        for r in ROTATIONS[group % 2]:
            x0 = x0 + x1
            high = x1 >> (32 - r)
            if signed:  # >> repeats the sign bit
                high = high & ((1 << r) - 1)
            x1 = ((x1 << r) | high) ^ x0
        x0 = x0 + ks[(group + 1) % 3]
        x1 = x1 + (ks[(group + 2) % 3] + (group + 1))
    return x0, x1


def bits(key: Key, shape: tuple[int, ...], *, per_row: bool = True) -> Array:
    """Draw 32 random bits per element.

    Parameters
    ----------
    key : Key
        With a share, the result consists of the part's rows of the whole batch's draw, bit for bit.
    shape : tuple of int
        Shape of the result; the first axis is the rows of the batch.
    per_row : bool
        If False, the first axis is not the rows of the batch, and the share is ignored.

    Returns
    -------
    array
        In the lanes and on the device of the key.
    """
    k0, k1 = _folded(key)
    first = key.first_word(shape) if per_row else 0
    return array_namespace(k0).reshape(words(k0, k1, key.step, math.prod(shape), first), shape)


def keep_mask(key: Key, p: float, shape: tuple[int, ...]) -> Array:
    """Draw a boolean mask that is True with probability 1 − p.

    Parameters
    ----------
    key : Key
        With a share, the mask consists of the part's rows of the whole batch's mask, bit for bit.
    p : float
        Probability of False, rounded to a multiple of 2⁻²⁴.
    shape : tuple of int
        Shape of the mask; the first axis is the rows of the batch.

    Returns
    -------
    array of bool
        The same on every library, because integers are compared.
    """
    k0, k1 = _folded(key)
    drawn = dropout_mask(k0, k1, key.step, math.prod(shape), round(p * 2**24), key.first_word(shape))
    return array_namespace(k0).reshape(drawn, shape)


@dispatched
def dropout_mask(k0: Array, k1: Array, step: Array, n: int, threshold: int, first: int = 0) -> Array:
    """Return (bits >> 8) ≥ threshold for n words, beginning with word `first`: bool, (n,)."""
    return ((words(k0, k1, step, n, first) >> 8) & 0xFFFFFF) >= threshold


@dispatched
def words(k0: Array, k1: Array, step: Array, n: int, first: int = 0) -> Array:
    """Return n words, beginning with word `first`; words 2i and 2i + 1 are those of block i: (n,).

    The number of a block has 32 bits and wraps: word 2³³ is word 0 again.
    """
    xp = array_namespace(k0)
    start, skipped = divmod(first, 2)
    block = xp.arange((skipped + n + 1) // 2, dtype=k0.dtype, device=device_of(k0))
    if start:
        start %= 2**32  # added in parts that fit into every lane
        block = block + start // 2 + start // 2 + start % 2
    return xp.reshape(xp.stack(threefry2x32(k0, k1, block, step), axis=1), (-1,))[skipped : skipped + n]


def _folded(key: Key) -> tuple[Array, Array]:
    """The words of the key, combined with its path."""
    k0, k1 = key.words
    h0, h1 = path_words(key)
    return (k0 ^ h0, k1 ^ h1) if key.path else (k0, k1)


def path_words(key: Key) -> tuple[int, int]:
    """Return what the words of the key are combined with for its path, by xor; 0 without a path.

    31 bits each: a Python integer that fits into every lane (JAX without 64 bits does not accept larger ones).
    """
    if not key.path:
        return 0, 0
    h0, h1 = _digest(key.path)
    return h0 >> 1, h1 >> 1


def uniform(key: Key, shape: tuple[int, ...]) -> np.ndarray:
    """Draw from the uniform distribution on (0, 1), on the host: float64, the midpoints of 2³² equal cells.

    Examples
    --------
    >>> uniform(key(0, "init"), (2,)).round(6)
    array([0.411967, 0.753959])
    """
    drawn: Any = bits(key, shape)  # a NumPy array
    return (drawn.astype(np.float64) + 0.5) * 2.0**-32


def normal(key: Key, shape: tuple[int, ...]) -> np.ndarray:
    """Draw from the standard normal distribution, on the host: float64, by inversion of `uniform`, |z| < 6.4.

    Notes
    -----
    Only + − × ÷ √ are used, also for the logarithm. IEEE 754 rounds these alike everywhere, so the bits are the same on
    every machine; no math library promises this of `log` or `cos`.

    References
    ----------
    Wichura, "Algorithm AS 241: The percentage points of the normal distribution" (PPND16), 1988.

    Examples
    --------
    >>> normal(key(0, "init").child(0).child("weight"), (2,)).round(6)
    array([ 1.313774, -1.136547])
    """
    return normal_quantile(uniform(key, shape) - 0.5)


def truncated_normal(key: Key, shape: tuple[int, ...], cut: float) -> np.ndarray:
    """Draw from the standard normal distribution truncated to |z| < cut, on the host: float64, by inversion.

    A value of `uniform` is scaled to the probability between −cut and cut, so that no draw is rejected.
    """
    return normal_quantile(normal_probability(cut) * (uniform(key, shape) - 0.5))


def permutation(key: Key, n: int) -> np.ndarray:
    """Draw a permutation of 0 … n − 1, on the host: int32, (n,), by sorting 64 random bits per element.

    Examples
    --------
    >>> permutation(key(0, "shuffle").child(0), 8)
    array([0, 3, 1, 6, 7, 5, 4, 2], dtype=int32)
    """
    halves: Any = bits(key, (2, n), per_row=False)  # a NumPy array
    high, low = halves
    drawn = high.astype(np.uint64)
    drawn <<= np.uint64(32)
    drawn |= low
    order = np.argsort(drawn)  # six times as fast as a stable sort
    ascending = drawn[order]
    if np.any(
        ascending[1:] == ascending[:-1]
    ):  # once in 2⁶⁵/n² draws; the order of equal elements must not depend on NumPy
        order = np.argsort(drawn, kind="stable")
    return order.astype(np.int32)


@functools.cache
def _digest(what: str | tuple[str | int, ...]) -> tuple[int, int]:
    text = what if isinstance(what, str) else "/".join(map(str, what))
    raw = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(raw[:4], "little"), int.from_bytes(raw[4:], "little")


deprecated.attach(__name__)
