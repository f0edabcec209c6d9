"""Finds the kernels in the sources of `xpnn/kernels/cuda`, and runs them: one module a dtype, compiled when first used.

The sources say what each kernel takes; `arguments` brings Python's values to those C types, for NVRTC's kernels on a
GPU and, in the tests, for a C compiler's loops on the CPU.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np

_FOLDER = Path(__file__).parents[1] / "cuda"
_FILES = ("portable.h", "random.cu", "fused.cu", "cross_entropy.cu", "totals.cu", "optimizers.cu")
_THREADS = 256  # a block
LEAVES = 32  # as in optimizers.cu

C_NAMES = {"float32": "float", "float64": "double"}
_POINTED = {
    "int *": (np.dtype(np.int32),),
    "word *": (np.dtype(np.uint32),),
    "half_word *": (np.dtype(np.uint16),),
    "byte *": (np.dtype(np.uint8), np.dtype(np.bool_)),
}
_SCALARS = {"size": np.int64, "int": np.int32, "word": np.uint32}

#: `leaves` of optimizers.cu.
LEAF_TABLE = np.dtype([(name, np.uint64, LEAVES) for name in ("p", "u", "v", "g")] + [("end", np.int64, LEAVES)])


@functools.cache
def source() -> str:
    """All sources, in one."""
    return "\n".join((_FOLDER / name).read_text() for name in _FILES)


@functools.cache
def signatures() -> dict[str, tuple[str, ...]]:
    """The C types that each kernel takes; one ending in * is an array."""
    found = {}
    for name, parameters in re.findall(r"^KERNEL (\w+)\(([^)]*)\)", source(), re.MULTILINE):
        types = [
            re.sub(r"\b(const|GIVEN)\b|\w+$", "", parameter.strip()).strip() for parameter in parameters.split(",")
        ]
        found[name] = tuple(types)
    return found


def arguments(name: str, dtype: Any, values: tuple[Any, ...]) -> list[Any]:
    """The values in the types that the kernel takes: arrays as they are, None as a null pointer.

    Raises TypeError for an array of another dtype, which a kernel would misread without a word.
    """
    brought: list[Any] = []
    for kind, value in zip(signatures()[name], values, strict=True):
        if kind.endswith("*"):
            if value is not None and value.dtype not in _pointed(kind, dtype):
                raise TypeError(f"{name}: an array of {value.dtype}, where {kind} of {np.dtype(dtype)} is taken")
            brought.append(value)
        elif kind == "leaves":  # CuPy hands over a NumPy array of one element by value
            brought.append(value)
        else:
            brought.append(_SCALARS.get(kind, np.dtype(dtype).type)(value))
    return brought


def _pointed(kind: str, dtype: Any) -> tuple[Any, ...]:
    """The dtypes that a pointer of this C type may point to."""
    return (np.dtype(dtype),) if kind == "REAL *" else _POINTED[kind]


def launch(name: str, dtype: Any, threads: int, *values: Any) -> None:
    """Run kernel `name` for REAL = dtype on the current device and stream, with about so many threads."""
    blocks = min(-(-threads // _THREADS), 65_535)
    if blocks:
        _kernel(name, np.dtype(dtype).name)((blocks,), (_THREADS,), tuple(arguments(name, dtype, values)))


@functools.cache
def _kernel(name: str, dtype: str) -> Any:
    return _module(dtype).get_function(name)


@functools.cache
def _module(dtype: str) -> Any:
    import cupy

    return cupy.RawModule(code=source(), options=("--std=c++17", f"-DREAL={C_NAMES[dtype]}"))
