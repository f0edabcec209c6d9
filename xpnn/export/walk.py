"""The layers of a model one by one, with the names that torch gives to their places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xpnn.errors import InputError
from xpnn.nn.layers.activations import Identity
from xpnn.nn.layers.augmentation import RandomDistortion
from xpnn.nn.layers.containers import Residual, Sequential
from xpnn.nn.layers.dropout import Dropout
from xpnn.nn.layers.embedding import EmbedColumns, Embedding
from xpnn.nn.layers.preprocessing import Flatten, Standardize
from xpnn.nn.protocols import Layer, Params
from xpnn.nn.registry import LAYERS

#: Layers that do nothing after training.
NOTHING: tuple[type, ...] = (Dropout, Identity, RandomDistortion)
#: Layers that leave the dtype of their input as it is.
PASSES_ON: tuple[type, ...] = (*NOTHING, Flatten)
#: Layers that may get the data as they are, before the data have the dtype of the network.
TAKES_RAW: tuple[type, ...] = (*PASSES_ON, Standardize, Embedding)


def leaf_layers(model: Layer, params: Params, name: str = "") -> Iterator[tuple[str, Layer, Any]]:
    """Yield (name, layer, parameters) for each layer that contains no others, in the order of the parameters.

    Parameters
    ----------
    model : Layer
    params : Params
        Its parameters.
    name : str
        The place of the model; empty for the whole.

    Yields
    ------
    tuple
        The names are those of ``torch.nn.Sequential``: "0", "1", "2.0". The block of a `Residual` at place 3 is
        "3.block", and the tables of `EmbedColumns` are "3.embeddings.0" and so on.

    Examples
    --------
    >>> from xpnn import nn
    >>> from xpnn.arrays import random
    >>> model = nn.Sequential(nn.Flatten(), nn.Residual(nn.Sequential(nn.ReLU())))
    >>> [(name, type(layer).__name__) for name, layer, _ in leaf_layers(model, model.init(random.key(0, "init")))]
    [('0', 'Flatten'), ('1.block.0', 'ReLU')]
    """
    if isinstance(model, Sequential):
        for i, (layer, branch) in enumerate(zip(model.layers, params, strict=True)):
            yield from leaf_layers(layer, branch, joined(name, str(i)))
    elif isinstance(model, Residual):
        yield from leaf_layers(model.block, params, joined(name, "block"))
    elif isinstance(model, EmbedColumns):
        for i, (table, branch) in enumerate(zip(model.embeddings, params, strict=True)):
            yield joined(name, f"embeddings.{i}"), table, branch
    else:
        yield name, model, params


def joined(*parts: str) -> str:
    """Return names joined by dots, without the empty ones."""
    return ".".join(filter(None, parts))


def is_known(layer: Layer) -> bool:
    """Return whether the layer is one of `xpnn.nn`."""
    return type(layer) in LAYERS.values()


def unknown_layer(layer: Layer, name: str, form: str, hint: str) -> InputError:
    """Return the error for a layer that has no form in another format."""
    place = f"the layer {name}, {type(layer).__name__}," if name else f"the layer {type(layer).__name__}"
    return InputError(f"{place} has no {form}: only the layers of xpnn.nn have one; {hint}")
