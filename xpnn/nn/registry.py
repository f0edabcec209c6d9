"""Conversion of layers to plain data and back, for saved models.

A file can only name layers in a fixed table, not import paths: loading a model does not run code from the file.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from xpnn.errors import DataFormatError, InputError
from xpnn.nn.initializers import KINDS
from xpnn.nn.layers.activations import ACTIVATIONS
from xpnn.nn.layers.augmentation import RandomDistortion
from xpnn.nn.layers.containers import Residual, Sequential
from xpnn.nn.layers.dropout import Dropout
from xpnn.nn.layers.embedding import EmbedColumns, Embedding
from xpnn.nn.layers.linear import Linear
from xpnn.nn.layers.normalization import BatchNorm1d, LayerNorm, RMSNorm
from xpnn.nn.layers.preprocessing import Flatten, Scale, SmoothClip, Standardize, Unstandardize
from xpnn.nn.layers.softmax import LogSoftmax, Softmax
from xpnn.nn.protocols import Layer

_OTHERS = (
    BatchNorm1d,
    Dropout,
    EmbedColumns,
    Embedding,
    Flatten,
    LayerNorm,
    Linear,
    LogSoftmax,
    RMSNorm,
    RandomDistortion,
    Residual,
    Scale,
    Sequential,
    SmoothClip,
    Softmax,
    Standardize,
    Unstandardize,
)
LAYERS: dict[str, type] = {layer.__name__: layer for layer in (*ACTIVATIONS.values(), *_OTHERS)}
_TYPES = {**LAYERS, **{initializer.__name__: initializer for initializer in KINDS}}


def to_config(layer: Layer) -> dict[str, Any]:
    """Describe a layer as plain data.

    Parameters
    ----------
    layer : Layer

    Returns
    -------
    dict
        {"type": name, field: value, …}, which JSON can represent.

    Raises
    ------
    InputError
        If the layer, or a part of it, is not in the table `LAYERS`.

    Examples
    --------
    >>> from xpnn import nn
    >>> to_config(nn.Sequential(nn.Flatten(), nn.LeakyReLU(0.1)))
    {'type': 'Sequential', 'layers': [{'type': 'Flatten'}, {'type': 'LeakyReLU', 'negative_slope': 0.1}]}
    """
    return dict(_encode(layer))


def from_config(config: dict[str, Any]) -> Layer:
    """Build the layer that `to_config` described.

    Parameters
    ----------
    config : dict

    Returns
    -------
    Layer

    Raises
    ------
    DataFormatError
        If `config` does not describe a layer.

    Examples
    --------
    >>> from_config({"type": "LeakyReLU", "negative_slope": 0.1})
    LeakyReLU(negative_slope=0.1)
    """
    try:
        layer = _decode(config)
    except RecursionError as error:
        raise DataFormatError("the configuration is nested too deeply") from error
    if type(layer) not in LAYERS.values():
        raise DataFormatError(f"the configuration describes a {type(layer).__name__}, not a layer")
    return layer


def _encode(value: Any) -> Any:
    """Return a field of a layer, or a layer, as plain data."""
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    name = type(value).__name__
    if not dataclasses.is_dataclass(value) or _TYPES.get(name) is not type(value):
        raise InputError(f"{name} cannot be saved: only the layers and initializers of xpnn can ({', '.join(LAYERS)})")
    fields = [field.name for field in dataclasses.fields(value) if field.compare]  # the rest is derived
    return {"type": name, **{field: _encode(getattr(value, field)) for field in fields}}


def _decode(value: Any) -> Any:
    """Undo `_encode`."""
    if isinstance(value, list):
        return tuple(_decode(item) for item in value)
    if not isinstance(value, dict):
        return value
    name = value.get("type")
    if not isinstance(name, str) or name not in _TYPES:
        raise DataFormatError(f"the configuration names the layer {name!r}; expected one of {', '.join(LAYERS)}")
    fields = {field: _decode(item) for field, item in value.items() if field != "type"}
    try:
        return Sequential(*fields["layers"]) if name == "Sequential" else _TYPES[name](**fields)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise DataFormatError(f"the configuration of the layer {name} does not fit: {error}") from error
