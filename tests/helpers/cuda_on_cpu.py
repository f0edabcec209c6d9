"""Runs the CUDA kernels of xpnn on NumPy arrays, compiled by a C++ compiler with cuda_on_cpu.h."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from xpnn.kernels.cupy import launch as launching

FLAGS = ["-std=c++17", "-O1", "-g", "-shared", "-fPIC", "-fno-strict-aliasing"]
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]  # of `#pragma unroll`
COMPILER = next((found for name in ("c++", "g++", "clang++") if (found := shutil.which(name))), None)
SANITIZERS = {"thread": "libtsan.so", "address,undefined": "libasan.so"}
_HEADER = Path(__file__).with_suffix(".h")


def compiled(folder: Path) -> Callable[[str, str], Any]:
    """What replaces `_kernel` of launch.py: (name, dtype) -> kernel(grid, block, arguments), as CuPy's.

    The environment's XPNN_SANITIZE, a key of SANITIZERS, adds checks of the compiler (see `sanitized`). Then a launch
    has few blocks, so that each goes through its loops several times.
    """
    (folder / "kernels.cpp").write_text(_program())
    checks, libraries = os.environ.get("XPNN_SANITIZE"), {}
    sanitize = [f"-fsanitize={checks}", "-fno-sanitize-recover=all"] if checks else []
    most_blocks = 2 if checks else 65_535
    for dtype, real in launching.C_NAMES.items():
        made = folder / f"{dtype}.so"
        command = [COMPILER, *FLAGS, *WARNINGS, *sanitize, f"-DREAL={real}", folder / "kernels.cpp", "-o", made]
        subprocess.run(command, check=True, env={**os.environ, "LD_PRELOAD": ""})
        libraries[dtype] = ctypes.CDLL(str(made))

    def kernel(name: str, dtype: str) -> Any:
        def run(grid: tuple[int], block: tuple[int], values: tuple[Any, ...]) -> None:
            assert block == (launching.THREADS,)
            held = [_in_memory(*pair) for pair in zip(launching.signatures()[name], values, strict=True)]
            addresses = (ctypes.c_void_p * len(held))(*map(ctypes.addressof, held))
            blocks = min(grid[0], most_blocks)
            assert libraries[dtype].run_kernel(name.encode(), blocks, addresses) == 1, f"{name}: threads never meet"

        return run

    return kernel


def _program() -> str:
    """The header between the constants and the sources, and a function that runs a kernel by its name."""
    constants, sources = launching.source().split("\n", 1)
    runs = "\n".join(
        f'    if (!strcmp(name, "{name}")) return on_cpu::launch({name}, blocks, values);'
        for name in launching.signatures()
    )
    return f"""{constants}
#include <cstring>
#include "{_HEADER}"
{sources}
extern "C" int run_kernel(const char *name, unsigned blocks, void **values) {{
{runs}
    return 2;
}}
"""


def _in_memory(kind: str, value: Any) -> Any:
    """An argument of this C type: the address of an array, or the bytes of a NumPy scalar or struct."""
    if not kind.endswith("*"):
        return ctypes.create_string_buffer(value.tobytes(), value.nbytes)
    assert value is None or (isinstance(value, np.ndarray) and value.flags.c_contiguous)
    return ctypes.c_void_p(None if value is None else value.ctypes.data)


def sanitized(checks: str) -> dict[str, str] | None:
    """The environment for a process that calls `compiled` with these checks; None if they cannot be used here."""
    if COMPILER is None:
        return None
    found = subprocess.run([COMPILER, f"-print-file-name={SANITIZERS[checks]}"], capture_output=True, text=True)
    more = {
        "XPNN_SANITIZE": checks,
        "LD_PRELOAD": found.stdout.strip(),  # they must be loaded before Python
        "OPENBLAS_NUM_THREADS": "1",  # whose threads are not compiled with these checks
        "ASAN_OPTIONS": "detect_leaks=0",
        # many threads write the same number in not_finite, which is allowed on a GPU
        "TSAN_OPTIONS": f"suppressions={_HEADER.with_name('cuda_on_cpu.tsan')}",
    }
    started = subprocess.run([shutil.which("true") or "true"], env=more, capture_output=True)
    return None if found.returncode or started.returncode or started.stderr else more
