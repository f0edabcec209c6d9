"""Extreme data and settings on every library: correct results, or an error with a hint."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from conftest import Backend
from problem import X, Y

from xpnn import nn, optim
from xpnn.arrays import random, tree
from xpnn.devices.place import to_numpy
from xpnn.errors import InputError, NonFiniteError
from xpnn.nn.layers.activations import ACTIVATIONS
from xpnn.training import Trainer


def trainer(backend: Backend, model: nn.Layer, loss: Any, optimizer: Any = None, **options: Any) -> Trainer:
    options = {"dtype": "float32", "device": backend.place, **options}
    return Trainer(model, loss, optimizer or optim.SGD(0.1), **options)


@pytest.mark.parametrize("layer", [nn.LayerNorm(6), nn.RMSNorm(6), nn.BatchNorm1d(6)], ids=repr)
def test_overflowing_squares_stop_the_run(layer: Any, backend: Backend) -> None:
    """Otherwise 1 / standard deviation would silently become 0, and all rows equal."""
    run = trainer(backend, nn.Sequential(layer, nn.Linear(6, 3)), nn.CrossEntropyLoss())
    with pytest.raises(NonFiniteError, match=r"loss is not finite at step 1 .*scale the features"):
        run.fit(1e25 * X, Y, batch_size=40)


def test_remainder_of_one_row_keeps_the_running_variance(backend: Backend) -> None:
    """One row has no variance; counting it as 0 would halve the running variance for batches of 8 and 1."""
    model = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3))
    run = trainer(backend, model, nn.CrossEntropyLoss(), optim.SGD(0.01), dtype="float64")
    run.fit(X[:9], Y[:9], batch_size=8, epochs=100, shuffle=False)
    found = run.snapshot()[0]
    np.testing.assert_allclose(found.running_var.value, X[:8].var(axis=0, ddof=1), rtol=1e-3)
    share = 0.1 / (1 - 0.9**2)  # the running mean does include the last row
    np.testing.assert_allclose(found.running_mean.value, (1 - share) * X[:8].mean(axis=0) + share * X[8], atol=1e-3)


def test_one_row_and_one_class(backend: Backend) -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    run = trainer(backend, model, nn.CrossEntropyLoss())
    losses = run.fit(X[:1], [0], batch_size=1, epochs=20).history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    assert run.evaluate(X[:1], [0])["accuracy"] == 1
    with pytest.raises(InputError, match=r"1 output, but a classification loss expects one per class, at least 2"):
        trainer(backend, nn.Linear(6, 1), nn.CrossEntropyLoss()).fit(X[:1], [0])


READERS = [nn.BatchNorm1d(6), nn.LayerNorm(6), nn.RMSNorm(6), nn.Dropout(0.5), nn.Softmax(), nn.LogSoftmax()]
READERS += [nn.Residual(nn.Linear(6, 6)), nn.Flatten(), nn.Linear(6, 6), nn.Scale(0.5), nn.Standardize.fit(X)]
READERS += [make() for make in ACTIVATIONS.values()]


@pytest.mark.parametrize("layer", READERS, ids=lambda layer: type(layer).__name__)
@pytest.mark.parametrize("dtype", ["uint8", "bool", "int64"])
def test_every_first_layer_accepts_integers(layer: Any, dtype: str, backend: Backend) -> None:
    """In uint8, −|x| is not negative and squares wrap; some libraries have no mean of integers."""
    x = np.abs(20 * X).astype(dtype)
    run = trainer(backend, nn.Sequential(nn.Flatten(), layer, nn.Linear(6, 3)), nn.CrossEntropyLoss())
    got = run.predict(backend.array(x))
    wanted = run.predict(x.astype("float32"))
    np.testing.assert_allclose(backend.check(got, wanted), wanted, rtol=1e-6)


def test_integers_do_not_widen_parameters(backend: Backend) -> None:
    x = np.abs(20 * X).astype("uint8")
    model = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3))
    one, other = (trainer(backend, model, nn.CrossEntropyLoss()) for _ in range(2))
    losses = [run.fit(z, Y, batch_size=16, epochs=2).history["loss"] for run, z in ((one, x), (other, x * 1.0))]
    assert losses[0] == losses[1]
    assert {str(leaf.dtype).rpartition(".")[2] for leaf in tree.leaves(one.state.params)} == {"float32"}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_float16_inputs_train_as_float32(dtype: str, backend: Backend) -> None:
    name = {"torch": "torch", "jax": "jax.numpy", "numpy": "numpy", "cupy": "cupy"}.get(backend.library, "")
    library = pytest.importorskip(name) if name else None
    if not hasattr(library, dtype):
        pytest.skip(f"{backend.library} has no {dtype}")

    def narrow(z: np.ndarray) -> Any:
        return backend.xp.astype(backend.array(z, "float32"), getattr(library, dtype))

    def wide(z: Any) -> np.ndarray:
        return to_numpy(backend.xp.astype(z, backend.xp.float32))

    x, y, weight = narrow(X), narrow(X[:, :2]), narrow(np.abs(X[:, 3]))
    one, other = (trainer(backend, nn.Linear(6, 2), nn.MSELoss(), dtype=None) for _ in range(2))
    got = one.fit(x, y, batch_size=16, sample_weight=weight).records[0]["loss"]
    assert got == other.fit(wide(x), wide(y), batch_size=16, sample_weight=wide(weight)).records[0]["loss"]
    assert np.array_equal(to_numpy(one.predict(x)), to_numpy(other.predict(wide(x))))
    assert "float32" in str(one.state.params.weight.dtype)
    with pytest.raises(InputError, match=r"x\[3, 2\] is nan \(1 of 240 values"):
        one.fit(narrow(np.where(np.arange(240).reshape(40, 6) == 20, math.nan, X)), y)


def test_single_positive_weight_selects_its_row(backend: Backend) -> None:
    weight = np.where(np.arange(40) == 17, 1e-20, 0.0)
    for loss, y in ((nn.CrossEntropyLoss((0.5, 2.0, 1.0), 0.1), Y), (nn.HuberLoss(), X[:, :3])):
        one = trainer(backend, nn.Linear(6, 3), loss, dtype="float64")
        other = Trainer(nn.Linear(6, 3), loss, optim.SGD(0.1), dtype="float64")
        got = one.fit(X, y, batch_size=40, sample_weight=weight, epochs=2).history["loss"]
        np.testing.assert_allclose(
            got, other.fit(X[17:18], y[17:18], batch_size=1, epochs=2).history["loss"], rtol=1e-12
        )
        for a, b in zip(tree.leaves(one.snapshot()), tree.leaves(other.snapshot()), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


def fitted(loss: Any, y: Any, x: Any = X, model: Any = None, weight: Any = None, optimizer: Any = None) -> Any:
    def fit(backend: Backend) -> None:
        run = trainer(backend, model or nn.Linear(6, 3), loss, optimizer)
        run.fit(x, y, batch_size=16, sample_weight=weight)

    return fit


CE, MSE = nn.CrossEntropyLoss(), nn.MSELoss()
REFUSED = {
    "targets": (fitted(MSE, 1e300 * X[:, :3]), InputError, "^y holds values too large for float32; scale them first"),
    "weights-huge": (fitted(CE, Y, weight=np.full(40, 1e38)), InputError, "add up to inf in float32.*scale sample_w"),
    "weights-tiny": (fitted(CE, Y, weight=np.full(40, 1e-50)), InputError, "add up to 0 in float32.*scale sample_w"),
    "class-weights": (fitted(nn.CrossEntropyLoss((0, 1, 1)), 0 * Y), InputError, "add up to 0 .*class_weight of"),
    "class-weight-huge": (fitted(nn.CrossEntropyLoss((1e39, 1, 1)), Y), InputError, r"the value 1e\+39, too large"),
    "scale": (fitted(CE, Y, model=nn.Sequential(nn.Scale(1e300), nn.Linear(6, 3))), InputError, r"the value 1e\+300"),
    "standardize": (
        fitted(CE, Y, 1e-40 * X, nn.Sequential(nn.Standardize.fit(1e-40 * X), nn.Linear(6, 3))),
        InputError,
        "too large for float32: scale the features, or train in float64",
    ),
    "squares": (fitted(MSE, X[:, :3], 1e30 * X), NonFiniteError, "loss is not finite at step 1 .*scale the features"),
    "moments": (  # the weights do not change, and the loss stays finite
        fitted(CE, Y, 1e30 * X, optimizer=optim.Adam(0.1)), NonFiniteError,
        r"optimizer's v\.weight are not finite|loss is not finite at step 2",  # torch's fused Adam makes NaN of inf
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_values_out_of_range_of_the_dtype_raise(case: str, backend: Backend) -> None:
    run, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        run(backend)


def test_ignored_labels_out_of_range_of_int32() -> None:
    for wrong in (2**31, -(2**31) - 1, 2**40):
        for loss in (nn.CrossEntropyLoss, nn.NLLLoss):
            with pytest.raises(InputError, match=f"ignore_index is {wrong}; expected an int32: labels are stored as"):
                loss(ignore_index=wrong)
    assert nn.NLLLoss(ignore_index=-(2**31)).ignore_index == -(2**31)


def test_no_warning_without_rows() -> None:
    run = Trainer(nn.Linear(6, 3), CE, optim.SGD())
    for ask in (lambda: run.evaluate(X[:0], Y[:0]), lambda: run.predict(X[:0]), lambda: run.predict(X[:, :0])):
        with pytest.raises(InputError, match="it is empty; expected at least one row and one feature"):
            ask()


@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_first_and_last_row_of_a_table(dtype: str, backend: Backend) -> None:
    layer = nn.Embedding(256, 2)
    params = layer.init(random.key(0, "init"))
    placed, x = backend.tree(params), backend.array(np.array([[0, 255], [255, 255]], dtype))
    y, residuals = layer.forward(placed, x)
    assert np.array_equal(to_numpy(y), params.weight[np.array([[0, 255], [255, 255]])])
    grad = to_numpy(layer.backward(placed, residuals, backend.array(np.ones((2, 2, 2))))[1].weight)
    assert grad[0].tolist() == [1, 1] and grad[255].tolist() == [3, 3] and not grad[1:255].any()
    run = trainer(backend, nn.Sequential(layer, nn.Flatten(), nn.Linear(4, 3)), CE)
    limits = np.iinfo("int64")
    for wrong in (limits.max, limits.min, -1, 256):
        with pytest.raises(InputError, match=rf"x\[1, 0\] = {wrong}, but Embedding\(256, 2\) has rows 0…255"):
            run.predict(np.array([[0, 255], [wrong, 3]]))
