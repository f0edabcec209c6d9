"""Helpers for the tests of file formats."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

Write = Callable[..., Path]  # type of the fixture `write`: content -> path of the file


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


GOOD = idx(np.arange(300).reshape(3, 100) % 251)
