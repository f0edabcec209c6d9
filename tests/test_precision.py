"""Tests for reduced precision of products."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from cases import draw
from conftest import make_backend
from problem import X, Y, trainer

from xpnn import nn, optim
from xpnn.arrays.matmul import matmul, matmul_precision
from xpnn.devices import driver
from xpnn.devices import precision as precision_module
from xpnn.devices.place import Place, to_numpy, to_place
from xpnn.devices.precision import check_precision
from xpnn.errors import DeviceUnavailableError, InputError
from xpnn.nn.fused import dense
from xpnn.nn.layers.linear import LinearParams
from xpnn.training import Trainer
from xpnn.training.runners.base import compute_scope

X16, W16, B = (draw(name, *shape).astype(np.float32) for name, shape in (("x", (7, 16)), ("w", (16, 5)), ("b", (5,))))


def rounded(x: np.ndarray) -> np.ndarray:
    """Round to 8 significant bits, ties to even."""
    bits = x.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_bf16_rounds_only_the_factors(library: str) -> None:
    pytest.importorskip(library)
    place = make_backend(library).place
    x, w, b = (to_place(part, place) for part in (X16, W16, B))
    with matmul_precision("bf16"):
        got, exact = to_numpy(matmul(x, w, b)), to_numpy(matmul(x, w, b, exact=True))
    wanted = rounded(X16).astype(np.float64) @ rounded(W16) + B
    np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(exact, X16.astype(np.float64) @ W16 + B, rtol=2e-6, atol=2e-6)
    assert abs(got - exact).max() > 1e-3
    assert got.dtype == np.float32


@pytest.mark.parametrize("library", ["torch", "jax"])
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Tanh()])
@pytest.mark.parametrize("columns", [5, 20])
def test_dense_block_uses_the_precision(library: str, activation: Any, columns: int) -> None:
    """The forward and both backward products equal those of factors rounded by hand."""
    W, b = (draw(name, *shape, columns).astype(np.float32) for name, shape in (("w", (16,)), ("b", ())))
    pytest.importorskip(library)
    place = make_backend(library).place
    dy = draw("dy", 7, columns).astype(np.float32)
    layers = (nn.Linear(16, columns), activation)
    x, slope, weight, bias = (to_place(part, place) for part in (X16, dy, W, b))
    params = (LinearParams(weight, bias), ())
    with compute_scope(place, "bf16"):
        y, kept = dense.forward(x, params, layers, None, 0)
        dx, (grads, _) = dense.backward(slope, kept, params, layers, True)
    z = rounded(X16).astype(np.float64) @ rounded(W) + b
    dz = (dy * ((z > 0) if isinstance(activation, nn.ReLU) else 1 - np.tanh(z) ** 2)).astype(np.float32)
    wanted = {
        "y": (y, np.maximum(z, 0) if isinstance(activation, nn.ReLU) else np.tanh(z)),
        "dx": (dx, rounded(dz).astype(np.float64) @ rounded(W).T),
        "dweight": (grads.weight, rounded(X16).astype(np.float64).T @ rounded(dz)),
        "dbias": (grads.bias, dz.sum(axis=0)),
    }
    for name, (got, by_hand) in wanted.items():
        np.testing.assert_allclose(to_numpy(got), by_hand, rtol=2e-3, atol=2e-3, err_msg=name)
        if name != "dbias":  # and closer to that than to products of unrounded factors
            assert abs(to_numpy(got) - by_hand).max() < 1e-3 < abs(unrounded(name, dz, W, b) - by_hand).max(), name


def unrounded(name: str, dz: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    return {"y": X16 @ w + b, "dx": dz @ w.T, "dweight": X16.T @ dz}[name]


def test_trainer_passes_its_precision_on(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jax")
    monkeypatch.setattr("xpnn.training.engine.check_precision", lambda *what: None)
    model, found = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 3)), {}
    for precision in ("fp32", "bf16"):
        place = make_backend("jax").place
        run = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(0.1), precision=precision, device=place)
        found[precision] = run.fit(X.astype(np.float32), Y, epochs=3, batch_size=16).records[-1]["loss"]
    assert 0 < abs(found["bf16"] - found["fp32"]) < 2e-2


def test_unsupported_precision_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        DeviceUnavailableError, match=r"bf16 needs a GPU's tensor cores, and this is the CPU; take fp32"
    ):
        trainer(precision="bf16", dtype="float32").fit(X, Y)
    with pytest.raises(InputError, match="precision: 'fp16' is not one of fp32, tf32, bf16"):
        trainer(precision="fp16")
    with pytest.raises(InputError, match="tf32 is for products of float32, not of float64"):
        trainer(precision="tf32", dtype="float64").fit(X, Y)
    old, new = Place("cupy", None, "cuda", 1), Place("torch", None, "cuda", 0)
    monkeypatch.setattr(precision_module.driver, "capability", lambda index: ((9, 0), (7, 5))[index])
    with pytest.raises(DeviceUnavailableError, match=r"cuda:1 has compute capability 7\.5; take fp32"):
        check_precision("tf32", old, "float32")
    check_precision("tf32", new, "float32")
    check_precision("fp32", old, "float32")


def test_driver_reports_the_compute_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    class Driver:
        def cuDeviceGet(self, device: Any, index: int) -> int:
            device._obj.value = 10 + index
            return 0

        def cuDeviceGetAttribute(self, value: Any, attribute: int, device: ctypes.c_int) -> int:
            assert device.value == 11
            value._obj.value = {75: 8, 76: 6}[attribute]
            return 0

    monkeypatch.setattr(driver, "_load", lambda library: Driver())
    assert driver.capability(1) == (8, 6)
