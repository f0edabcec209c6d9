"""Tensors and texts in one safetensors file, with digests.

    metadata  format, format_version, xpnn_version, the caller's texts, digests (of each tensor, JSON), digest (of all)
    tensors   named by their path, for example layers.0.weight

safetensors has no checksum: a flipped bit would load without an error. The digest of all is a SHA-256 of everything
else in the file. The digests of the tensors are there to say which of them is damaged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse
from safetensors.numpy import save as serialize

from xpnn.errors import DataFormatError
from xpnn.training.saving.atomic_write import write_whole
from xpnn.version import __version__

FORMAT_VERSION = 1
#: What `format` says, and what such a file contains.
FORMATS = {"xpnn": "a model", "xpnn-checkpoint": "a checkpoint of a training"}
_HEADER_BYTES = 100 * 2**20  # the limit of safetensors itself
_OWN = ("format", "format_version", "xpnn_version", "digests", "digest")
_DTYPES = ("BOOL", "U8", "I8", "U16", "I16", "F16", "U32", "I32", "F32", "U64", "I64", "F64")


def write_tensors(path: str | Path, kind: str, texts: Mapping[str, str], tensors: Mapping[str, Any]) -> None:
    """Write a file atomically, and read it back before it replaces an existing one.

    Parameters
    ----------
    path : str or Path
        The file.
    kind : str
        One of `FORMATS`.
    texts : dict of str
        Further metadata.
    tensors : dict of arrays
        NumPy arrays.

    Raises
    ------
    SaveError
        If the file cannot be written; an existing file is then unchanged.
    """
    write_whole(path, to_bytes(str(path), kind, texts, tensors))


def to_bytes(path: str, kind: str, texts: Mapping[str, str], tensors: Mapping[str, Any]) -> bytes:
    """Return the content of the file, which has been read back; `path` is for messages only."""
    arrays = _in_c_order(tensors)
    metadata = {"format": kind, "format_version": str(FORMAT_VERSION), "xpnn_version": __version__, **texts}
    metadata["digests"] = json.dumps({name: _tensor_digest(name, array) for name, array in sorted(arrays.items())})
    metadata["digest"] = digest(metadata, arrays)
    content = serialize(arrays, metadata=metadata)
    from_bytes(path, kind, content)
    return content


def read_tensors(path: str | Path, kind: str) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Read a file of `write_tensors`.

    Parameters
    ----------
    path : str or Path
        The file.
    kind : str
        One of `FORMATS`.

    Returns
    -------
    texts : dict of str
        The caller's metadata.
    tensors : dict of arrays

    Raises
    ------
    DataFormatError
        If the file is damaged, is not of this kind, or has a newer format.
    OSError
        If the file cannot be read.
    """
    return from_bytes(str(path), kind, Path(path).read_bytes())


def from_bytes(path: str, kind: str, raw: bytes) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Return texts and tensors of a file's content; `path` is for messages only. Raises DataFormatError."""
    header = _header(path, raw)
    metadata: dict[str, str] = header.get("__metadata__", {})
    given = metadata.get("format")
    if given != kind:
        found = (
            f"{FORMATS[given]}, not {FORMATS[kind]}"
            if given in FORMATS
            else f"no file of xpnn (its metadata has the format {given!r:.40})"
        )
        raise DataFormatError(f"{path} is {found}")
    if metadata.get("format_version") != str(FORMAT_VERSION):
        raise DataFormatError(
            f"{path} has format {metadata.get('format_version')!s:.20}; this xpnn reads format {FORMAT_VERSION}: use "
            f"xpnn {metadata.get('xpnn_version')!s:.20} or newer"
        )
    tensors = _parsed(path, raw)
    expected = metadata.pop("digest", None)
    if expected != digest(metadata, tensors):
        raise DataFormatError(f"{path} is damaged: {_damage(metadata, tensors)}; restore it or train again")
    return {name: text for name, text in metadata.items() if name not in _OWN}, tensors


def read_foreign(path: str | Path) -> dict[str, np.ndarray]:
    """Read the tensors of a safetensors file that another program wrote.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    dict of arrays

    Raises
    ------
    DataFormatError
        If the file is damaged, or has a dtype that NumPy does not have.
    OSError
        If the file cannot be read.
    """
    raw = Path(path).read_bytes()
    _header(str(path), raw)
    return _parsed(str(path), raw)


def write_foreign(path: str | Path, tensors: Mapping[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Write a safetensors file for other programs, atomically: without digests. Raises SaveError."""
    write_whole(path, serialize(_in_c_order(tensors), metadata=metadata))


def digest(metadata: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> str:
    """Return a SHA-256 of the metadata, without its own digest, and of the tensors."""
    sha = hashlib.sha256()
    for name, text in sorted(metadata.items()):
        sha.update(f"{name}={text}\n".encode())
    for name, array in sorted(tensors.items()):
        _update(sha, name, array)
    return sha.hexdigest()


def _in_c_order(tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Copies in C order: safetensors 0.8.0 silently writes other arrays wrongly (safetensors/safetensors#825)."""
    return {
        name: np.array(array, dtype=np.asarray(array).dtype.newbyteorder("="), order="C")
        for name, array in tensors.items()
    }


def _parsed(path: str, raw: bytes) -> dict[str, np.ndarray]:
    try:
        return dict(parse(raw))
    except (SafetensorError, ValueError, KeyError, OverflowError, MemoryError) as error:
        raise DataFormatError(f"{path} is not a complete safetensors file: {error}") from error


def _tensor_digest(name: str, array: np.ndarray) -> str:
    sha = hashlib.sha256()
    _update(sha, name, array)
    return sha.hexdigest()


def _update(sha: Any, name: str, array: np.ndarray) -> None:
    sha.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
    sha.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def _damage(metadata: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> str:
    """Which part does not match its digest."""
    try:
        expected = dict(json.loads(metadata["digests"]))
    except (KeyError, ValueError, TypeError, RecursionError):
        return "its digest does not match its content"
    wrong = [name for name, array in sorted(tensors.items()) if expected.get(name) != _tensor_digest(name, array)]
    return f"the digest of {wrong[0]} does not match its content" if wrong else "its digest does not match its metadata"


def _header(path: str, raw: bytes) -> dict[str, Any]:
    """The JSON header of a safetensors file, checked as far as the format's own reader does not."""
    size = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 or size > min(len(raw) - 8, _HEADER_BYTES):
        raise DataFormatError(f"{path} is not a complete safetensors file: its header is cut off, or it has none")
    try:
        header = json.loads(raw[8 : 8 + size], object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise DataFormatError(f"{path} is not a complete safetensors file: {error}") from error
    if not isinstance(header, dict):
        raise DataFormatError(f"{path} is not a complete safetensors file: its header is not an object")
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise DataFormatError(f"{path} is not a complete safetensors file: its metadata are not texts")
    for name, entry in header.items():
        dtype = entry.get("dtype") if isinstance(entry, dict) else None
        if name != "__metadata__" and dtype not in _DTYPES:
            raise DataFormatError(f"{path}: the tensor {name:.80} has the dtype {dtype!s:.20}, which xpnn does not use")
    return header


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key occurs twice")
    return made
