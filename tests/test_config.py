"""Tests for the XPNN_* environment variables."""

from __future__ import annotations

import ast
import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import xpnn
from xpnn import config
from xpnn.arrays import dispatch
from xpnn.devices.place import Place
from xpnn.errors import InputError
from xpnn.training.runners import select
from xpnn.training.runners.base import RunnerSpec

ROOT = Path(xpnn.__file__).parent
CHOICES = [name for name, variable in config.VARIABLES.items() if variable.allowed]


def test_only_config_reads_xpnn_variables() -> None:
    wrong = []
    for path in ROOT.rglob("*.py"):
        if path == ROOT / "config.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Call, ast.Subscript, ast.Compare)) and "XPNN_" in (text := ast.unparse(node)):
                wrong += [f"{path}: {text}"] if re.search("environ|getenv", text) else []
    assert not wrong


def test_every_named_variable_is_known() -> None:
    named = {
        name for path in ROOT.rglob("*.py") for name in re.findall(r"XPNN_[A-Z_]+\b", path.read_text(encoding="utf-8"))
    }
    assert named == set(config.VARIABLES)


@pytest.mark.parametrize("name", CHOICES)
def test_value_is_read_on_use_and_validated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = config.VARIABLES[name]
    monkeypatch.delenv(name, raising=False)
    assert config.get(name) == variable.default and variable.default in variable.allowed and not config.is_set(name)
    for value in variable.allowed:
        monkeypatch.setenv(name, value)
        assert config.get(name) == value and config.is_set(name)
    for value in ("yes", "", " 1"):
        monkeypatch.setenv(name, value)
        *most, last = variable.allowed
        message = f"{name} is {value!r}; expected {', '.join(most)} or {last}"
        for read in (lambda: config.get(name), config.check):
            with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
                read()


def test_folder_may_have_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XPNN_DATA_DIR", "any folder")
    config.check()
    assert config.get("XPNN_DATA_DIR") == "any folder"
    with pytest.raises(KeyError):
        config.get("XPNN_NOTHING")


@pytest.mark.parametrize("name", CHOICES)
def test_command_rejects_a_wrong_value_first(
    name: str, monkeypatch: pytest.MonkeyPatch, run: Callable[..., tuple[int, str, str]]
) -> None:
    monkeypatch.setenv(name, "maybe")
    status, out, err = run("recipes")
    assert (status, out) == (2, "") and f"{name} is 'maybe'; expected" in err and len(err.splitlines()) == 1


def test_library_rejects_a_wrong_value_on_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XPNN_GRAPH", "maybe")
    spec = RunnerSpec(Place("cupy", contextlib.nullcontext(), "cuda"), "float32", None, None, None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="XPNN_GRAPH is 'maybe'; expected 0 or 1"):
        select.make_runner(spec)


def test_invalid_kernel_switch_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_loaded", set())
    monkeypatch.setenv("XPNN_KERNELS", "maybe")
    double = dispatch.dispatched(lambda x: x + x)
    for _ in range(2):
        with pytest.raises(InputError, match="XPNN_KERNELS is 'maybe'; expected 0 or 1"):
            double(np.ones(2))


def test_doctor_lists_variables(run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XPNN_TUNE", "1")
    monkeypatch.delenv("XPNN_GRAPH", raising=False)
    listed = {entry["name"]: entry for entry in json.loads(run("doctor", "--json")[1])["variables"]}
    assert list(listed) == list(config.VARIABLES)
    assert (listed["XPNN_TUNE"]["value"], listed["XPNN_TUNE"]["set"]) == ("1", True)
    assert (listed["XPNN_GRAPH"]["value"], listed["XPNN_GRAPH"]["set"]) == ("1", False)
    assert listed["XPNN_FAST"]["allowed"] == ["auto", "0", "1"] and listed["XPNN_LT"]["meaning"]
    screen = " ".join(run("doctor")[1].split())
    for name, variable in config.VARIABLES.items():
        assert name in screen and variable.meaning.split()[-1] in screen
