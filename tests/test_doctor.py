"""Tests for `xpnn doctor`: the report, the screen, and the BLAS checks."""

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
from rich.console import Console

import xpnn
from xpnn.cli import doctor as command
from xpnn.cli.terminal.doctor_screen import hints_of
from xpnn.devices import cpu_blas, driver, probe
from xpnn.devices.driver import Stage
from xpnn.devices.libraries import LIBRARIES
from xpnn.devices.place import Place

GOOD = tuple(
    Stage(name, True, "found") for name in ("installed", "driver", "device", "import", "kernel", "matmul", "graph")
)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Provide a clean environment, restored after the test."""
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the stages of the three GPU libraries; those not given count as not installed."""

    def make(**stages: tuple[Stage, ...]) -> None:
        def found(library: str, index: int = 0) -> tuple[Stage, ...]:
            absent = Stage("installed", False, f"{library} is not installed", f"pip install {library}")
            return stages.get(library, (absent, *GOOD[1:3]))

        monkeypatch.setattr(probe, "stages", found)
        monkeypatch.setattr(driver, "gpu_names", lambda: ("Some GPU", "Another"))
        monkeypatch.setattr(command, "_why_plainly", lambda one: "")
        monkeypatch.setattr(command, "_cpu", lambda one: (Stage("cpu", True, "right values"), ["cpu"]))

    return make


def failing(name: str, detail: str, hint: str) -> tuple[Stage, ...]:
    """Passing stages up to the one that fails."""
    at = [stage.name for stage in GOOD].index(name)
    later = (Stage(stage.name, None, f"not tried: {name} failed") for stage in GOOD[at + 1 :])
    return (*GOOD[:at], Stage(name, False, detail, hint), *later)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a subprocess."""
    code = f"from xpnn.cli.doctor import doctor; doctor({', '.join(arguments)})"
    root = str(Path(xpnn.__file__).parents[1])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    known = {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8", "COLUMNS": "80", **environment}
    return subprocess.run([sys.executable, "-c", code], check=True, env=known, capture_output=True, encoding="utf-8")


def test_json_on_this_machine() -> None:
    facts = json.loads(run("True").stdout)  # exactly one JSON object
    assert facts["schema_version"] == 1 and facts["xpnn"] == xpnn.__version__
    libraries = {library["name"]: library for library in facts["libraries"]}
    assert list(libraries) == ["numpy", "cupy", "torch", "jax", "strict"]
    assert libraries["numpy"]["installed"] and libraries["numpy"]["devices"] == ["cpu"]
    for library in facts["libraries"]:
        assert set(library) == {"name", "title", "installed", "version", "devices", "stages"}
        assert library["installed"] == (library["version"] is not None)
        for stage in library["stages"]:
            assert set(stage) == {"name", "ok", "detail", "hint"} and "\n" not in stage["detail"]
    if libraries["strict"]["installed"]:
        assert libraries["strict"]["devices"][:2] == ["CPU_DEVICE", "device1"]
    assert set(facts["gpu"]) == {"usable", "library", "name", "reason", "plainly"} and facts["gpu"]["reason"]
    assert facts["blas"]["name"] and set(facts["fast"]) == {"usable", "numba", "XPNN_FAST", "reason"}


def test_screen_on_this_machine() -> None:
    screen = run("").stdout
    assert max(len(line.rstrip()) for line in screen.splitlines()) <= 80
    assert "\x1b" not in screen  # no color without a terminal
    for word in ("NumPy", "CuPy", "installed", "matmul", "✓ ok", "BLAS:"):
        assert word in screen
    assert "--device cuda " in screen.partition("BLAS:")[2]  # the conclusion comes last


def test_screen_in_ascii() -> None:
    screen = run("", PYTHONIOENCODING="ascii").stdout
    assert "+ ok" in screen and "✓" not in screen


def test_library_output_is_not_part_of_the_report(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(cupy=GOOD)
    monkeypatch.setattr(command, "_blas", lambda: print("hello") or {"name": "openblas"})
    command.doctor(as_json=True)
    printed = capsys.readouterr()
    assert json.loads(printed.out)["blas"] == {"name": "openblas"} and printed.err == "hello\n"


def test_usable_gpu(machine: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    machine(cupy=failing("kernel", "no NVRTC", "mend it"), torch=GOOD)
    facts = command.report()
    assert facts["gpu"]["usable"] and (facts["gpu"]["library"], facts["gpu"]["name"]) == ("torch", "Some GPU")
    assert "PyTorch can use it, while CuPy fails at kernel: no NVRTC; mend it" in facts["gpu"]["reason"]
    devices = {library["name"]: library["devices"] for library in facts["libraries"]}
    assert (devices["cupy"], devices["torch"], devices["jax"]) == ([], ["cpu", "cuda:0", "cuda:1"], [])
    command.doctor()
    assert "✓ --device cuda takes Some GPU: PyTorch can use it" in capsys.readouterr().out


def test_gpu_that_cannot_capture_products(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    why = command._why_plainly
    machine(cupy=GOOD)
    command.doctor()
    assert "training steps run one by one" not in capsys.readouterr().out
    monkeypatch.setattr(command, "_why_plainly", why)
    monkeypatch.setattr(command, "find_place", lambda device, library: Place(library, None, device))
    monkeypatch.setattr(command, "why_not_recorded", lambda place: f"{place.library}: no cublasLt")
    command.doctor()
    assert "! training steps run one by one, not as CUDA graphs: cupy: no cublasLt" in capsys.readouterr().out
    monkeypatch.setenv("XPNN_GRAPH", "0")
    assert command.report()["gpu"]["plainly"] == "XPNN_GRAPH=0"


def test_each_hint_is_shown_once(machine: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    broken = failing("driver", "no driver", "install [a] driver")
    machine(cupy=broken, torch=broken, jax=failing("device", "no device", "install [a] driver"))
    facts = command.report()
    assert hints_of(facts)["install [a] driver"] == [
        "driver (CuPy, PyTorch): no driver",
        "device (JAX): no device",
    ]
    command.doctor()
    screen = capsys.readouterr().out
    assert screen.count("hint: install [a] driver") == 1  # brackets are not markup
    assert screen.index("no driver") < screen.index("no device") < screen.index("hint: install")
    assert (
        "✗ fails" in screen
        and "\u2013 not tried" in screen
        and "✗ --device cuda falls back to the CPU: no driver" in screen
    )


def test_missing_libraries_come_last(machine: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    machine(torch=failing("driver", "no driver", "install a driver"))
    command.doctor()
    screen = capsys.readouterr().out
    assert screen.index("✗ driver (PyTorch): no driver") < screen.index("\u2013 cupy is not installed")
    assert "hint: pip install cupy" in screen and "\u2013 no" in screen


def test_library_that_fails_to_import(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise AttributeError("module compiled against another NumPy\nand more")

    monkeypatch.setattr(command, "find_place", broken)
    stage, devices = command._cpu(LIBRARIES["numpy"])
    assert (stage.ok, stage.detail) == (False, "AttributeError: module compiled against another NumPy")
    assert stage.hint and devices == []


def test_blas_query_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("no such library")

    monkeypatch.setattr(command.threadpoolctl, "threadpool_info", broken)
    facts = command._blas()
    assert "no such library" in facts["warning"] and facts["hint"]


def test_blas_unknown_to_threadpoolctl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.threadpoolctl, "threadpool_info", list)
    facts = command._blas()
    assert facts["name"] and facts["warning"] is None


@pytest.mark.parametrize(
    ("setting", "version", "line"),
    [
        (None, "0.68.1", "✓ compiled loops: numba 0.68.1\n"),
        ("0", "0.68.1", "\u2013 compiled loops: none, as XPNN_FAST=0\n"),
        (None, None, "none, as numba is not installed; pip install 'xpnn[fast]'\n"),
    ],
)
def test_compiled_loops(
    machine: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    setting: str | None,
    version: str | None,
    line: str,
) -> None:
    machine()
    if setting:
        monkeypatch.setenv("XPNN_FAST", setting)
    else:
        monkeypatch.delenv("XPNN_FAST", raising=False)
    monkeypatch.setattr(command, "installed_distributions", lambda names: [("numba", version)] if version else [])
    out = io.StringIO()
    command.show(command.report(), Console(file=out, width=80))
    assert line in "\n".join(text.rstrip() for text in out.getvalue().splitlines()) + "\n"


def test_screen_with_a_long_blas_warning(machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    machine()
    monkeypatch.setattr(cpu_blas, "advice", lambda *_, **__: [("slow", "set A"), ("crowded", "set B")])
    out = io.StringIO()
    command.show(command.report(), Console(file=out, width=80))
    assert "warning: slow; crowded" in out.getvalue() and "hint: set A; set B" in out.getvalue()
