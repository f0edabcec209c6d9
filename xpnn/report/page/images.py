"""Small pictures inside a page: samples, weights and large confusion matrices, as PNG in base64.

Weights and counts are one or two colours that are more or less opaque, so that they suit a light and a dark page.
"""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np

_POSITIVE, _NEGATIVE = (0, 114, 178), (213, 94, 0)  # blue and vermilion of Okabe and Ito
_STEPS = 48  # of opacity: more would not be seen, and would make the files larger
_LARGEST = 64  # pixels of the side of a sample
UNITS = 100


def is_image(shape: tuple[int, ...]) -> bool:
    """Return whether samples of this shape are images: (height, width), or (height, width, 3) in colour."""
    return len(shape) == 2 or (len(shape) == 3 and shape[-1] == 3)


def sample_picture(image: np.ndarray, low: float, high: float) -> str:
    """Return a sample as the address of a picture, dark for large values if it has no colours."""
    step = max(1, math.ceil(max(image.shape[:2]) / _LARGEST))
    values = (image[::step, ::step].astype(np.float64) - low) / ((high - low) or 1.0)
    if values.ndim == 2:
        values = np.repeat(1 - values[..., None], 3, axis=2)
    return _png(np.clip(np.rint(255 * values), 0, 255).astype(np.uint8))


def weight_picture(weight: np.ndarray, shape: tuple[int, ...]) -> tuple[str, int, int, int]:
    """Draw the weights of units as one picture of tiles, each scaled by the largest weight of its unit.

    Parameters
    ----------
    weight : ndarray of shape (inputs, units)
        Of many units, the 100 with the largest norms are drawn, in the order of their norms.
    shape : tuple of int
        The shape of an image; the mean over its colours is drawn.

    Returns
    -------
    address, width, height, units : tuple
        Of the picture, in pixels, and how many units it shows.
    """
    norms = np.linalg.norm(weight, axis=0)
    units = np.argsort(-norms, kind="stable")[:UNITS]
    tiles = weight.T[units].reshape(len(units), *shape)
    if tiles.ndim == 4:
        tiles = tiles.mean(axis=3)
    step = max(1, math.ceil(max(tiles.shape[1:]) / _LARGEST))
    tiles = tiles[:, ::step, ::step]
    tiles = tiles / np.maximum(np.abs(tiles).max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
    columns = min(len(units), 10)
    rows, (height, width) = math.ceil(len(units) / columns), tiles.shape[1:]
    sheet = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1))
    for i, tile in enumerate(tiles):
        top, left = (i // columns) * (height + 1), (i % columns) * (width + 1)
        sheet[top : top + height, left : left + width] = tile
    return signed_picture(sheet), sheet.shape[1], sheet.shape[0], len(units)


def signed_picture(values: np.ndarray) -> str:
    """Draw a matrix of values from −1 to 1: blue for positive ones, vermilion for negative ones."""
    pixels = np.zeros((*values.shape, 4), np.uint8)
    pixels[..., :3] = np.where((values >= 0)[..., None], _POSITIVE, _NEGATIVE)
    pixels[..., 3] = np.rint(np.rint(np.minimum(np.abs(values), 1) * _STEPS) * (255 / _STEPS))
    return _png(pixels)


def _png(pixels: np.ndarray) -> str:
    from matplotlib.image import imsave

    metadata: dict[str, Any] = {"Software": None}  # not the version of matplotlib
    content = io.BytesIO()
    imsave(content, np.ascontiguousarray(pixels), format="png", metadata=metadata)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
