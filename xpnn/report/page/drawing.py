"""A network of images as plain data, for the field in which a visitor draws: see `files/draw.js`."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from xpnn.arrays import tree
from xpnn.experiments.saved_run import SavedRun
from xpnn.export.pipeline import Pipeline, precise_mean
from xpnn.export.walk import NOTHING
from xpnn.nn.layers import activations, containers, linear, normalization, preprocessing, softmax

_AS_FLOAT32, _AS_FLOAT16 = 400_000, 2_000_000  # weights, at most
_DIGITS = tuple("0123456789")

#: The layers that draw.js computes, with the fields that it needs.
_FIELDS: dict[type, tuple[str, ...]] = {
    activations.ELU: ("alpha",),
    activations.GELU: ("approximate",),
    activations.LeakyReLU: ("negative_slope",),
    activations.ReLU: (),
    activations.SiLU: (),
    activations.Sigmoid: (),
    activations.Softplus: ("beta",),
    activations.Tanh: (),
    linear.Linear: (),
    normalization.BatchNorm1d: ("eps",),
    normalization.LayerNorm: ("eps",),
    normalization.RMSNorm: ("eps",),
    preprocessing.Flatten: (),
    preprocessing.Scale: (),
    preprocessing.SmoothClip: ("limit",),
    preprocessing.Standardize: (),
    softmax.LogSoftmax: (),
    softmax.Softmax: (),
}


def drawable(saved: SavedRun) -> bool:
    """Return whether the network reads digits that a visitor can draw: gray images, and classes from 0 to 9."""
    return len(saved.input_shape) == 2 and saved.classes == _DIGITS


def drawn_network(saved: SavedRun, images: np.ndarray) -> tuple[dict[str, Any] | None, str]:
    """Describe a network for the page.

    Parameters
    ----------
    saved : SavedRun
        For which `drawable` is true.
    images : ndarray of shape (rows, height, width)
        Images as in the training: what is drawn gets their range, and is inverted if their background is bright.

    Returns
    -------
    data : dict or None
        The layers with their weights in base64; None if the page cannot compute it.
    remark : str
        Why there is none, or how the weights were rounded; may be empty.
    """
    count = sum(np.asarray(leaf).size for leaf in tree.leaves(tree.trained(saved.params)))
    if count > _AS_FLOAT16:
        return None, (
            f"The network has {count:,} weights, which would make the page too large (at most {_AS_FLOAT16:,}), so "
            "that there is no field to draw a digit in."
        )
    kind = np.dtype("<f4" if count <= _AS_FLOAT32 else "<f2")
    layers: list[dict[str, Any]] = []
    unknown = _describe(saved.model, saved.params, kind, layers)
    if unknown is not None:
        return None, f"The page cannot compute the layer {unknown}, so that there is no field to draw a digit in."
    largest = float(images.max())
    data = {
        "shape": list(saved.input_shape),
        "largest": largest,
        "inverted": bool(np.concatenate([images[:, 0], images[:, -1]]).mean() > largest / 2),
        "classes": list(saved.classes),
        "outputs": Pipeline.of(saved).outputs,
        "bits": 8 * kind.itemsize,
        "layers": layers,
    }
    return data, "" if kind.itemsize == 4 else f"For the page, the {count:,} weights are rounded to 16 bits."


def _describe(layer: Any, params: Any, kind: np.dtype[Any], found: list[dict[str, Any]]) -> str | None:
    """Append a layer to `found`; return the name of one that the page cannot compute."""
    if isinstance(layer, containers.Sequential):
        for inside, branch in zip(layer.layers, params, strict=True):
            unknown = _describe(inside, branch, kind, found)
            if unknown is not None:
                return unknown
    elif isinstance(layer, containers.Residual):
        block: list[dict[str, Any]] = []
        found.append({"type": "Residual", "layers": block})
        return _describe(layer.block, params, kind, block)
    elif type(layer) in _FIELDS:
        arrays = dict(tree.named(params))
        if isinstance(layer, preprocessing.Standardize):
            arrays["mean"] = precise_mean(arrays["mean"], layer.mean)
        fields = {field: getattr(layer, field) for field in _FIELDS[type(layer)]}
        found.append({"type": type(layer).__name__, **fields, "w": {k: _packed(v, kind) for k, v in arrays.items()}})
    elif not isinstance(layer, NOTHING):
        return type(layer).__name__
    return None


def _packed(array: Any, kind: np.dtype[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array, kind).tobytes()).decode()
