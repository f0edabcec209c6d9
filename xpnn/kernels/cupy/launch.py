"""Compiles the sources of `xpnn/kernels/cuda`, one module per dtype at its first use, and launches their kernels.

`arguments` converts Python values to the C types that the sources declare. In the tests, `_kernel` is replaced by one
that runs them on the CPU.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xpnn.devices.buffers import address_of
from xpnn.devices.libraries.cupy import side_stream
from xpnn.nn.fused import aside, joined

_FOLDER = Path(__file__).parents[1] / "cuda"
_FILES = (
    "threads.h",
    "random.cu",
    "fused.cu",
    "losses.cu",
    "matmul.cu",
    "optimizers.cu",
    "preprocessing.cu",
    "reductions.cu",
    "totals.cu",
)
THREADS = 256  # a block
LEAVES = 32  # the most that a launch of optimizers.cu takes

#: The activations of fused.cu. Their numbers there are generated from this table, by `source`.
ACTIVATIONS = {
    name: number
    for number, name in enumerate(
        ("IDENTITY", "RELU", "LEAKY_RELU", "ELU", "GELU", "GELU_TANH", "SILU", "SOFTPLUS", "SIGMOID", "TANH")
    )
}

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
    """All sources in one, after the constants that Python and C share."""
    constants = ", ".join(
        f"{name} = {number}" for name, number in {**ACTIVATIONS, "LEAVES": LEAVES, "BLOCK": THREADS}.items()
    )
    return "\n".join([f"enum {{ {constants} }};\n", *((_FOLDER / name).read_text() for name in _FILES)])


@functools.cache
def signatures() -> dict[str, tuple[str, ...]]:
    """The C types of each kernel's parameters; a type that ends in * is an array."""
    found = {}
    for name, parameters in re.findall(r"^KERNEL (\w+)\(([^)]*)\)", source(), re.MULTILINE):
        types = [
            re.sub(r"\b(const|GIVEN)\b|\w+$", "", parameter.strip()).strip() for parameter in parameters.split(",")
        ]
        found[name] = tuple(types)
    return found


def arguments(name: str, dtype: Any, values: tuple[Any, ...]) -> list[Any]:
    """The values in the types of the kernel's parameters: arrays unchanged, None as a null pointer.

    Raises TypeError for an array of the wrong dtype, which a kernel would misread silently.
    """
    converted: list[Any] = []
    for kind, value in zip(signatures()[name], values, strict=True):
        if kind.endswith("*"):
            if value is not None and value.dtype not in _pointed(kind, dtype):
                raise TypeError(f"{name}: got an array of {value.dtype}; expected {kind} of {np.dtype(dtype)}")
            converted.append(value)
        elif kind == "leaves":  # CuPy passes a NumPy array of one element by value
            converted.append(value)
        else:
            converted.append(_SCALARS.get(kind, np.dtype(dtype).type)(value))
    return converted


def _pointed(kind: str, dtype: Any) -> tuple[Any, ...]:
    """The dtypes that a pointer of this C type may point to."""
    return (np.dtype(dtype),) if kind == "REAL *" else _POINTED[kind]


def launch(name: str, dtype: Any, threads: int, *values: Any) -> None:
    """Launch kernel `name` for REAL = dtype on the current device and stream, with about this many threads."""
    blocks = min(-(-threads // THREADS), 65_535)
    if blocks:
        _kernel(name, np.dtype(dtype).name)((blocks,), (THREADS,), tuple(arguments(name, dtype, values)))


def is_flat(*groups: list[Any]) -> bool:
    """Whether all arrays are contiguous and of one dtype that the kernels have."""
    kind = groups[0][0].dtype
    return kind.name in C_NAMES and all(
        leaf.dtype == kind and leaf.flags.c_contiguous for group in groups for leaf in group
    )


def tables(**groups: list[Any]) -> Any:
    """(`leaves` of optimizers.cu, number of elements) for every 32 leaves: arrays, or `Memory`."""
    count = len(groups["p"])
    for first in range(0, count, LEAVES):
        table, end = np.zeros((), LEAF_TABLE), 0
        for j, i in enumerate(range(first, min(first + LEAVES, count))):
            end += groups["p"][i].size
            table["end"][j] = end
            for name, group in groups.items():
                if group:
                    table[name][j] = _address(group[i])
        yield table, end


class Memory(NamedTuple):
    """Words of 4 bytes, in place of an array."""

    address: int
    size: int


def _address(leaf: Any) -> int:
    return leaf.address if isinstance(leaf, Memory) else address_of(leaf)


@aside.kernel("cupy")
def _aside(x: Any, *more: Any) -> Any:
    """Beside the main stream, while steps are recorded."""
    side = side_stream()
    return NotImplemented if side is None else side.forked([x, *(part for part in more if part is not None)])


@joined.kernel("cupy")
def _joined(x: Any) -> Any:
    side = side_stream()
    if side is not None:
        side.join()
    return x


@functools.cache
def _kernel(name: str, dtype: str) -> Any:
    return _module(dtype).get_function(name)


@functools.cache
def _module(dtype: str) -> Any:
    import cupy

    return cupy.RawModule(code=source(), options=("--std=c++17", f"-DREAL={C_NAMES[dtype]}"))
