"""Helpers for the tests of file formats."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Write = Callable[..., Path]  # type of the fixture `write`: content -> path of the file


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


GOOD = idx(np.arange(300).reshape(3, 100) % 251)


def mixed_table(count: int, seed: int) -> str:
    """A table in text with numbers, texts, booleans, dates and gaps, and a kind that follows from them."""
    rng, lines = np.random.default_rng(seed), ['when;"size, m";colour;town;new;id;kind']
    for i in range(count):
        size, colour, is_new = rng.normal(3e6, 20), int(rng.integers(3)), bool(rng.integers(2))
        cells = [
            f"20{10 + i % 15}-0{1 + i % 9}-1{i % 10}" + (" 12:30:00" if i % 4 == 0 else ""),
            "" if i % 11 == 5 else f"{size:.3f}".replace(".", ","),
            "NA" if i % 13 == 7 else ("red", "dark green", '"a;b"')[colour],
            f"town {int(rng.integers(12))}",
            "?" if i % 17 == 3 else str(is_new).lower(),
            f"=row {i}",
            "yes" if (size > 3e6) == is_new or colour == 0 else "no",
        ]
        lines.append(";".join(cells))
    return "\n".join(lines) + "\n"


#: The settings with which `xpnn train` reads it.
MIXED: dict[str, Any] = {
    "target": "kind", "date": "when", "id": "id", "decimal": ",", "missing": "indicator", "embedding_above": 5,
}  # fmt: skip
