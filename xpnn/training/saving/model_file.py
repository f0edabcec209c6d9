"""A model as one safetensors file: the weights, and in its metadata how to build the network around them.

    metadata  format, format_version, xpnn_version, config (the layers, JSON), about (the caller's facts, JSON), digest
    tensors   named by their place: layers.0.weight, layers.0.bias, …; weights are (in_features, out_features)

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
    """Write `model` and its `params` (NumPy, as `Trainer.snapshot` gives them) so that the file is whole or not there.

    about: facts to keep beside the weights, ready for JSON. Raises InputError for a layer that is not xpnn's, OSError.
    """
    # Always C order: safetensors 0.8.0 writes other arrays wrongly, without a word (safetensors/safetensors#825).
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
    _read(str(path), content)  # what cannot be read back is not saved, and an older file stays
    write_whole(path, content)


def load_model(path: str | Path) -> tuple[Layer, Params, dict[str, Any]]:
    """(model, params, about) from a file of `save_model`; params are NumPy arrays. Raises DataFormatError, OSError."""
    return _read(str(path), Path(path).read_bytes())


def _read(path: str, raw: bytes) -> tuple[Layer, Params, dict[str, Any]]:
    try:
        tensors = parse(raw)
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        metadata = header.get("__metadata__", {})
    except (SafetensorError, ValueError) as error:
        raise DataFormatError(f"{path} is not a whole safetensors file: {error}") from error
    if metadata.get("format") != "xpnn":
        raise DataFormatError(f"{path} holds no xpnn model (its metadata has no format 'xpnn')")
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
    """The tensors in the shape of the model's parameters."""
    try:
        template = model.init(random.key(0, "init"))
    except MemoryError as error:  # sizes that no tensor in the file has
        raise DataFormatError(f"{path}: its layers would not fit into memory ({error})") from error
    wanted = dict(tree.named(template, "layers"))
    if set(wanted) != set(tensors):
        odd = ", ".join(sorted(set(wanted) ^ set(tensors)))
        raise DataFormatError(f"{path}: the tensors do not match the layers; only on one side: {odd}")
    for name, leaf in wanted.items():
        if tensors[name].shape != leaf.shape or tensors[name].dtype.kind != "f":
            raise DataFormatError(
                f"{path}: {name} is {tensors[name].dtype} {tensors[name].shape}; expected floats of shape {leaf.shape}"
            )
    return tree.rebuild(template, [tensors[name] for name in wanted])


def _digest(metadata: dict[str, str], tensors: dict[str, np.ndarray]) -> str:
    sha = hashlib.sha256()
    for name, text in sorted(metadata.items()):
        sha.update(f"{name}={text}\n".encode())
    for name, array in sorted(tensors.items()):
        sha.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
        sha.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return sha.hexdigest()
