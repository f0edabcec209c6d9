"""Checks of a network before its first weight is drawn: do the layers fit each other, and does the memory suffice?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpnn.devices.memory import free_host_bytes, in_words
from xpnn.errors import DeviceMemoryError, InputError
from xpnn.nn import traits
from xpnn.validation import Problems

_ASKED_FROM = 2**24  # weights; the free memory is asked for from here on, which takes some tenths of a millisecond
_BYTES = 8  # of a weight: `init` draws in float64


def features_through(layers: Sequence[Any]) -> tuple[int | None, int | str | None]:
    """Follow the number of features through consecutive layers.

    Parameters
    ----------
    layers : sequence of Layer

    Returns
    -------
    features_in : int or None
        How many the first layer that states it takes, if those before it keep the number.
    features_out : int, "same" or None
        How many the last layer gives; "same" if all layers keep the number; None if it is not known.

    Raises
    ------
    InputError
        If a layer takes another number than the layer before it gives. The message names both, for all such pairs.
    """
    problems = Problems()
    first: int | None = None
    number: int | str | None = "same"
    source = ""
    for i, layer in enumerate(layers):
        takes, gives = traits.features_in(layer), traits.features_out(layer)
        if takes is not None:
            with problems:
                if isinstance(number, int) and number != takes:
                    what = f"layer {i}, {described(layer)}, takes {takes} features"
                    raise InputError(f"Sequential: {what}, but {source} gives {number}")
            if number == "same":
                first = takes
        if gives != "same":
            number, source = gives, f"layer {i}, {described(layer)},"
        elif takes is not None:
            number, source = takes, f"layer {i}, {described(layer)},"
    problems.raise_found()
    return first, number


def described(layer: Any) -> str:
    """Return a layer in short: its name and its numbers of features, as "Linear(9, 2)"."""
    sizes = [size for size in (traits.features_in(layer), traits.features_out(layer)) if isinstance(size, int)]
    return f"{type(layer).__name__}({', '.join(map(str, sizes))})" if sizes else type(layer).__name__


def ensure_weights_fit(layer: Any) -> None:
    """Raise DeviceMemoryError if the host has not enough memory for the weights that `layer.init` would draw.

    Parameters
    ----------
    layer : Layer
    """
    count = traits.weight_count(layer)
    if count < _ASKED_FROM:
        return
    free, wanted = free_host_bytes(), _BYTES * count
    if free is not None and wanted > free:
        raise DeviceMemoryError(
            f"{described(layer)}: {count:,} weights take {in_words(wanted)} of memory, of which {in_words(free)} are "
            "free; make the layers smaller"
        )
