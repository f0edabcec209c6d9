"""Conversion of layers and other parts to plain data and back, for saved models and checkpoints.

A file can only name classes in a fixed table, not import paths: loading a model does not run code from the file. Each
field is compared with its annotation, because a frozen dataclass would accept anything.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Mapping
from typing import Any, TypeAlias

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
from xpnn.validation import has_type

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
Types: TypeAlias = Mapping[str, type]  # the classes that a file may name
_TYPES: Types = {**LAYERS, **{initializer.__name__: initializer for initializer in KINDS}}


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
    return dict(encode(layer, _TYPES))


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
    layer = decode(config, _TYPES)
    if type(layer) not in LAYERS.values():
        raise DataFormatError(f"the configuration describes a {type(layer).__name__}, not a layer")
    return layer


def encode(value: Any, known: Types) -> Any:
    """Return a value as plain data: a dataclass of a class in `known`, a tuple of such values, a number or a text.

    Raises InputError for anything else.
    """
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if isinstance(value, tuple):
        return [encode(item, known) for item in value]
    name = type(value).__name__
    if not dataclasses.is_dataclass(value) or known.get(name) is not type(value):
        raise InputError(f"{name} cannot be saved: only the layers and initializers of xpnn can ({', '.join(LAYERS)})")
    fields = [field.name for field in dataclasses.fields(value) if field.compare]  # the rest is derived
    return {"type": name, **{field: encode(getattr(value, field), known) for field in fields}}


def decode(value: Any, known: Types) -> Any:
    """Undo `encode`.

    Raises DataFormatError if the data, which may come from any file, do not describe something of these classes.
    """
    try:
        return _decode(value, known)
    except DataFormatError:
        raise
    except RecursionError as error:
        raise DataFormatError("the configuration is nested too deeply") from error
    except Exception as error:  # whatever a constructor does with odd values
        raise DataFormatError(f"the configuration cannot be used: {type(error).__name__}: {error!s:.200}") from error


def _decode(value: Any, known: Types) -> Any:
    if isinstance(value, list):
        return tuple(_decode(item, known) for item in value)
    if not isinstance(value, dict):
        return value
    name = value.get("type")
    if not isinstance(name, str) or name not in known:
        raise DataFormatError(f"the configuration names the layer {name!r:.80}; expected one of {', '.join(known)}")
    fields = {field: _decode(item, known) for field, item in value.items() if field != "type"}
    for field, hint in _hints(known[name]).items():
        if field in fields and not has_type(fields[field], hint):
            raise DataFormatError(
                f"the configuration of the layer {name} does not fit: {field} is {fields[field]!r:.80}"
            )
    try:
        return Sequential(*fields["layers"]) if name == "Sequential" else known[name](**fields)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise DataFormatError(f"the configuration of the layer {name} does not fit: {error!s:.200}") from error


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)
