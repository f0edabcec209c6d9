"""xpnn doctor: the report, the screen, and what it says about the CPU's BLAS."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import xpnn
from xpnn.arrays import blas, device, probe
from xpnn.arrays.driver import Stage
from xpnn.cli import doctor as command

AVX2 = "fpu avx avx2 fma"
AVX512 = f"{AVX2} avx512f avx512cd avx512bw avx512dq avx512vl"
GOOD = tuple(
    Stage(name, True, "found") for name in ("installed", "driver", "device", "import", "kernel", "matmul", "graph")
)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain environment, whatever the machine's own is; what the command sets in it is undone."""
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the stages of the three GPU libraries; those not given are not installed."""

    def make(**stages: tuple[Stage, ...]) -> None:
        def found(library: str, index: int = 0) -> tuple[Stage, ...]:
            absent = Stage("installed", False, f"{library} is not installed", f"pip install {library}")
            return stages.get(library, (absent, *GOOD[1:3]))

        monkeypatch.setattr(probe, "stages", found)
        monkeypatch.setattr(command, "gpu_names", lambda: ("Some GPU", "Another"))
        monkeypatch.setattr(command, "_cpu", lambda name, title: (Stage("cpu", True, "right values"), ["cpu"]))

    return make


def failing(name: str, detail: str, cure: str) -> tuple[Stage, ...]:
    """Good stages up to the one that fails."""
    at = [stage.name for stage in GOOD].index(name)
    later = (Stage(stage.name, None, f"not tried: {name} failed") for stage in GOOD[at + 1 :])
    return (*GOOD[:at], Stage(name, False, detail, cure), *later)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    code = f"from xpnn.cli.doctor import doctor; doctor({', '.join(arguments)})"
    root = str(Path(xpnn.__file__).parents[1])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    known = {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8", "COLUMNS": "80", **environment}
    return subprocess.run([sys.executable, "-c", code], check=True, env=known, capture_output=True, encoding="utf-8")


def test_json_of_this_machine() -> None:
    facts = json.loads(run("True").stdout)  # one object and nothing else
    assert facts["schema_version"] == 1 and facts["xpnn"] == xpnn.__version__
    libraries = {library["name"]: library for library in facts["libraries"]}
    assert list(libraries) == ["numpy", "cupy", "torch", "jax", "strict"]
    assert libraries["numpy"]["installed"] and libraries["numpy"]["devices"] == ["cpu"]
    for library in facts["libraries"]:
        assert set(library) == {"name", "title", "installed", "version", "devices", "stages"}
        assert library["installed"] == (library["version"] is not None)
        for stage in library["stages"]:
            assert set(stage) == {"name", "ok", "detail", "cure"} and "\n" not in stage["detail"]
    if libraries["strict"]["installed"]:
        assert libraries["strict"]["devices"][:2] == ["CPU_DEVICE", "device1"]
    assert set(facts["gpu"]) == {"usable", "library", "name", "reason"} and facts["gpu"]["reason"]
    assert facts["blas"]["name"]


def test_screen_of_this_machine() -> None:
    screen = run("").stdout
    assert max(len(line.rstrip()) for line in screen.splitlines()) <= 80
    assert "\x1b" not in screen  # no colour where no terminal is
    for word in ("NumPy", "CuPy", "installed", "matmul", "✓ ok", "BLAS:"):
        assert word in screen
    assert "--device cuda " in screen.partition("BLAS:")[2]  # the verdict comes last


def test_screen_in_ascii() -> None:
    screen = run("", PYTHONIOENCODING="ascii").stdout
    assert "+ ok" in screen and "✓" not in screen


def test_what_a_library_prints_is_no_part_of_the_report(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(cupy=GOOD)
    monkeypatch.setattr(command, "_blas", lambda: print("hello") or {"name": "openblas"})
    command.doctor(as_json=True)
    printed = capsys.readouterr()
    assert json.loads(printed.out)["blas"] == {"name": "openblas"} and printed.err == "hello\n"


def test_a_usable_gpu(machine: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    machine(cupy=failing("kernel", "no NVRTC", "mend it"), torch=GOOD)
    facts = command.report()
    assert facts["gpu"]["usable"] and (facts["gpu"]["library"], facts["gpu"]["name"]) == ("torch", "Some GPU")
    assert "PyTorch can use it, while CuPy fails at kernel: no NVRTC; mend it" in facts["gpu"]["reason"]
    devices = {library["name"]: library["devices"] for library in facts["libraries"]}
    assert (devices["cupy"], devices["torch"], devices["jax"]) == ([], ["cpu", "cuda:0", "cuda:1"], [])
    command.doctor()
    assert "✓ --device cuda takes Some GPU: PyTorch can use it" in capsys.readouterr().out


def test_each_cure_once(machine: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    broken = failing("driver", "no driver", "install [a] driver")
    machine(cupy=broken, torch=broken, jax=failing("device", "no device", "install [a] driver"))
    facts = command.report()
    assert command._cures(facts)["install [a] driver"] == [
        "driver (CuPy, PyTorch): no driver",
        "device (JAX): no device",
    ]
    command.doctor()
    screen = capsys.readouterr().out
    assert screen.count("cure: install [a] driver") == 1  # brackets are no markup
    assert screen.index("no driver") < screen.index("no device") < screen.index("cure: install")
    assert (
        "✗ fails" in screen
        and "\u2013 not tried" in screen
        and "✗ --device cuda falls back to the CPU: no driver" in screen
    )


def test_what_is_not_installed_comes_last(machine: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    machine(torch=failing("driver", "no driver", "install a driver"))
    command.doctor()
    screen = capsys.readouterr().out
    assert screen.index("✗ driver (PyTorch): no driver") < screen.index("\u2013 cupy is not installed")
    assert "cure: pip install cupy" in screen and "\u2013 no" in screen


def test_a_library_that_breaks_at_import(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise AttributeError("module compiled against another NumPy\nand more")

    monkeypatch.setattr(device, "find_place", broken)
    stage, devices = command._cpu("numpy", "NumPy")
    assert (stage.ok, stage.detail) == (False, "AttributeError: module compiled against another NumPy")
    assert stage.cure and devices == []


def test_blas_that_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("no such library")

    monkeypatch.setattr(command.threadpoolctl, "threadpool_info", broken)
    facts = command._blas()
    assert "no such library" in facts["warning"] and facts["cure"]


def test_blas_unknown_to_threadpoolctl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.threadpoolctl, "threadpool_info", list)
    facts = command._blas()
    assert facts["name"] and facts["warning"] is None


@pytest.mark.parametrize(
    ("flags", "kernels", "forced", "warning", "cure"),
    [
        (AVX512, "SkylakeX", None, None, None),
        (AVX512, "Cooperlake", None, None, None),
        (AVX512, "SomethingNewer", None, None, None),
        (AVX512, "Haswell", None, "older one", "set OPENBLAS_CORETYPE=SkylakeX"),
        (AVX512, "Zen", None, "half speed", "set OPENBLAS_CORETYPE=SkylakeX"),
        (AVX512, "Haswell", "Haswell", "OPENBLAS_CORETYPE=Haswell holds", "unset OPENBLAS_CORETYPE"),
        (AVX512.replace(" avx512vl", ""), "Haswell", None, None, None),
        (AVX2, "Haswell", None, None, None),
        (AVX2, "Prescott", None, "has AVX2", "set OPENBLAS_CORETYPE=Haswell"),
        ("fpu sse2", "Prescott", None, None, None),
    ],
)
def test_kernels_slower_than_the_cpu(
    monkeypatch: pytest.MonkeyPatch, flags: str, kernels: str, forced: str | None, warning: str | None, cure: str | None
) -> None:
    monkeypatch.setattr(blas, "_cpuinfo", lambda: {"flags": flags})
    if forced:
        monkeypatch.setenv("OPENBLAS_CORETYPE", forced)
    advice = blas.advice("openblas", "0.3.31", kernels, 1)
    if warning is None or cure is None:
        assert advice == []
    else:
        ((why, what),) = advice
        assert warning in why and "OpenBLAS 0.3.31" in why and cure in what
    assert blas.advice("mkl", "2025", kernels, 1) == []  # chooses for itself


def test_kernels_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    for found, best in (
        (["X86_V4"], "SkylakeX"),
        (["AVX512_SKX"], "SkylakeX"),
        (["AVX2"], "Haswell"),
        (["NEON"], None),
    ):
        monkeypatch.setattr(blas, "_cpuinfo", dict)
        monkeypatch.setattr(np, "show_config", lambda mode, found=found: {"SIMD Extensions": {"found": found}})
        assert blas.best_kernels() == best


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000\n", 4), ("", 4), ("150000 100000\n", 2), ("1000 100000\n", 1)]
)
def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch, quota: str, cores: int) -> None:
    monkeypatch.setattr(blas, "_cpuinfo", lambda: {"flags": ""})
    monkeypatch.setattr(blas, "_read", lambda path: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)), raising=False)
    assert blas.usable_cores() == cores
    assert blas.advice("openblas", "0.3.31", "Haswell", cores) == []
    ((why, what),) = blas.advice("openblas", "0.3.31", "Haswell", cores + 1)
    assert f"{cores + 1} BLAS threads share {cores} usable cores" in why and f"OPENBLAS_NUM_THREADS={cores}" in what
    assert "MKL_NUM_THREADS" in blas.advice("mkl", "", "", 9)[0][1]


def test_the_cpu_has_a_name() -> None:
    assert blas.cpu_model()


def test_screen_of_a_long_blas_warning(machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    machine()
    monkeypatch.setattr(blas, "advice", lambda *_: [("slow", "set A"), ("crowded", "set B")])
    out = io.StringIO()
    command._show(command.report(), command.Console(file=out, width=80))
    assert "warning: slow; crowded" in out.getvalue() and "cure: set A; set B" in out.getvalue()
