"""The seams for speed: how kernels stand in for references, step aside, and are found."""

from __future__ import annotations

import pkgutil
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import Backend

import xpnn.kernels
from xpnn.arrays.accelerate import AcceleratedPair, accelerated


def test_the_reference_runs_where_there_is_no_kernel(backend: Backend) -> None:
    @accelerated
    def double(x: Any) -> Any:
        """Twice x."""
        return x + x

    x = backend.array(np.ones(3))
    assert np.array_equal(backend.check(double(x), np.ones(3)), [2, 2, 2])
    assert np.array_equal(backend.check(double([x])[0], np.ones(3)), [1, 1, 1])  # a list: twice as long
    assert double.__doc__ == "Twice x."


def test_a_kernel_stands_in_for_its_library_and_may_decline(backend: Backend) -> None:
    @accelerated
    def double(x: Any, *, scale: int = 1) -> Any:
        return x + x

    calls = []

    @double.kernel(backend.library)
    def _(x: Any, *, scale: int = 1) -> Any:
        calls.append(scale)
        return NotImplemented if scale > 1 else x * 3

    x = backend.array(np.ones(3))
    assert np.array_equal(backend.check(double(x), np.ones(3)), [3, 3, 3])
    assert np.array_equal(backend.check(double(x, scale=2), np.ones(3)), [2, 2, 2])
    assert calls == [1, 2]
    assert np.array_equal(double.reference(np.ones(3)), [2, 2, 2])
    if backend.library != "numpy":
        assert np.array_equal(double(np.ones(3)), [2, 2, 2])


class Kept(NamedTuple):
    x: Any


def test_a_pair_runs_the_backward_of_whoever_ran_forward() -> None:
    pair = AcceleratedPair(lambda x: (x + 1, (x,)), lambda dy, residuals: ("reference", residuals))

    def forward(x: Any) -> Any:
        return NotImplemented if x.ndim == 1 else (x + 1, Kept(x))

    pair.kernel("numpy", forward, lambda dy, residuals: ("kernel", residuals), residuals=Kept)
    for shape, who in (((2, 2), "kernel"), ((2,), "reference")):
        y, residuals = pair.forward(np.zeros(shape))
        assert np.array_equal(y, np.ones(shape))
        assert pair.backward(np.zeros(shape), residuals)[0] == who


def test_the_kernels_of_a_library_are_loaded_when_its_first_array_is_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    from xpnn.arrays import accelerate

    (tmp_path / "numpy.py").write_text("LOADED = True\n")
    monkeypatch.setattr(xpnn.kernels, "__path__", [str(tmp_path)])
    monkeypatch.setattr(accelerate, "_loaded", set())
    monkeypatch.delitem(__import__("sys").modules, "xpnn.kernels.numpy", raising=False)

    accelerated(lambda x: x)(np.ones(1))
    assert "xpnn.kernels.numpy" in __import__("sys").modules
    monkeypatch.delitem(__import__("sys").modules, "xpnn.kernels.numpy")


def test_kernel_modules_are_named_after_libraries() -> None:
    from xpnn.arrays.namespace import LIBRARIES

    assert {module.name for module in pkgutil.iter_modules(xpnn.kernels.__path__)} <= set(LIBRARIES)
