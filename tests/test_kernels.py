"""Tests for dispatch: kernels replace references, decline, and are loaded."""

from __future__ import annotations

import pkgutil
import sys
from typing import Any, NamedTuple

import numpy as np
import pytest
from cases import draw
from conftest import Backend, assert_close, make_backend
from kernel_cases import KERNEL_CASES, KernelCase

import xpnn.kernels
from xpnn.arrays.dispatch import Dispatched, DispatchedPair, dispatched
from xpnn.arrays.namespace import library_of
from xpnn.arrays.random import Key, lanes
from xpnn.devices.buffers import overwrite, write_all
from xpnn.devices.place import to_numpy
from xpnn.nn.fused import aside
from xpnn.nn.losses.cross_entropy import cross_entropy


def test_reference_runs_without_a_kernel(backend: Backend) -> None:
    @dispatched
    def double(x: Any) -> Any:
        """Twice x."""
        return x + x

    x = backend.array(np.ones(3))
    assert np.array_equal(backend.check(double(x), np.ones(3)), [2, 2, 2])
    assert np.array_equal(backend.check(double([x])[0], np.ones(3)), [1, 1, 1])  # a list: twice as long
    assert double.__doc__ == "Twice x."


def test_kernel_replaces_reference_and_may_decline(backend: Backend) -> None:
    @dispatched
    def double(x: Any, *, scale: int = 1) -> Any:
        return x + x

    calls = []

    @double.kernel(library_of(backend.array(np.ones(3))))
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


def brought(value: Any, backend: Backend) -> Any:
    """Move the arrays among the arguments, also in lists and tuples, to the backend."""
    if isinstance(value, Key):
        words = [backend.array(lanes(word, backend.place.lib.lane_dtype)) for word in (*value.words, value.step)]
        return Key((words[0], words[1]), words[2], value.path, value.share)
    if isinstance(value, list):
        return [brought(item, backend) for item in value]
    if isinstance(value, tuple):
        return getattr(value, "_make", tuple)([brought(item, backend) for item in value])
    if isinstance(value, np.ndarray):
        return backend.array(lanes(value, backend.place.lib.lane_dtype) if value.dtype == np.uint32 else value)
    return value


def arrays_in(value: Any) -> list[np.ndarray]:
    if isinstance(value, (list, tuple)):
        return [array for item in value for array in arrays_in(item)]
    return [] if value is None else [to_numpy(value)]


def outcome(case: KernelCase, op: Any, backend: Backend) -> list[np.ndarray]:
    """The function's result, or a pair's output, dx and gradients, with and without need_dx."""
    arguments = brought(case.arguments, backend)
    if isinstance(case.op, Dispatched):
        result = op(*arguments, **case.options)
        return [np.asarray(result)] if isinstance(result, bool) else arrays_in(result)
    y, residuals = op.forward(*arguments)
    if case.op is cross_entropy:
        return arrays_in((y, op.backward(arguments[2], residuals)))
    found = [y]
    for need_dx in (True, False):
        dy = backend.array(draw("dy", *y.shape))
        found.append(op.backward(dy, residuals, arguments[1], arguments[2], need_dx))
    return arrays_in(found)


def assert_matches_reference(case: KernelCase, backend: Backend) -> None:
    """Assert that the kernels of the backend match the reference."""
    bare = type(case.op)(*([case.op.reference] if isinstance(case.op, Dispatched) else case.op.reference))
    for got, wanted in zip(outcome(case, case.op, backend), outcome(case, bare, backend), strict=True):
        if wanted.dtype.kind != "f":
            assert np.array_equal(got, wanted)
        else:
            assert_close(got, wanted, ulps=256)


@pytest.mark.parametrize("case", KERNEL_CASES, ids=lambda case: case.id)
def test_kernel_matches_reference(case: KernelCase, backend: Backend) -> None:
    assert_matches_reference(case, backend)


def test_wrong_kernel_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, case = make_backend("numpy"), next(case for case in KERNEL_CASES if case.id == "sgd-plain")
    wrong = {"numpy": lambda p, g, v, lr, *rest, donate: ([a + lr * b for a, b in zip(p, g, strict=True)], v)}
    monkeypatch.setattr(case.op, "kernels", wrong)
    with pytest.raises(AssertionError):
        assert_matches_reference(case, backend)


def test_every_dispatched_function_has_a_row() -> None:
    found = set()
    for module in [module for name, module in sys.modules.items() if name.startswith("xpnn.")]:
        found |= {id(value) for value in vars(module).values() if isinstance(value, (Dispatched, DispatchedPair))}
    others = {id(overwrite), id(write_all), id(aside)}  # they return no arrays and have separate tests
    assert found == {id(case.op) for case in KERNEL_CASES} | others


class Kept(NamedTuple):
    x: Any


def test_pair_runs_the_backward_that_matches_its_forward() -> None:
    pair = DispatchedPair(lambda x: (x + 1, (x,)), lambda dy, residuals: ("reference", residuals))

    def forward(x: Any) -> Any:
        return NotImplemented if x.ndim == 1 else (x + 1, Kept(x))

    pair.kernel("numpy", forward, lambda dy, residuals: ("kernel", residuals), residuals=Kept)
    for shape, who in (((2, 2), "kernel"), ((2,), "reference")):
        y, residuals = pair.forward(np.zeros(shape))
        assert np.array_equal(y, np.ones(shape))
        assert pair.backward(np.zeros(shape), residuals)[0] == who


def test_kernels_are_loaded_on_the_first_array_of_a_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    from xpnn.arrays import dispatch

    (tmp_path / "numpy.py").write_text("LOADED = True\n")
    monkeypatch.setattr(xpnn.kernels, "__path__", [str(tmp_path)])
    monkeypatch.setattr(dispatch, "_loaded", set())
    monkeypatch.delitem(sys.modules, "xpnn.kernels.numpy", raising=False)

    dispatched(lambda x: x)(np.ones(1))
    assert "xpnn.kernels.numpy" in sys.modules
    monkeypatch.delitem(sys.modules, "xpnn.kernels.numpy")


def test_kernel_modules_are_named_after_libraries() -> None:
    from xpnn.devices.libraries import LIBRARIES

    assert {module.name for module in pkgutil.iter_modules(xpnn.kernels.__path__)} <= {
        "common",
        *(entry.module for entry in LIBRARIES.values()),
    }
