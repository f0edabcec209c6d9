"""Tests for the GPU probe with a fake driver and a fake CuPy: every failure has a reason and a hint."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import subprocess
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xpnn.devices import driver, probe
from xpnn.devices.driver import Stage
from xpnn.devices.libraries import gpu_libraries

NAMES = ["installed", "driver", "device", "import", "kernel", "matmul", "graph"]


class Driver:
    """The part of libcuda that the probe uses."""

    def __init__(self, code: int = 0, version: int = 12040, gpus: tuple[str, ...] = ("Some GPU",)) -> None:
        self.code, self.version, self.gpus = code, version, gpus

    def cuInit(self, flags: int) -> int:
        return self.code

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = self.version
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = len(self.gpus)
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        name.value = self.gpus[device.value].encode()
        return 0


class Stream(contextlib.AbstractContextManager["Stream"]):
    """A stream that, like CUDA's, records work instead of running it during capture."""

    capturing = False

    def __init__(self, non_blocking: bool) -> None:
        self.noted: list[Callable[[], Any]] = []

    def __exit__(self, *_: object) -> None:
        pass

    def begin_capture(self) -> None:
        Stream.capturing, self.noted = True, []
        NOTES.clear()

    def end_capture(self) -> Any:
        Stream.capturing = False
        noted = list(NOTES)
        return types.SimpleNamespace(launch=lambda stream: [run() for run in noted])


NOTES: list[Callable[[], Any]] = []


def cupy(**changes: Any) -> types.ModuleType:
    """A fake CuPy based on NumPy."""

    def add(x: Any, y: Any, out: Any) -> None:
        if Stream.capturing:
            NOTES.append(lambda: np.add(x, y, out=out))
        else:
            np.add(x, y, out=out)

    module = types.ModuleType("cupy")
    module.__spec__ = ModuleSpec("cupy", None)
    gpu = types.SimpleNamespace(Device=lambda index: contextlib.nullcontext(), Stream=Stream)
    known = {"__version__": "14.0", "asarray": np.asarray, "float32": np.float32, "zeros_like": np.zeros_like}
    for name, value in {**known, "add": add, "cuda": gpu, **changes}.items():
        setattr(module, name, value)
    return module


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Clear the cached results of other tests."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    Stream.capturing = False
    probe._stages.cache_clear()
    driver.facts.cache_clear()
    yield
    probe._stages.cache_clear()
    driver.facts.cache_clear()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Simulate a machine with a driver (None: no driver) and installed libraries."""

    def make(driver: Driver | None = None, packages: tuple[str, ...] = (), **modules: Any) -> None:
        def load(library: str) -> Driver:
            if driver is None:
                raise OSError(f"{library}: cannot open shared object file: No such file or directory")
            return driver

        def version(name: str) -> str:
            if name not in packages:
                raise importlib.metadata.PackageNotFoundError(name)
            return "14.0"

        monkeypatch.setattr("xpnn.devices.driver._load", load)
        monkeypatch.setattr(importlib.metadata, "version", version)
        for library in gpu_libraries():
            monkeypatch.setitem(sys.modules, library, modules.get(library))  # None: not found

    return make


def failure(library: str = "cupy", index: int = 0) -> Stage:
    """Return the first failure, after the checks that apply to every failure."""
    stages = probe.stages(library, index)
    assert [stage.name for stage in stages] == NAMES
    first = probe.first_failure(stages)
    assert first is not None and first.ok is False
    for text in (first.detail, probe.explain([(library, first)])):
        assert text and "\n" not in text
    return first


def raises(error: Exception) -> Callable[..., Any]:
    def function(*_: Any, **__: Any) -> Any:
        raise error

    return function


def test_usable_gpu_has_no_failure(machine: Callable[..., None]) -> None:
    machine(Driver(), ("cupy-cuda12x",), cupy=cupy())
    stages = probe.stages("cupy")
    assert [(stage.name, stage.ok, stage.hint) for stage in stages] == [(name, True, "") for name in NAMES]
    assert probe.first_failure(stages) is None
    assert [stage.detail for stage in stages[:4]] == [
        "cupy-cuda12x 14.0",
        "NVIDIA driver for CUDA up to 12.4",
        "Some GPU",
        "CuPy 14.0",
    ]
    assert probe.stages("cupy", 0) is stages  # cached for every spelling


def test_no_driver(machine: Callable[..., None]) -> None:
    machine(None, cupy=cupy(asarray=raises(AssertionError("tried without a driver"))))
    first = failure()
    assert first.name == "driver" and "libcuda.so.1" in first.detail and "--gpus all" in first.hint
    assert "pip" not in first.hint  # the library exists
    assert [stage.ok for stage in probe.stages("cupy")] == [True, False, None, None, None, None, None]


def test_no_driver_and_nothing_installed(machine: Callable[..., None]) -> None:
    machine(None)
    line = probe.explain([(library, failure(library)) for library in gpu_libraries()])
    assert line.count("driver was found") == 1 and "not installed" not in line and "update" not in line
    assert line.index("install the NVIDIA driver") < line.index('pip install "xpnn[cuda12]"')


def test_driver_under_a_wrong_name(machine: Callable[..., None]) -> None:
    machine(types.SimpleNamespace())
    assert "is not an NVIDIA driver" in failure().detail


def test_macos_has_no_cuda(machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    machine(Driver())
    monkeypatch.setattr(sys, "platform", "darwin")
    assert failure().detail == "macOS has no CUDA"
    assert failure().hint == ""  # no installation would help


@pytest.mark.parametrize("code", [3, 34, 101, 802, 803, 804, 999, 12345])
def test_driver_does_not_start(machine: Callable[..., None], code: int) -> None:
    machine(Driver(code), cupy=cupy())
    first = failure()
    assert first.name == "driver" and str(code) in first.detail and first.hint
    if code == 803:
        assert "SYSTEM_DRIVER_MISMATCH" in first.detail and "reboot" in first.hint


def test_no_device(machine: Callable[..., None]) -> None:
    machine(Driver(100), cupy=cupy())
    first = failure()
    assert first.name == "device" and "shows no GPU" in first.detail and "--gpus all" in first.hint


def test_hidden_devices(machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    machine(Driver(100), cupy=cupy())
    first = failure()
    assert first.name == "device" and "CUDA_VISIBLE_DEVICES is set to ''" in first.detail
    assert first.hint.startswith("unset CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize("index", [2, -1])
def test_index_out_of_range(machine: Callable[..., None], index: int) -> None:
    machine(Driver(gpus=("First", "Second")), cupy=cupy())
    first = failure(index=index)
    assert first.name == "device" and f"no cuda:{index}" in first.detail
    assert "cuda:0 (First), cuda:1 (Second)" in first.detail
    assert probe.first_failure(probe.stages("cupy", 1)) is None


@pytest.mark.parametrize(
    ("version", "hint"), [(11080, "update"), (12040, "cuda12"), (13000, "cuda13"), (14010, "cuda13")]
)
def test_not_installed(machine: Callable[..., None], version: int, hint: str) -> None:
    machine(Driver(version=version))
    first = failure()
    assert (first.name, first.detail) == ("installed", "CuPy is not installed") and hint in first.hint
    assert (
        "pytorch.org" in failure("torch").hint
        and f"jax[cuda{max(12, min(13, version // 1000))}]" in failure("jax").hint
    )
    line = probe.explain([(library, failure(library)) for library in gpu_libraries()])
    assert line == f"CuPy and PyTorch and JAX are not installed; {first.hint}"


def test_import_fails(machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = (
        "raise ImportError('\\n====\\nFailed to import CuPy.\\n') from ImportError('libcudart.so.12: cannot open it')"
    )
    (tmp_path / "cupy.py").write_text(page)
    machine(Driver(), ("cupy-cuda12x",))
    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.syspath_prepend(tmp_path)
    first = failure()
    assert (first.name, first.detail) == ("import", "ImportError: libcudart.so.12: cannot open it")
    assert first.hint == 'pip install "cupy-cuda12x[ctk]"'


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (RuntimeError("CuPy failed to load libnvrtc.so.12: OSError: not there"), 'pip install "cupy-cuda12x[ctk]"'),
        (RuntimeError("error: cannot open source file 'cuda_fp16.h'"), 'pip install "cupy-cuda12x[ctk]"'),
        (RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient"), "update the NVIDIA driver"),
        (RuntimeError("cudaErrorNoKernelImageForDevice: no kernel image"), "does not support this GPU"),
        (MemoryError("Out of memory allocating 512 bytes"), "free memory"),
        (RuntimeError("cudaErrorDevicesUnavailable: busy or unavailable"), "another process"),
        (KeyError(), "reinstall CuPy"),
    ],
)
def test_kernel_fails(machine: Callable[..., None], error: Exception, hint: str) -> None:
    machine(Driver(), ("cupy-cuda12x",), cupy=cupy(asarray=raises(error)))
    first = failure()
    assert first.name == "kernel" and first.detail.startswith(type(error).__name__) and hint in first.hint
    assert [stage.ok for stage in probe.stages("cupy")][-2:] == [None, None]


def test_two_cupys(machine: Callable[..., None]) -> None:
    machine(Driver(), ("cupy-cuda12x", "cupy-cuda13x"), cupy=cupy(asarray=raises(RuntimeError("odd"))))
    assert "pip uninstall cupy-cuda13x cupy-cuda12x, then pip install" in failure().hint


def test_wrong_values(machine: Callable[..., None]) -> None:
    machine(Driver(), cupy=cupy(asarray=lambda values, dtype: np.asarray(values, dtype) + 1))
    first = failure()
    assert first.name == "kernel" and first.detail == "wrong values: [3.0, 5.0, 7.0] instead of [1.0, 3.0, 5.0]"


def test_wrong_product(machine: Callable[..., None]) -> None:
    class Wrong(np.ndarray):
        def __matmul__(self, other: Any) -> Any:
            return np.asarray(self) * other

    machine(Driver(), cupy=cupy(asarray=lambda values, dtype: np.asarray(values, dtype).view(Wrong)))
    first = failure()
    assert first.name == "matmul" and "wrong values" in first.detail


@pytest.mark.parametrize("place", ["captured", "stale"])
def test_failing_graph_does_not_exclude_the_gpu(machine: Callable[..., None], place: str) -> None:
    def add(x: Any, y: Any, out: Any) -> None:
        if Stream.capturing and place == "captured":
            raise RuntimeError("not while capturing")
        np.add(x, y, out=out)  # runs immediately and is not captured: the replay does nothing

    machine(Driver(), cupy=cupy(add=add))
    stages = probe.stages("cupy")
    assert probe.first_failure(stages) is None
    assert stages[-1].ok is False and stages[-1].hint
    assert ("not while capturing" if place == "captured" else "wrong values") in stages[-1].detail
    assert not Stream.capturing  # the stream was released


@pytest.mark.parametrize("version", [None, "12.6"])
def test_torch_without_cuda(machine: Callable[..., None], version: str | None) -> None:
    torch = types.ModuleType("torch")
    torch.__spec__ = ModuleSpec("torch", None)
    init = raises(RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\nPlease update"))
    known = {"__version__": "2.9+cpu", "version": types.SimpleNamespace(cuda=version)}
    for name, value in {**known, "cuda": types.SimpleNamespace(is_available=lambda: False, init=init)}.items():
        setattr(torch, name, value)
    machine(Driver(), torch=torch)
    first = failure("torch")
    assert first.name == "import"
    assert ("built without CUDA" if version is None else "(found version 11040).") in first.detail
    assert ("pytorch.org" if version is None else "update the NVIDIA driver") in first.hint


def test_jax_without_cuda(machine: Callable[..., None]) -> None:
    jax = types.ModuleType("jax")
    jax.__spec__ = ModuleSpec("jax", None)
    jax.devices = raises(RuntimeError("Unknown backend cuda.\nMore"))  # type: ignore[attr-defined]
    machine(Driver(version=13000), jax=jax)
    first = failure("jax")
    assert (first.name, first.detail) == ("import", "RuntimeError: Unknown backend cuda.")
    assert first.hint == 'pip install "jax[cuda13]"'
    assert probe.stages("jax")[-1].ok is None and "compiles whole programs" in probe.stages("jax")[-1].detail


def test_explain_mixed(machine: Callable[..., None]) -> None:
    machine(Driver(), cupy=cupy(asarray=raises(RuntimeError("odd"))))
    line = probe.explain([(library, failure(library)) for library in gpu_libraries()])
    assert line.startswith("CuPy fails at kernel: RuntimeError: odd; reinstall CuPy")
    assert line.endswith(". PyTorch and JAX are not installed")  # repairing CuPy is preferred to installing those
    assert probe.explain([]) == "no array library was tried"


@pytest.mark.parametrize("library", ["numpy", "no such library", ""])
def test_not_a_gpu_library(library: str) -> None:
    (stage,) = probe.stages(library)
    assert stage.ok is False and "does not compute on a GPU" in stage.detail and stage.hint


def test_module_without_spec_does_not_raise(machine: Callable[..., None]) -> None:
    machine(Driver(), cupy=types.ModuleType("cupy"))  # no __spec__: find_spec raises
    assert failure().name == "installed"


def test_warnings_do_not_escape(machine: Callable[..., None]) -> None:
    def warn(values: Any, dtype: Any) -> Any:
        warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
        return np.asarray(values, dtype)

    machine(Driver(), cupy=cupy(asarray=warn))
    assert probe.first_failure(probe.stages("cupy")) is None


def test_without_a_driver_nothing_is_imported(tmp_path: Path) -> None:
    for library in gpu_libraries():
        (tmp_path / f"{library}.py").write_text("raise SystemExit('imported')")
    code = """
import sys
from xpnn.devices import driver
from xpnn.devices import probe
from xpnn.devices.libraries import gpu_libraries
def load(library): raise OSError("No such file")
driver._load = load
assert [probe.first_failure(probe.stages(library)).name for library in gpu_libraries()] == ["driver"] * 3
assert not set(gpu_libraries()) & set(sys.modules)
"""
    path = os.pathsep.join([str(tmp_path), *sys.path])
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": path})
