"""A model in one safetensors file: the parameters as tensors, and in the metadata the layers.

    metadata  format, format_version, xpnn_version, config (the layers, JSON), about (facts of the caller, JSON), digest
    tensors   named by their path: layers.0.weight, layers.0.bias, …; weights are (in_features, out_features)

The digest is a SHA-256 of everything else, because safetensors has no checksum: a flipped bit would load silently.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse
from safetensors.numpy import save as serialize

from xpnn.arrays import random, tree
from xpnn.errors import DataFormatError
from xpnn.nn.protocols import Layer, Params
from xpnn.nn.registry import from_config, to_config
from xpnn.training.saving.atomic_write import write_whole
from xpnn.version import __version__

FORMAT_VERSION = 1


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
    # Always C order: safetensors 0.8.0 silently writes other arrays wrongly (safetensors/safetensors#825).
    tensors = {
        name: np.array(leaf, dtype=np.asarray(leaf).dtype.newbyteorder("="), order="C")
        for name, leaf in tree.named(params, "layers")
    }
    metadata = {
        "format": "xpnn",
        "format_version": str(FORMAT_VERSION),
        "xpnn_version": __version__,
        "config": json.dumps(to_config(model)),
        "about": json.dumps(about or {}),
    }
    metadata["digest"] = _digest(metadata, tensors)
    content = serialize(tensors, metadata=metadata)
    _read(str(path), content)  # raises if it cannot be read back; an existing file is then unchanged
    write_whole(path, content)


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
    return _read(str(path), Path(path).read_bytes())


def _read(path: str, raw: bytes) -> tuple[Layer, Params, dict[str, Any]]:
    try:
        tensors = parse(raw)
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        metadata = header.get("__metadata__", {})
    except (SafetensorError, ValueError) as error:
        raise DataFormatError(f"{path} is not a complete safetensors file: {error}") from error
    if metadata.get("format") != "xpnn":
        raise DataFormatError(f"{path} does not contain an xpnn model (its metadata has no format 'xpnn')")
    if metadata.get("format_version") != str(FORMAT_VERSION):
        raise DataFormatError(
            f"{path} has format {metadata.get('format_version')}; this xpnn reads format {FORMAT_VERSION}: "
            f"use xpnn {metadata.get('xpnn_version')} or newer"
        )
    digest = metadata.pop("digest", None)
    if digest != _digest(metadata, tensors):
        raise DataFormatError(f"{path} is damaged: its digest does not match its content; restore it or train again")
    try:
        config, about = json.loads(metadata["config"]), json.loads(metadata["about"])
    except (KeyError, ValueError, RecursionError) as error:
        raise DataFormatError(f"{path}: its metadata is not what xpnn writes: {error}") from error
    model = from_config(config)
    return model, _fit_in(path, model, tensors), about


def _fit_in(path: str, model: Layer, tensors: dict[str, np.ndarray]) -> Params:
    """The tensors in the structure of the model's parameters."""
    try:
        template = model.init(random.key(0, "init"))
    except MemoryError as error:  # the config states sizes that the tensors do not have
        raise DataFormatError(f"{path}: its layers would not fit into memory ({error})") from error
    expected = dict(tree.named(template, "layers"))
    if set(expected) != set(tensors):
        odd = ", ".join(sorted(set(expected) ^ set(tensors)))
        raise DataFormatError(f"{path}: the tensors do not match the layers; only in one of the two: {odd}")
    for name, leaf in expected.items():
        if tensors[name].shape != leaf.shape or tensors[name].dtype.kind != "f":
            raise DataFormatError(
                f"{path}: {name} is {tensors[name].dtype} {tensors[name].shape}; expected floats of shape {leaf.shape}"
            )
    return tree.rebuild(template, [tensors[name] for name in expected])


def _digest(metadata: dict[str, str], tensors: dict[str, np.ndarray]) -> str:
    sha = hashlib.sha256()
    for name, text in sorted(metadata.items()):
        sha.update(f"{name}={text}\n".encode())
    for name, array in sorted(tensors.items()):
        sha.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
        sha.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return sha.hexdigest()
