"""Random numbers as pure functions: the same bits on every array library, with no state to keep or to lose.

The generator is Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy
as 1, 2, 3", 2011), written in the standard's integer operations. Every number is a function of what it is for:

    key      two 32-bit words from (seed, purpose), xor 2 · 31 bits from the layer's place in the model
    counter  (block, global step)
    output   words 2·block and 2·block + 1 of the array, in row-major order

Lanes are `uint32`; `int32` where the library is torch, whose uint32 lacks addition and shifts on the CPU. Both wrap.
"""

from __future__ import annotations

import functools
import hashlib
import math
from typing import NamedTuple

import numpy as np

from xpnn import deprecated
from xpnn.arrays.dispatch import dispatched
from xpnn.arrays.namespace import Array, array_namespace, device_of
from xpnn.errors import InputError

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


class Key(NamedTuple):
    """What a random number is for. `child` costs nothing: the path is folded into the words only when bits are drawn.

    words: two arrays of shape (1,) (0-d `uint32` values would become NumPy scalars, which warn where they wrap)
    step:  the second counter word, shape (1,)
    path:  the place in the model, e.g. (0, "weight")
    share: (first row, rows of the whole batch) if draws are for a part of a batch, else None; static integers
    """

    words: tuple[Array, Array]
    step: Array
    path: tuple[str | int, ...] = ()
    share: tuple[int, int] | None = None

    def child(self, name: str | int) -> Key:
        """The key of the part called `name`; it keeps the share."""
        return self._replace(path=(*self.path, name))

    def first_word(self, shape: tuple[int, ...]) -> int:
        """The word at which a row-by-row draw of `shape` begins, rows on the first axis: 0 without a share."""
        return 0 if self.share is None else self.share[0] * math.prod(shape[1:])


def key(seed: int, purpose: str) -> Key:
    """The host's key for `purpose` ("init", "shuffle", "dropout", …) under `seed`, an integer in 0 … 2⁶⁴ − 1."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64:
        raise InputError(f"seed: {seed!r} is not an integer from 0 to 2**64 - 1")
    k0, k1 = (np.asarray([word], dtype=np.uint32) for word in _digest(f"{seed}/{purpose}"))
    return Key((k0, k1), np.zeros(1, dtype=np.uint32))


def lanes(words: np.ndarray, dtype: str) -> np.ndarray:
    """The same 32 bits in the integer dtype in which a library computes them; `words` are `uint32`, on the host."""
    return words.view(dtype)


def threefry2x32(k0: Array, k1: Array, x0: Array, x1: Array) -> tuple[Array, Array]:
    """Two words of Threefry-2x32-20 for each counter (x0, x1) under the key (k0, k1): 32-bit lanes that broadcast."""
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
    """32 random bits an element, in the lanes and on the device of the key; array of `shape`.

    With `key.share` they are rows of the whole batch's draw, bit for bit. With per_row=False the first axis is not
    that of the batch's rows, and the share is ignored.
    """
    k0, k1 = _folded(key)
    first = key.first_word(shape) if per_row else 0
    return array_namespace(k0).reshape(words(k0, k1, key.step, math.prod(shape), first), shape)


def keep_mask(key: Key, p: float, shape: tuple[int, ...]) -> Array:
    """True with probability 1 − p, compared as integers so that every library draws the same mask: bool of `shape`.

    With `key.share` the mask is that of these rows of the whole batch, bit for bit.
    """
    k0, k1 = _folded(key)
    drawn = dropout_mask(k0, k1, key.step, math.prod(shape), round(p * 2**24), key.first_word(shape))
    return array_namespace(k0).reshape(drawn, shape)


@dispatched
def dropout_mask(k0: Array, k1: Array, step: Array, n: int, threshold: int, first: int = 0) -> Array:
    """(bits >> 8) ≥ threshold, for each of n words from word `first` on: bool (n,)."""
    return ((words(k0, k1, step, n, first) >> 8) & 0xFFFFFF) >= threshold


@dispatched
def words(k0: Array, k1: Array, step: Array, n: int, first: int = 0) -> Array:
    """Words 2i and 2i + 1 of each block i, n of them in all, from word `first` on: (n,).

    The number of a block is 32 bits and wraps: words beyond 2³³ repeat the first ones.
    """
    xp = array_namespace(k0)
    start, skipped = divmod(first, 2)
    block = xp.arange((skipped + n + 1) // 2, dtype=k0.dtype, device=device_of(k0))
    if start:
        start %= 2**32  # added in parts that fit into every lane
        block = block + start // 2 + start // 2 + start % 2
    return xp.reshape(xp.stack(threefry2x32(k0, k1, block, step), axis=1), (-1,))[skipped : skipped + n]


def _folded(key: Key) -> tuple[Array, Array]:
    """The words of the key, with its path in them."""
    k0, k1 = key.words
    h0, h1 = path_words(key)
    return (k0 ^ h0, k1 ^ h1) if key.path else (k0, k1)


def path_words(key: Key) -> tuple[int, int]:
    """What the path turns in the words of the key, 0 for no path.

    31 bits of each: a Python number that fits every lane (JAX without 64 bits takes no larger one).
    """
    if not key.path:
        return 0, 0
    h0, h1 = _digest(key.path)
    return h0 >> 1, h1 >> 1


def uniform(key: Key, shape: tuple[int, ...]) -> np.ndarray:
    """float64 in (0, 1), the middles of 2³² equal cells; on the host."""
    return (bits(key, shape).astype(np.float64) + 0.5) * 2.0**-32


def normal(key: Key, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal float64 by inversion of `uniform`, |z| < 6.4; on the host.

    Only + − × ÷ √ are used, the logarithm included, and IEEE 754 rounds those alike everywhere: the same bits on every
    machine, which no math library's `log` or `cos` promises. Source: Wichura, algorithm AS 241 (PPND16), 1988.
    """
    return _quantile(uniform(key, shape) - 0.5)


def truncated_normal(key: Key, shape: tuple[int, ...], cut: float) -> np.ndarray:
    """Standard normal float64 on condition that |z| < cut, by the same inversion; on the host.

    A number of `uniform` picks a share of the probability between −cut and cut: one draw a value, none thrown away.
    """
    return _quantile(_within(cut) * (uniform(key, shape) - 0.5))


def permutation(key: Key, n: int) -> np.ndarray:
    """0 … n−1 in an order drawn by `key`, by sorting 64 random bits each; int32 of shape (n,), on the host."""
    high, low = bits(key, (2, n), per_row=False)
    drawn = high.astype(np.uint64)
    drawn <<= np.uint64(32)
    drawn |= low
    order = np.argsort(drawn)  # six times as fast as a stable sort
    ascending = drawn[order]
    if np.any(ascending[1:] == ascending[:-1]):  # once in 2⁶⁵/n² draws; the order of equals must not depend on NumPy
        order = np.argsort(drawn, kind="stable")
    return order.astype(np.int32)


@functools.cache
def _digest(what: str | tuple[str | int, ...]) -> tuple[int, int]:
    text = what if isinstance(what, str) else "/".join(map(str, what))
    raw = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(raw[:4], "little"), int.from_bytes(raw[4:], "little")


def _quantile(q: np.ndarray) -> np.ndarray:
    """The z that a standard normal stays below with probability ½ + q, for |q| ≤ ½ − 2⁻³³."""
    r = 0.180625 - q * q
    central = q * _ratio(r, _CENTRAL)
    r = np.sqrt(-_log(0.5 - np.abs(q)))
    tail = _ratio(r - 1.6, _TAIL)  # r < 4.8: the algorithm's third part begins at 5, beyond what 32 bits can reach
    return np.where(np.abs(q) <= 0.425, central, np.where(q < 0, -tail, tail))


def _within(cut: float) -> float:
    """The probability of |z| < cut for a standard normal z: √(2/π) · Σ cut²ᵏ⁺¹/(2k+1)!! / Σ (cut²/2)ᵏ/k!.

    The second sum is e^(cut²/2) without a math library; all terms are positive, so nothing cancels.
    """
    cut = min(cut, 9.0)  # beyond, the probability is 1 to the last bit
    square, above, below = cut * cut, 0.0, 0.0
    odd, even, k = cut, 1.0, 0
    while above + odd > above or below + even > below:
        above, below, k = above + odd, below + even, k + 1
        odd, even = odd * square / (2 * k + 1), even * square / (2 * k)
    return min(0.7978845608028654 * above / below, 1.0)  # √(2/π)


def _log(x: np.ndarray) -> np.ndarray:
    """Natural logarithm to about 1e-15 by log x = e·log 2 + 2·artanh((m − 1)/(m + 1)), with x = m·2ᵉ, m near 1."""
    m, e = np.frexp(x)
    m, e = np.where(m < 0.75, 2 * m, m), np.where(m < 0.75, e - 1, e)  # 0.75 ≤ m < 1.5
    s = (m - 1) / (m + 1)  # −1/7 … 1/5, so 13 terms reach the last bit
    square, series = s * s, np.zeros_like(s)
    for k in range(25, 0, -2):
        series = series * square + 1 / k
    return e * 0.6931471805599453 + 2 * s * series


def _ratio(r: np.ndarray, coefficients: tuple[tuple[float, ...], tuple[float, ...]]) -> np.ndarray:
    above, below = (np.polyval(row, r) for row in coefficients)
    return above / below


# AS 241, highest power first: numerator, denominator.
_CENTRAL = (
    (
        2509.0809287301226727,
        33430.575583588128105,
        67265.770927008700853,
        45921.953931549871457,
        13731.693765509461125,
        1971.5909503065514427,
        133.14166789178437745,
        3.387132872796366608,
    ),
    (
        5226.495278852854561,
        28729.085735721942674,
        39307.89580009271061,
        21213.794301586595867,
        5394.1960214247511077,
        687.1870074920579083,
        42.313330701600911252,
        1.0,
    ),
)
_TAIL = (
    (
        7.7454501427834140764e-4,
        2.27238449892691845833e-2,
        2.4178072517745061177e-1,
        1.27045825245236838258e0,
        3.64784832476320460504e0,
        5.7694972214606914055e0,
        4.6303378461565452959e0,
        1.42343711074968357734e0,
    ),
    (
        1.05075007164441684324e-9,
        5.475938084995344946e-4,
        1.51986665636164571966e-2,
        1.4810397642748007459e-1,
        6.8976733498510000455e-1,
        1.6763848301838038494e0,
        2.05319162663775882187e0,
        1.0,
    ),
)


deprecated.attach(__name__)
