"""A model in one safetensors file: the parameters as tensors, and in the metadata the layers.

    metadata  config (the layers, JSON), about (facts of the caller, JSON), and what every file of xpnn has
    tensors   named by their path: layers.0.weight, layers.0.bias, …; weights are (in_features, out_features)

`xpnn.training.saving.tensor_file` describes what every file has.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.arrays import random, tree
from xpnn.errors import DataFormatError
from xpnn.nn.protocols import Layer, Params
from xpnn.nn.registry import from_config, to_config
from xpnn.training.saving.tensor_file import digest, read_tensors, write_tensors

_KIND = "xpnn"
_SMALL = 2**16  # a size that may be allocated without a comparison
_digest = digest  # the name under which tools that craft files have known it


def save_model(path: str | Path, model: Layer, params: Params, about: dict[str, Any] | None = None) -> None:
    """Save a model and its parameters to a safetensors file.

    The file is written atomically: an existing file is replaced only when the new one is complete.

    Parameters
    ----------
    path : str or Path
        The file.
    model : Layer
        The model, made of layers of `xpnn.nn`.
    params : Params
        Its parameters as NumPy arrays, for example `Trainer.snapshot`.
    about : dict, optional
        Facts to save with the parameters; values that JSON can represent.

    Raises
    ------
    InputError
        If a layer is not one of `xpnn.nn`.
    OSError
        If the file cannot be written.

    See Also
    --------
    load_model : Read the file.

    Examples
    --------
    >>> import tempfile
    >>> from xpnn import load_model, nn, save_model
    >>> from xpnn.arrays import random
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> params = model.init(random.key(0, "init"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(f"{folder}/model.safetensors", model, params, {"accuracy": 0.9})
    ...     loaded, params, about = load_model(f"{folder}/model.safetensors")
    >>> loaded == model, params[0].weight.shape, about
    (True, (2, 3), {'accuracy': 0.9})
    """
    config = to_config(model)
    tensors = {name: np.asarray(leaf) for name, leaf in tree.named(params, "layers")}
    fit_in(str(path), config, tensors)
    write_tensors(path, _KIND, {"config": json.dumps(config), "about": json.dumps(about or {})}, tensors)


def load_model(path: str | Path) -> tuple[Layer, Params, dict[str, Any]]:
    """Load a model from a file of `save_model`.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    model : Layer
        The model.
    params : Params
        Its parameters, as NumPy arrays. `Trainer.load` and the argument `params` of `Trainer` take them.
    about : dict
        The facts that were saved with them.

    Raises
    ------
    DataFormatError
        If the file is not a model of xpnn, is damaged, or has a newer format.
    OSError
        If the file cannot be read.

    See Also
    --------
    save_model : Write the file; with an example.
    """
    texts, tensors = read_tensors(path, _KIND)
    try:
        config, about = json.loads(texts["config"]), json.loads(texts["about"])
    except (KeyError, ValueError, RecursionError) as error:
        raise DataFormatError(f"{path}: its metadata is not what xpnn writes: {error}") from error
    if not isinstance(about, dict):
        raise DataFormatError(f"{path}: its metadata is not what xpnn writes: `about` is no object")
    try:
        return from_config(config), fit_in(str(path), config, tensors), about
    except DataFormatError as error:
        raise error if str(path) in str(error) else DataFormatError(f"{path}: {error}") from error


def fit_in(path: str, config: dict[str, Any], tensors: dict[str, np.ndarray]) -> Params:
    """Return the tensors in the structure of the parameters of the model that `config` describes.

    Raises DataFormatError, which names `path`, unless names, shapes and dtypes match. The sizes that the configuration
    states are not allocated before they are compared.
    """
    template = _template(path, config, sum(tensor.size for tensor in tensors.values()))
    expected = dict(tree.named(template, "layers"))
    if set(expected) != set(tensors):
        odd = ", ".join(sorted(set(expected) ^ set(tensors)))
        raise DataFormatError(f"{path}: the tensors do not match the layers; only in one of the two: {odd:.500}")
    for name, leaf in expected.items():
        tensor = tensors[name]
        if tensor.shape != leaf.shape or tensor.dtype.kind != "f":
            raise DataFormatError(
                f"{path}: {name} is {tensor.dtype} {tensor.shape}; expected floats of shape {leaf.shape}"
            )
        if not np.isfinite(tensor).all():
            raise DataFormatError(f"{path}: {name} contains a value that is not finite")
    return tree.rebuild(template, [tensors[name] for name in expected])


def _template(path: str, config: dict[str, Any], elements: int) -> Params:
    """The parameters of the model, all 0 or 1: their structure and shapes."""
    largest = _largest_size(config)
    if largest > max(elements, _SMALL):
        size = min(largest, 2**63)
        raise DataFormatError(f"{path}: its layers have a size of {size}, but its tensors have {elements} elements")
    try:
        return from_config(_undrawn(config)).init(random.key(0, "init"))
    except DataFormatError:
        raise
    except Exception as error:  # whatever layers do with odd values
        raise DataFormatError(f"{path}: its layers cannot be built: {type(error).__name__}: {error!s:.200}") from error


def _largest_size(config: Any) -> int:
    """The largest integer in a configuration: each size of a layer is an axis of a tensor."""
    if isinstance(config, (list, dict)):
        return max(map(_largest_size, config.values() if isinstance(config, dict) else config), default=0)
    return config if type(config) is int else 0


def _undrawn(config: Any) -> Any:
    """The configuration with initial weights of 0, which take no memory until they are written."""
    if isinstance(config, list):
        return [_undrawn(item) for item in config]
    if not isinstance(config, dict):
        return config
    return {name: "zeros" if name.endswith("_init") else _undrawn(item) for name, item in config.items()}
