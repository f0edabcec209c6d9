"""The CUDA kernels' sources: compiled by NVRTC for every generation of GPUs, and run as C loops beside the references.

With the C loops in place of launches, the whole of `xpnn.kernels.cupy` runs on NumPy's arrays: what is left to a real
GPU is CuPy's way of handing over the arguments, and the capture.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import test_kernels
from cases import draw
from conftest import assert_close, make_backend
from kernel_cases import ACCELERATED, AcceleratedCase
from test_kernels import outcome

from xpnn.arrays import random
from xpnn.kernels.cupy import launch as launching

COMPILER = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
C_TYPES = {"size": ctypes.c_longlong, "int": ctypes.c_int, "word": ctypes.c_uint32}


@pytest.fixture(scope="session")
def loops(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """`launch`, by loops that the system's C compiler has made."""
    if COMPILER is None:
        pytest.skip("no C compiler")
    folder, libraries = tmp_path_factory.mktemp("c"), {}
    (folder / "kernels.c").write_text(launching.source())
    for dtype, real in launching.C_NAMES.items():
        made = folder / f"{dtype}.so"
        command = [COMPILER, "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-DREAL={real}"]
        subprocess.run([*command, folder / "kernels.c", "-o", made, "-lm"], check=True)
        libraries[dtype] = ctypes.CDLL(str(made))

    class Leaves(ctypes.Structure):
        _fields_ = [(name, ctypes.c_uint64 * launching.LEAVES) for name in ("p", "u", "v", "g")]
        _fields_ += [("end", ctypes.c_longlong * launching.LEAVES)]

    def launch(name: str, dtype: Any, threads: int, *values: Any) -> None:
        real = ctypes.c_float if np.dtype(dtype) == np.float32 else ctypes.c_double
        brought = []
        for kind, value in zip(launching.signatures()[name], launching.arguments(name, dtype, values), strict=True):
            if kind.endswith("*"):
                brought.append(ctypes.c_void_p(value.ctypes.data if isinstance(value, np.ndarray) else None))
                if isinstance(value, np.ndarray):
                    wanted = {"REAL": np.dtype(dtype), "word": np.dtype(np.uint32), "int": np.dtype(np.int32)}
                    assert value.dtype == wanted.get(kind.rstrip("* "), value.dtype) and value.flags.c_contiguous
            elif kind == "leaves":
                brought.append(Leaves.from_buffer_copy(value.tobytes()))
            else:
                brought.append(C_TYPES.get(kind, real)(value.item()))
        getattr(libraries[np.dtype(dtype).name], name)(*brought)

    return launch


@pytest.fixture
def on_numpy(monkeypatch: pytest.MonkeyPatch, loops: Callable[..., None]) -> None:
    """CuPy's kernels, run by those loops, in place of NumPy's."""
    from xpnn.kernels.cupy import layers, losses, optimizers
    from xpnn.kernels.cupy import random as masks

    for module in (layers, losses, optimizers, masks):
        monkeypatch.setattr(module, "launch", loops)
    monkeypatch.setattr(layers, "matmul", lambda x, w, bias=None: x @ w if bias is None else x @ w + bias)
    for op in {case.op for case in ACCELERATED}:
        kernels = {"numpy": op.kernels["cupy"]} if "cupy" in op.kernels else {}
        monkeypatch.setattr(op, "kernels", kernels)


def test_every_kernel_is_known_by_its_types() -> None:
    assert launching.signatures()["kept"] == ("word *", "word *", "word *", "size", "word", "byte *")
    assert launching.signatures()["sgd"] == ("leaves", "size", "REAL *", "REAL", "REAL", "int")
    assert len(launching.signatures()) == launching.source().count("\nKERNEL ")


@pytest.mark.usefixtures("on_numpy")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", ACCELERATED, ids=lambda case: case.id)
def test_the_loops_do_what_the_references_do(
    case: AcceleratedCase, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not case.op.kernels:
        pytest.skip("CuPy has no kernel for this")
    backend = make_backend("numpy")
    monkeypatch.setattr(test_kernels, "draw", lambda *what: draw(*what).astype(dtype))
    case = case._replace(arguments=_as(case.arguments, dtype))
    bare = type(case.op)(*([case.op.reference] if callable(case.op.reference) else case.op.reference))
    for got, wanted in zip(outcome(case, case.op, backend), outcome(case, bare, backend), strict=True):
        if wanted.dtype.kind != "f":
            assert np.array_equal(got, wanted)
        else:
            assert_close(got, wanted, ulps=512)


def _as(value: Any, dtype: str) -> Any:
    if isinstance(value, (list, tuple)) and not hasattr(value, "words"):
        made = [_as(item, dtype) for item in value]
        return value._make(made) if hasattr(value, "_make") else type(value)(made)
    return value.astype(dtype) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value


@pytest.mark.usefixtures("on_numpy")
@pytest.mark.parametrize("rows", [1, 64, 127, 128, 129, 8191, 8193])
def test_columns_are_summed_in_as_many_rounds_as_it_takes(rows: int) -> None:
    from xpnn.kernels.cupy.layers import column_sums

    x = draw("x", rows, 3)
    assert_close(column_sums(x), x.sum(axis=0))


@pytest.mark.usefixtures("on_numpy")
def test_a_word_at_the_threshold_is_kept() -> None:
    key = random.key(3, "dropout")
    word = int(random.bits(key, (5,))[3])
    for threshold, wanted in ((word >> 8, True), ((word >> 8) + 1, False)):
        assert bool(random.kept(*key.words, key.step, 5, threshold)[3]) == wanted


ARCHITECTURES = ("sm_70", "sm_80", "sm_90", "sm_100")


@pytest.mark.parametrize("real", launching.C_NAMES.values())
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvrtc_compiles_them(architecture: str, real: str) -> None:
    """Without a driver. A version of NVRTC that has dropped a generation, or does not have it yet, says so itself."""
    pytest.importorskip("cupy", exc_type=ImportError)
    from cupy_backends.cuda.libs import nvrtc

    try:
        nvrtc.getVersion()
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(f"NVRTC cannot be loaded: {error}")
    number = int(architecture.removeprefix("sm_"))
    supported = nvrtc.getSupportedArchs()
    if number not in supported:
        pytest.skip(f"NVRTC {nvrtc.getVersion()} knows {supported}")
    program = nvrtc.createProgram(launching.source(), "kernels.cu", [], [])
    try:
        nvrtc.compileProgram(program, [f"--gpu-architecture={architecture}", "--std=c++17", f"-DREAL={real}"])
    except nvrtc.NVRTCError:
        pytest.fail(nvrtc.getProgramLog(program))
    assert len(nvrtc.getCUBIN(program)) > 1000
    nvrtc.destroyProgram(program)
