"""The test matrix: the array libraries and devices that the tests run on.

XPNN_BACKENDS=numpy,strict,torch,jax selects libraries; a selected library that is missing fails the run. If unset,
every installed library is tested (CuPy only if selected), and the header lists the missing ones.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xpnn.arrays import tree
from xpnn.arrays.namespace import array_namespace, device_of
from xpnn.devices.libraries import LIBRARIES as REGISTRY
from xpnn.devices.libraries import library
from xpnn.devices.place import Place, find_place, to_numpy, to_place

ROWS = {
    "numpy": ("numpy", "numpy-readonly"),
    "strict": ("strict", "strict-device1"),
    "torch": ("torch", "torch-cuda"),
    "jax": ("jax", "jax-cuda"),
    "cupy": ("cupy",),
}
# Many tests compile the same programs: the processes of a session share them.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _compiled = tempfile.mkdtemp(prefix="xpnn-jax-")
    atexit.register(shutil.rmtree, _compiled, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

PACKAGES = {name: library(name).module for name in ROWS}

NAMED = [name for name in os.environ.get("XPNN_BACKENDS", "").split(",") if name]
LIBRARIES = NAMED or [name for name in PACKAGES if name != "cupy"]
INSTALLED = {name for name in LIBRARIES if importlib.util.find_spec(PACKAGES.get(name, name)) is not None}


@dataclass(frozen=True)
class Backend:
    """One row of the matrix."""

    name: str
    place: Place

    @property
    def xp(self) -> Any:
        return self.place.xp

    @property
    def library(self) -> str:
        return self.place.library

    def array(self, x: Any, dtype: str | None = None) -> Any:
        """Return a copy of `x` as an array of this row."""
        y = to_place(np.array(x, dtype=dtype), self.place)
        if self.name == "numpy-readonly":
            y.setflags(write=False)
        return y

    def tree(self, host: Any, dtype: str = "float64") -> Any:
        """Return a tree of host arrays as arrays of this row, floats in `dtype`."""
        return tree.map(lambda x: self.array(x, dtype if np.asarray(x).dtype.kind == "f" else None), host)

    def check(self, got: Any, like: Any) -> np.ndarray:
        """Assert that `got` belongs to this row and has the dtype and shape of `like`; return it as a NumPy array."""
        assert array_namespace(got) is self.xp
        assert device_of(got) == self.place.device
        assert str(got.dtype).rpartition(".")[2] == str(np.asarray(like).dtype)
        assert tuple(got.shape) == np.shape(like)
        return to_numpy(got)


def make_backend(row: str) -> Backend:
    name, _, variant = row.partition("-")
    if importlib.util.find_spec(PACKAGES[name]) is not None:
        library(name).enable_float64()  # the matrix compares in float64
    if variant == "cuda" or not library(name).runs_on_cpu:
        return Backend(row, find_place("cuda", name, fallback=False))
    place = find_place("cpu", name)
    if variant == "device1":
        place = Place(name, place.lib.device("cpu", 1), "cpu", 1)
    return Backend(row, place)


def _has_gpu(row: str) -> bool:
    from xpnn.devices import probe

    return probe.first_failure(probe.stages(row.partition("-")[0])) is None


def _rows() -> list[Any]:
    rows = []
    for name in LIBRARIES:
        for row in ROWS[name]:
            if name not in INSTALLED:
                rows.append(pytest.param(row, marks=pytest.mark.skip(reason=f"{name} is not installed")))
            elif not row.endswith("-cuda") or _has_gpu(row):
                rows.append(row)
    return rows


STANDARD_ERROR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    unknown = sorted(set(NAMED) - set(PACKAGES))
    missing = sorted(set(NAMED) - INSTALLED - set(unknown))
    if unknown or missing:
        raise pytest.UsageError(f"XPNN_BACKENDS: unknown {unknown}, not installed {missing}")
    if hasattr(config.option, "randomly_reset_seed"):
        # No test uses a global generator, and thinc's reseeding hook fails for seeds above 2**32.
        config.option.randomly_reset_seed = False
    if hasattr(config, "workerinput"):
        config.stash[STANDARD_ERROR] = os.dup(2)  # later, pytest captures 2


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let a worker that does not end show where it waits, and end it: the run would wait for it without a limit."""
    if STANDARD_ERROR in session.config.stash:
        faulthandler.dump_traceback_later(300, exit=True, file=session.config.stash[STANDARD_ERROR])


def pytest_report_header() -> str:
    absent = [name for name in LIBRARIES if name not in INSTALLED]
    skipped = f"; absent, skipped: {', '.join(absent)}" if absent else ""
    return f"array libraries: {', '.join(sorted(INSTALLED))}{skipped}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", _rows(), indirect=True)


#: The initial setting of JAX; the matrix, `xpnn check` and float64 runs of the command enable it.
JAX_X64 = os.environ.get("JAX_ENABLE_X64", "").lower() in ("1", "true", "yes", "on", "y", "t")


@contextlib.contextmanager
def process_state() -> Iterator[None]:
    """Restore the global state of the process on exit.

    JAX's x64 flag, the environment, the working directory, NumPy's error state, torch's default dtype and threads, and
    the registry of libraries, whose order matters.
    """
    environment, folder, errors, registry = dict(os.environ), os.getcwd(), np.geterr(), dict(REGISTRY)
    torch = sys.modules.get("torch")
    torch_state = None if torch is None else (torch.get_default_dtype(), torch.get_num_threads())
    try:
        yield
    finally:
        _restore(environment, folder, errors, registry, torch_state)


def _restore(environment: Any, folder: str, errors: Any, registry: Any, torch_state: Any) -> None:
    torch = sys.modules.get("torch")
    if list(REGISTRY.items()) != list(registry.items()):
        REGISTRY.clear()
        REGISTRY.update(registry)
    if os.environ != environment:
        os.environ.clear()
        os.environ.update(environment)
    os.chdir(folder)
    np.seterr(**errors)
    if torch is not None and torch_state is not None:
        torch.set_default_dtype(torch_state[0])
        if torch.get_num_threads() != torch_state[1]:
            torch.set_num_threads(torch_state[1])
    jax = sys.modules.get("jax")
    if jax is not None and jax.config.jax_enable_x64 != JAX_X64:
        jax.config.update("jax_enable_x64", JAX_X64)


@pytest.fixture(autouse=True)
def _process_state() -> Iterator[None]:
    """Make tests independent of their order."""
    with process_state():
        yield


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Backend:
    return make_backend(request.param)


def eps(dtype: str) -> float:
    return float(np.finfo(dtype).eps)


def assert_close(got: Any, wanted: Any, *, ulps: float = 64) -> None:
    """Assert equality to within `ulps` rounding errors of the largest expected value."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    assert got.shape == wanted.shape and got.dtype == wanted.dtype, (got.shape, wanted.shape, got.dtype, wanted.dtype)
    scale = max(1.0, float(np.max(np.abs(wanted), initial=0.0)))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=ulps * eps(str(wanted.dtype)) * scale)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def to_file(content: str | bytes, name: str = "t.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return to_file


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command; return (exit status, standard output, standard error)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        from xpnn.cli import main

        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return call
