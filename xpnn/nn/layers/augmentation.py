"""Augmentation: random distortions of images during training, on the device, as a layer of the model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from xpnn.arrays import random
from xpnn.arrays.matmul import matmul
from xpnn.arrays.namespace import Array, Namespace, array_namespace, device_of
from xpnn.arrays.random import Key
from xpnn.errors import InputError
from xpnn.validation import Problems, as_float


class Sources(NamedTuple):
    """The positions at which the pixels of y are read in x, in pixels: rows and columns, (batch, height, width) each.

    From −1 to height or width: these two stand for all positions outside the image.
    """

    rows: Array
    columns: Array


@dataclass(frozen=True)
class RandomDistortion:
    """Rotate, shear, scale, shift and warp images at random during training.

    Parameters
    ----------
    degrees : float
        Each image is rotated by an angle that is uniform in ±degrees, 0 ≤ degrees ≤ 180.
    translate : float
        Each image is shifted by t, uniform in ±translate · (width, height), 0 ≤ translate ≤ 1.
    scale : tuple of two floats
        Each image is magnified by a factor that is uniform in (low, high), 0 < low ≤ high.
    shear : float
        The columns of each image are sheared by an angle that is uniform in ±shear degrees, 0 ≤ shear < 90.
    alpha : float
        Strength of the elastic displacement d in pixels: alpha times uniform noise in ±1, two values per pixel,
        smoothed by a Gaussian. Far from the edges its standard deviation is alpha / (√(12 π) · sigma).
    sigma : float
        Standard deviation of that Gaussian in pixels, above 0.

    Raises
    ------
    InputError
        If a value is out of range. `forward` raises it if x has another shape or an integer dtype.

    Notes
    -----
    ::

        y(p) = x(A·(p − centre − t) + centre + d(p))

    x and y are floats, (batch, height, width); for bytes, put ``Scale(1 / 255)`` before this layer. There is one
    bilinear resampling, so that images are blurred only once; pixels outside an image are 0. In inference (without a
    key), and if all fields have their defaults, y is x.

    A is the inverse of the matrix of ``torchvision.transforms.RandomAffine``, whose fields have the same names (there
    `translate` is a pair, and shifts are rounded to pixels). d is that of its ``ElasticTransform`` with twice the
    alpha, except that noise outside the image is 0.

    References
    ----------
    Simard, Steinkraus and Platt, "Best practices for convolutional neural networks applied to visual document
    analysis", 2003.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import nn
    >>> from xpnn.arrays import random
    >>> layer, x = nn.RandomDistortion(degrees=10, translate=0.1), np.ones((2, 28, 28))
    >>> y, _ = layer.forward((), x, key=random.key(0, "dropout"))
    >>> y.shape, bool((y[0] != y[1]).any())
    ((2, 28, 28), True)
    >>> layer.forward((), x)[0] is x
    True
    """

    accepts_integers: ClassVar[bool] = False

    degrees: float = 0.0
    translate: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    alpha: float = 0.0
    sigma: float = 4.0

    def __post_init__(self) -> None:
        problems = Problems()
        for name in ("degrees", "translate", "shear", "alpha", "sigma"):
            with problems:
                object.__setattr__(self, name, as_float(f"RandomDistortion: {name}", getattr(self, name)))
        with problems:
            if not isinstance(self.scale, (tuple, list)) or len(self.scale) != 2:
                raise InputError(f"RandomDistortion: scale is {self.scale!r}; expected a pair (low, high)")
            object.__setattr__(self, "scale", tuple(as_float("RandomDistortion: scale", side) for side in self.scale))
        problems.raise_found()
        for name, wanted, fits in (
            ("degrees", "0 <= degrees <= 180", 0 <= self.degrees <= 180),
            ("translate", "0 <= translate <= 1, a share of the image", 0 <= self.translate <= 1),
            ("scale", "0 < low <= high", 0 < self.scale[0] <= self.scale[1] < math.inf),
            ("shear", "0 <= shear < 90", 0 <= self.shear < 90),
            ("alpha", "a number of pixels, at least 0", 0 <= self.alpha < math.inf),
            ("sigma", "a number of pixels above 0", 0 < self.sigma < math.inf),
        ):
            with problems:
                if not fits:
                    raise InputError(f"RandomDistortion: {name} is {getattr(self, name)!r}; expected {wanted}")
        problems.raise_found()

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Sources | None]:
        """Return (y, sources); sources is None if y is x."""
        xp = array_namespace(x)
        if x.ndim != 3 or not xp.isdtype(x.dtype, "real floating"):
            raise InputError(
                f"RandomDistortion: x is {x.dtype} of shape {tuple(x.shape)}; expected floats (batch, height, width). "
                "Bytes: put Scale(1 / 255) before it; rows: give the data as images, and put Flatten() after it"
            )
        if key is None or not (self._is_affine() or self.alpha):
            return x, None
        sources = self._sources(xp, x, key)
        return sample(x, sources), sources

    def backward(
        self, params: tuple[()], sources: Sources | None, dy: Array, *, need_dx: bool = True
    ) -> tuple[Array | None, tuple[()]]:
        """Return dx: each pixel of dy is added to the four pixels from which it was read."""
        if not need_dx:
            return None, ()
        return (dy if sources is None else spread(dy, sources)), ()

    def _is_affine(self) -> bool:
        """Whether there is an affine part."""
        return bool(self.degrees or self.translate or self.shear or self.scale != (1, 1))

    def _sources(self, xp: Namespace, x: Array, key: Key) -> Sources:
        """Draw the positions at which the images are read."""
        _, height, width = x.shape
        rows, columns = _count(xp, x, height, (1, height, 1)), _count(xp, x, width, (1, 1, width))
        if self._is_affine():
            rows, columns = self._affine(xp, rows, columns, x, key.child("affine"))
        if self.alpha:
            down, right = self._elastic(xp, x, key.child("elastic"))
            rows, columns = down + rows, right + columns
        return Sources(*(_within(xp, place, size) for place, size in ((rows, height), (columns, width))))

    def _affine(self, xp: Namespace, rows: Array, columns: Array, x: Array, key: Key) -> tuple[Array, Array]:
        """The sources of an affine map for each image, both (batch, height, width)."""
        batch, height, width = x.shape
        # 24 bits of a word become k · 2⁻²³ − 1, exact in every dtype.
        first, whole = key.share or (0, batch)  # the rows are on the second axis: those of the whole batch are drawn
        words = random.bits(key, (5, whole, 1, 1), per_row=False)[:, first : first + batch, ...]
        angle, magnify, slant, right, down = (
            xp.astype((words[i, ...] >> 8) & 0xFFFFFF, x.dtype) * 2.0**-23 - 1 for i in range(5)
        )
        low, high = self.scale
        shrink = 1 / ((low + high) / 2 + magnify * ((high - low) / 2))
        angle, slant = angle * math.radians(self.degrees), xp.tan(slant * math.radians(self.shear))
        cos, sin = xp.cos(angle), xp.sin(angle)
        middle_row, middle_column = (height - 1) / 2, (width - 1) / 2
        up = (rows - middle_row) - down * (self.translate * height)
        along = (columns - middle_column) - right * (self.translate * width)
        # Rotation · shear · scale, inverted; terms of a row or a column alone are computed once for it.
        return (
            along * (-sin * shrink) + (up * (cos * shrink) + middle_row),
            along * ((cos - sin * slant) * shrink) + (up * ((cos * slant + sin) * shrink) + middle_column),
        )

    def _elastic(self, xp: Namespace, x: Array, key: Key) -> tuple[Array, Array]:
        """The displacements downwards and to the right, (batch, height, width) each."""
        batch, height, width = x.shape
        words = random.bits(key, (batch, height, width))
        across, along = self._smoother(xp, x, width) * self.alpha, self._smoother(xp, x, height)
        fields = []
        for half in (words & 0xFFFF, (words >> 16) & 0xFFFF):  # k becomes (k + ½) · 2⁻¹⁵ − 1, exact in every dtype
            noise = xp.reshape(xp.astype(half, x.dtype) * 2.0**-15 + (2.0**-16 - 1), (batch * height, width))
            smooth = matmul(noise, across, exact=True)
            fields.append(matmul(along, xp.reshape(smooth, x.shape), exact=True))
        return fields[0], fields[1]

    def _smoother(self, xp: Namespace, x: Array, size: int) -> Array:
        """G[i, j] = exp(−(i − j)² / (2 sigma²)), divided by the sum of a row far from the edges; (size, size)."""
        total = sum(math.exp(-((k / self.sigma) ** 2) / 2) for k in range(1 - size, size))
        away = (_count(xp, x, size, (size, 1)) - _count(xp, x, size, (1, size))) / self.sigma
        return xp.exp(away * away * -0.5) / total


def sample(x: Array, sources: Sources) -> Array:
    """Read images at given positions by bilinear interpolation.

    Parameters
    ----------
    x : array of floats, (batch, height, width)
        Pixels outside are 0.
    sources : Sources
        The positions.

    Returns
    -------
    array, of the shape of the sources
        y[b, p] = Σ_{r, c} hat(r − rows[b, p]) · hat(c − columns[b, p]) · x[b, r, c], hat(t) = max(0, 1 − |t|).
    """
    xp = array_namespace(x)
    rows, columns = sources
    batch, height, width = x.shape
    # A border of zeros: one before, and two behind for the neighbours of position `height`.
    before, behind = (xp.zeros((batch, height, n), dtype=x.dtype, device=device_of(x)) for n in (1, 2))
    padded = xp.concat((before, x, behind), axis=2)
    above, below = (xp.zeros((batch, n, width + 3), dtype=x.dtype, device=device_of(x)) for n in (1, 2))
    flat = xp.reshape(xp.concat((above, padded, below), axis=1), (-1,))

    top, left = xp.floor(rows), xp.floor(columns)
    down, right = rows - top, columns - left
    stride = width + 3
    first = xp.arange(batch, dtype=xp.int32, device=device_of(x)) * (stride * (height + 3)) + (stride + 1)
    index = xp.astype(top, xp.int32) * stride + xp.astype(left, xp.int32) + xp.reshape(first, (batch, 1, 1))
    index = xp.reshape(index, (-1,))

    def corner(offset: int) -> Array:
        return xp.reshape(xp.take(flat, index + offset), rows.shape)

    upper, lower = corner(0), corner(stride)
    upper += right * (corner(1) - upper)
    lower += right * (corner(stride + 1) - lower)
    return upper + down * (lower - upper)


def spread(dy: Array, sources: Sources) -> Array:
    """Add each pixel of dy to the pixels from which `sample` read it: the transpose of `sample`.

    Parameters
    ----------
    dy : array of floats, (batch, height, width)
    sources : Sources
        The positions that `sample` was given.

    Returns
    -------
    array, (batch, height, width)
        dx[b, r, c] = Σ_p hat(r − rows[b, p]) · hat(c − columns[b, p]) · dy[b, p].

    Notes
    -----
    The sum over positions is a matrix product, because the array API standard has no scatter-add.
    """
    xp = array_namespace(dy)
    batch, height, width = dy.shape
    rows, columns = (xp.reshape(place, (batch, -1)) for place in sources)
    to_rows = _hat(xp, _count(xp, dy, height, (1, height, 1)) - rows[:, None, :])
    to_columns = _hat(xp, _count(xp, dy, width, (1, 1, width)) - columns[:, :, None])
    return matmul(to_rows, to_columns * xp.reshape(dy, (batch, -1, 1)), exact=True)


def _hat(xp: Namespace, t: Array) -> Array:
    """Return max(0, 1 − |t|)."""
    near = 1 - xp.abs(t)
    return xp.where(near > 0, near, 0.0)


def _within(xp: Namespace, place: Array, size: int) -> Array:
    """Clip positions to −1 … size; NaN becomes −1."""
    place = xp.where(place > -1, place, -1.0)
    return xp.where(place < size, place, float(size))


def _count(xp: Namespace, x: Array, size: int, shape: tuple[int, ...]) -> Array:
    """0 … size − 1 in this shape, with the dtype and on the device of x."""
    return xp.reshape(xp.arange(size, dtype=x.dtype, device=device_of(x)), shape)
