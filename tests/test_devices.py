"""Tests for places, copies, and the library of returned arrays."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from conftest import Backend, assert_close
from problem import X, Y, trainer

from xpnn.arrays import tree
from xpnn.arrays.namespace import array_namespace, device_of
from xpnn.devices.libraries import library, library_of_array
from xpnn.devices.place import Place, find_place, to_numpy, to_place
from xpnn.errors import DeviceUnavailableError, InputError


def test_copies_are_independent(backend: Backend) -> None:
    """Snapshots and loaded parameters are copies, and data are never written to."""
    x, y = np.array(X), np.array(Y)
    run = trainer(device=backend.place, dtype="float64")
    kept = run.snapshot()
    wanted = trainer(dtype="float64").evaluate(x, y)["loss"]
    run.load(kept)
    for leaf in tree.leaves(kept):
        leaf[...] = 7
    assert abs(run.evaluate(x, y)["loss"] - wanted) < 1e-12
    kept = run.snapshot()
    before = run.evaluate(x, y)
    for leaf in (*tree.leaves(kept), *tree.leaves(run.snapshot())):
        leaf[...] = 7
    assert run.evaluate(x, y) == before
    run.fit(x, y, epochs=1, batch_size=8)
    assert np.array_equal(x, X) and np.array_equal(y, Y)


def test_torch_records_no_autograd_graph_and_jax_keeps_the_state() -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor(X, requires_grad=True)
    run = trainer()
    run.fit(x, torch.tensor(Y), batch_size=8)
    assert not any(leaf.requires_grad for leaf in tree.leaves(run.state))
    assert not run.predict(x).requires_grad
    pytest.importorskip("jax")
    run = trainer(device=find_place("cpu", "jax"), dtype="float32")
    run.evaluate(X, Y)
    before = run.state
    run.fit(X, Y, batch_size=8)
    assert not any(leaf.is_deleted() for leaf in tree.leaves(before))  # it would be lost by an exception in a call


def test_output_library_follows_input(backend: Backend) -> None:
    x = backend.array(X, "float32")
    run = trainer()
    run.fit(x, backend.array(Y), epochs=30, batch_size=8)
    outputs = run.predict(x)
    assert array_namespace(outputs) is backend.xp
    assert device_of(outputs) == backend.place.device
    assert tuple(outputs.shape) == (40, 3) and "float32" in str(outputs.dtype)
    assert np.mean(np.argmax(to_numpy(outputs), axis=1) == Y) > 0.85
    assert run.evaluate(x, backend.array(Y))["accuracy"] == np.mean(np.argmax(to_numpy(outputs), axis=1) == Y)
    leaf = tree.leaves(run.state.params)[0]
    assert library_of_array(leaf).name == backend.library and device_of(leaf) == backend.place.device

    elsewhere = run.predict(X)  # NumPy in, NumPy out, on any device
    assert isinstance(elsewhere, np.ndarray) and elsewhere.dtype == np.float32
    assert_close(elsewhere, to_numpy(outputs))
    assert_close(to_numpy(run.predict(x, batch_size=7)), to_numpy(outputs), ulps=256)


def test_place_copies_by_default(backend: Backend) -> None:
    x = backend.array(X)
    copied = to_place(x, backend.place)
    assert copied is not x and np.array_equal(to_numpy(copied), X)
    assert to_place(x, backend.place, copy=False) is x
    if backend.library in ("numpy", "torch"):
        assert not np.shares_memory(to_numpy(copied), to_numpy(x))
    host = np.array(X)
    there = to_place(host, backend.place)
    host[...] = 7
    assert np.array_equal(to_numpy(there), X)
    assert to_place(X[::-1, ::2], backend.place).shape == (40, 3)  # torch does not support negative strides


def test_host_arrays_are_copied(backend: Backend) -> None:
    """Also if the library would share aligned memory, as JAX does."""
    room = np.zeros(1024 + 16, np.float32)
    first = -room.ctypes.data % 64 // room.itemsize
    host = room[first : first + 1024]
    there = to_place(host, backend.place)
    host[:] = 7.0
    assert np.array_equal(to_numpy(there), np.zeros(1024, np.float32))


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0, 2)], ids=str)
def test_torch_takes_host_arrays_of_any_shape_to_another_device(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    x = np.zeros(shape, np.float32)
    x.setflags(write=False)
    moved = library("torch").from_numpy(x, torch.device("meta"))
    assert (tuple(moved.shape), moved.dtype, moved.device.type) == (shape, torch.float32, "meta")


def test_places_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from xpnn.devices import probe
    from xpnn.devices.driver import Stage

    missing = (Stage("driver", False, "no driver here", "install one"),)
    monkeypatch.setattr(probe, "stages", lambda library, index=0: missing)
    assert find_place("cpu").library == "numpy"
    assert find_place("auto") == Place("numpy", "cpu", "cpu", 0, "no GPU can be used: no driver here; install one")
    assert find_place("cuda").fell_back
    for device, backend, message in [
        ("cuda", "numpy", "computes on the CPU only"),
        ("cpu", "cupy", "computes on a GPU only"),
        ("gpu", "auto", "device: 'gpu' is not one of"),
        ("cuda:x", "auto", "cuda:N"),
        ("cpu:0", "auto", "cuda:N"),
        ("cpu", "numppy", "did you mean 'numpy'"),
    ]:
        with pytest.raises(InputError, match=message):
            find_place(device, backend)
    with pytest.raises(DeviceUnavailableError, match="no driver here; install one"):
        find_place("cuda", fallback=False)
    with pytest.raises(DeviceUnavailableError, match="no driver here"):
        trainer(device="cuda").fit(X, Y)
    with pytest.warns(UserWarning, match="no driver here.*training on the CPU with numpy"):
        trainer(device="auto").fit(X, Y, batch_size=8)
    with warnings.catch_warnings():
        trainer(device="cpu").fit(X, Y, batch_size=8)


def test_jax_without_64_bits() -> None:
    """xpnn does not change JAX's x64 flag; without it float32 works, including masks, and float64 raises."""
    pytest.importorskip("jax")
    code = """
import numpy as np
from xpnn import Trainer, nn, optim, find_place, InputError
x = np.arange(60, dtype=np.float32).reshape(20, 3) / 60; y = np.arange(20) % 2
def run(**options):
    model = nn.MLP(3, 2, (8,), dropout=0.5)
    return Trainer(model, nn.CrossEntropyLoss(), optim.Adam(), **options).fit(x, y, epochs=3, batch_size=8)
jax, numpy = run(device=find_place("cpu", "jax")), run()
for one, other in zip(jax, numpy):
    assert abs(one["loss"] - other["loss"]) < 1e-5, (one, other)
try:
    run(device=find_place("cpu", "jax"), dtype="float64")
except InputError as error:
    assert "jax_enable_x64" in str(error)
else:
    raise SystemExit("float64 was not refused")
"""
    import subprocess
    import sys

    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
