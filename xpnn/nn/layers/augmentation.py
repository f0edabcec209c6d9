"""Augmentation: images distorted anew each time they are learnt from, on the device, as a layer of the model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from xpnn.arrays import random
from xpnn.arrays.matmul import matmul
from xpnn.arrays.namespace import Array, Namespace, array_namespace, device_of
from xpnn.arrays.random import Key
from xpnn.errors import InputError
from xpnn.validation import as_float


class Sources(NamedTuple):
    """Where each pixel of y is read in x, counted in pixels of x: rows, columns, both of shape (batch, height, width).

    From −1 to height (or width): the places one step outside stand for all that is outside.
    """

    rows: Array
    columns: Array


@dataclass(frozen=True)
class RandomDistortion:
    """y(p) = x(A·(p − centre − t) + centre + d(p)) while training: images turned, sheared, scaled, moved and warped.

    degrees:   rotation, uniform in ±degrees, for each image
    translate: t, uniform in ±translate · (width, height), for each image
    scale:     (low, high), 0 < low ≤ high: magnification, uniform between them, for each image
    shear:     of the columns against the rows, uniform in ±shear degrees, below 90, for each image
    alpha:     d = alpha · (uniform noise in ±1, two numbers a pixel, smoothed by a Gaussian), in pixels; far from the
               edges its deviation is alpha / (√(12 π) · sigma)
    sigma:     the Gaussian's deviation, in pixels

    x and y are (batch, height, width), floats: bytes pass through `Scale(1 / 255)` first. All of it is one bilinear
    resampling, which blurs once; outside an image is 0. y = x in inference (no key), and where no field asks for more.
    A is the inverse of torchvision.transforms.RandomAffine's matrix, with the fields of its names (there `translate`
    is a pair, and rounded to pixels); d is that of its ElasticTransform with twice the alpha, but that noise outside
    the image is 0. Raises InputError for other shapes and for integers. Source: Simard, Steinkraus and Platt 2003.
    """

    accepts_integers: ClassVar[bool] = False

    degrees: float = 0.0
    translate: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    alpha: float = 0.0
    sigma: float = 4.0

    def __post_init__(self) -> None:
        for name in ("degrees", "translate", "shear", "alpha", "sigma"):
            object.__setattr__(self, name, as_float(f"RandomDistortion: {name}", getattr(self, name)))
        if not isinstance(self.scale, (tuple, list)) or len(self.scale) != 2:
            raise InputError(f"RandomDistortion: scale is {self.scale!r}; expected a pair (low, high)")
        object.__setattr__(self, "scale", tuple(as_float("RandomDistortion: scale", side) for side in self.scale))
        for name, wanted, fits in (
            ("degrees", "0 <= degrees <= 180", 0 <= self.degrees <= 180),
            ("translate", "0 <= translate <= 1, a share of the image", 0 <= self.translate <= 1),
            ("scale", "0 < low <= high", 0 < self.scale[0] <= self.scale[1] < math.inf),
            ("shear", "0 <= shear < 90", 0 <= self.shear < 90),
            ("alpha", "a number of pixels, at least 0", 0 <= self.alpha < math.inf),
            ("sigma", "a number of pixels above 0", 0 < self.sigma < math.inf),
        ):
            if not fits:
                raise InputError(f"RandomDistortion: {name} is {getattr(self, name)!r}; expected {wanted}")

    def init(self, key: Key) -> tuple[()]:
        return ()

    def forward(self, params: tuple[()], x: Array, *, key: Key | None = None) -> tuple[Array, Sources | None]:
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
        """dx: each pixel of dy given back to the four that it was read from."""
        if not need_dx:
            return None, ()
        return (dy if sources is None else spread(dy, sources)), ()

    def _is_affine(self) -> bool:
        return bool(self.degrees or self.translate or self.shear or self.scale != (1, 1))

    def _sources(self, xp: Namespace, x: Array, key: Key) -> Sources:
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
        # Rotation · shear · scale, inverted; what depends on a row or a column alone is computed for it alone.
        return (
            along * (-sin * shrink) + (up * (cos * shrink) + middle_row),
            along * ((cos - sin * slant) * shrink) + (up * ((cos * slant + sin) * shrink) + middle_column),
        )

    def _elastic(self, xp: Namespace, x: Array, key: Key) -> tuple[Array, Array]:
        """The displacements downwards and to the right, both (batch, height, width)."""
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
        """G[i, j] = exp(−(i − j)² / (2 sigma²)), divided by the sum of a row that meets no edge; (size, size)."""
        total = sum(math.exp(-((k / self.sigma) ** 2) / 2) for k in range(1 - size, size))
        away = (_count(xp, x, size, (size, 1)) - _count(xp, x, size, (1, size))) / self.sigma
        return xp.exp(away * away * -0.5) / total


def sample(x: Array, sources: Sources) -> Array:
    """y[b, p] = Σ_{r, c} hat(r − rows[b, p]) · hat(c − columns[b, p]) · x[b, r, c], hat(t) = max(0, 1 − |t|): bilinear.

    x: (batch, height, width) floats; y has the shape of the sources. Outside x is 0.
    """
    xp = array_namespace(x)
    rows, columns = sources
    batch, height, width = x.shape
    # Zeros around: one before, and two behind for the neighbours of the place `height`.
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
    """dx[b, r, c] = Σ_p hat(r − rows[b, p]) · hat(c − columns[b, p]) · dy[b, p], of dy's shape: what `sample` undoes.

    The sum over places is a product of matrices, because the standard cannot add into places that meet.
    """
    xp = array_namespace(dy)
    batch, height, width = dy.shape
    rows, columns = (xp.reshape(place, (batch, -1)) for place in sources)
    to_rows = _hat(xp, _count(xp, dy, height, (1, height, 1)) - rows[:, None, :])
    to_columns = _hat(xp, _count(xp, dy, width, (1, 1, width)) - columns[:, :, None])
    return xp.matmul(to_rows, to_columns * xp.reshape(dy, (batch, -1, 1)))


def _hat(xp: Namespace, t: Array) -> Array:
    near = 1 - xp.abs(t)
    return xp.where(near > 0, near, 0.0)


def _within(xp: Namespace, place: Array, size: int) -> Array:
    """−1 ≤ place ≤ size; what is no number becomes −1."""
    place = xp.where(place > -1, place, -1.0)
    return xp.where(place < size, place, float(size))


def _count(xp: Namespace, x: Array, size: int, shape: tuple[int, ...]) -> Array:
    """0 … size − 1 in this shape, with the dtype and on the device of x."""
    return xp.reshape(xp.arange(size, dtype=x.dtype, device=device_of(x)), shape)
