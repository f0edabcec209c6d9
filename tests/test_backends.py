"""Every row of the table on every array library: NumPy's numbers, in the input's own library, dtype and device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import LAYERS, LOSSES, OPTIMIZERS, LayerCase, LossCase, OptimizerCase, draw, params_of
from conftest import Backend, assert_close

from xpnn import nn
from xpnn.arrays import random, tree
from xpnn.arrays.random import Key, lanes

DTYPES = ("float64", "float32")


def by_id(case: Any) -> str:
    return case.id


def key_on(backend: Backend, key: Key) -> Key:
    k0, k1, step = (backend.array(lanes(word, backend.place.lib.lane_dtype)) for word in (*key.words, key.step))
    return Key((k0, k1), step)


def same_trees(backend: Backend, got: Any, wanted: Any) -> None:
    for one, other in zip(tree.leaves(got), tree.leaves(wanted), strict=True):
        assert_close(backend.check(one, other), other)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", LAYERS, ids=by_id)
def test_layer(case: LayerCase, dtype: str, backend: Backend) -> None:
    host = tree.map(lambda leaf: leaf.astype(dtype), params_of(case.layer))
    x, key = case.x, random.key(3, "dropout") if case.training else None
    if x.dtype.kind == "f":
        x = x.astype(dtype)
    y, residuals = case.layer.forward(host, x, key=key)
    dy = draw("dy", *y.shape).astype(dtype)
    dx, grads = case.layer.backward(host, residuals, dy)

    params = backend.tree(host, dtype)
    there = None if key is None else key_on(backend, key)
    y_there, residuals = case.layer.forward(params, backend.array(x), key=there)
    assert_close(backend.check(y_there, y), y)
    dx_there, grads_there = case.layer.backward(params, residuals, backend.array(dy))
    assert (dx is None) == (dx_there is None) == (x.dtype.kind != "f")  # integers have no gradient
    if dx is not None:
        assert_close(backend.check(dx_there, dx), dx)
    same_trees(backend, grads_there, grads)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", LOSSES, ids=by_id)
def test_loss(case: LossCase, dtype: str, backend: Backend) -> None:
    def as_dtype(x: np.ndarray | None) -> np.ndarray | None:
        return x.astype(dtype) if x is not None and x.dtype.kind == "f" else x

    inputs = [as_dtype(x) for x in (case.prediction, case.target, case.weight)]
    host = tree.map(lambda leaf: leaf.astype(dtype), case.loss.init())
    value, residuals = case.loss.forward(host, *inputs)
    wanted = case.loss.backward(host, residuals)

    there = [None if x is None else backend.array(x) for x in inputs]
    constants = backend.tree(host, dtype)
    value_there, residuals = case.loss.forward(constants, *there)
    assert_close(backend.check(value_there, value), np.asarray(value))
    assert_close(backend.check(case.loss.backward(constants, residuals), wanted), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", OPTIMIZERS, ids=by_id)
def test_optimizer(case: OptimizerCase, dtype: str, backend: Backend) -> None:
    start = tuple(draw(name, *shape).astype(dtype) for name, shape in (("a", (3, 2)), ("b", (2,))))

    def run(params: Any, lr: Any, convert: Any) -> tuple[Any, Any]:
        state = case.optimizer.init(params)
        for i in range(5):
            grads = convert(tuple(draw(f"g{i}", *leaf.shape).astype(dtype) for leaf in start))
            params, state = case.optimizer.update(params, grads, state, lr)
        return params, state

    lr = np.asarray(0.1, dtype=dtype)
    params, state = run(start, lr, lambda grads: grads)
    there = run(backend.tree(start, dtype), backend.array(lr), lambda grads: backend.tree(grads, dtype))
    same_trees(backend, there[0], params)
    same_trees(backend, there[1], state)


@pytest.mark.parametrize("case", OPTIMIZERS, ids=by_id)
def test_optimizer_step_by_step_with_torch(case: OptimizerCase) -> None:
    torch = pytest.importorskip("torch")
    params = tuple(draw(name, *shape) for name, shape in (("a", (3, 2)), ("b", (2,))))
    state = case.optimizer.init(params)
    oracle = [torch.tensor(leaf, requires_grad=True) for leaf in params]
    theirs = case.torch(torch, oracle)
    lr = np.asarray(case.optimizer.lr)
    for i in range(30):
        grads = tuple(draw(f"g{i}", *leaf.shape) for leaf in params)
        for leaf, grad in zip(oracle, grads, strict=True):
            leaf.grad = torch.tensor(grad)
        theirs.step()
        params, state = case.optimizer.update(params, grads, state, lr)
        for ours, leaf in zip(params, oracle, strict=True):
            assert_close(ours, leaf.detach().numpy())


def test_bytes_and_other_numbers_are_computed_in_the_dtype_of_the_weights(backend: Backend) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Scale(1 / 255), nn.Linear(4, 2))
    host = tree.map(lambda leaf: leaf.astype("float32"), params_of(model))
    images = np.arange(24, dtype=np.uint8).reshape(6, 2, 2) * 10
    wanted, _ = model.forward(host, images)
    assert wanted.dtype == np.float32
    y, residuals = model.forward(backend.tree(host, "float32"), backend.array(images))
    assert_close(backend.check(y, wanted), wanted)
    dx, _ = model.backward(backend.tree(host, "float32"), residuals, y, need_dx=False)
    assert dx is None
    for dtype in ("int32", "float64"):
        linear = nn.Linear(4, 2)
        y, _ = linear.forward(backend.tree(host[2], "float32"), backend.array(np.ones((3, 4)), dtype))
        backend.check(y, np.zeros((3, 2), "float32"))
