"""Every hand-derived gradient against finite differences in float64, and against PyTorch's autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import LAYERS, LOSSES, LayerCase, LossCase, draw, params_of
from conftest import assert_close, eps

from xpnn.arrays import random, tree

H = eps("float64") ** (1 / 3)  # balances truncation, H², against rounding, eps / H: both about 4e-11
KEY = random.key(3, "dropout")


def differences(f: Callable[[np.ndarray], float], x: np.ndarray) -> np.ndarray:
    """∂f/∂x by central differences."""
    slope = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += H
        down[i] -= H
        slope[i] = (f(up) - f(down)) / (2 * H)
    return slope


def assert_slopes(got: np.ndarray, wanted: np.ndarray) -> None:
    scale = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1000 * H**2 * scale)


def by_id(case: Any) -> str:
    return case.id


@pytest.mark.parametrize("case", LAYERS, ids=by_id)
def test_layer_against_finite_differences(case: LayerCase) -> None:
    params, key = params_of(case.layer), KEY if case.training else None
    y, residuals = case.layer.forward(params, case.x, key=key)
    dy = draw("dy", *y.shape)
    dx, grads = case.layer.backward(params, residuals, dy)

    def loss(params: Any, x: np.ndarray) -> float:
        return float(np.sum(case.layer.forward(params, x, key=key)[0] * dy))

    assert dx is not None
    assert_slopes(dx, differences(lambda x: loss(params, x), case.x))
    trained = tree.trained(params)
    leaves = tree.leaves(trained)
    for i, grad in enumerate(tree.leaves(tree.trained(grads))):

        def at(leaf: np.ndarray, i: int = i) -> float:
            moved = tree.rebuild(trained, [*leaves[:i], leaf, *leaves[i + 1 :]])
            return loss(tree.merge(moved, params), case.x)

        assert_slopes(grad, differences(at, leaves[i]))


@pytest.mark.parametrize("case", LAYERS, ids=by_id)
def test_layer_without_dx_has_the_same_gradients(case: LayerCase) -> None:
    params, key = params_of(case.layer), KEY if case.training else None
    y, residuals = case.layer.forward(params, case.x, key=key)
    dy = draw("dy", *y.shape)
    _, wanted = case.layer.backward(params, residuals, dy)
    _, got = case.layer.backward(params, residuals, dy, need_dx=False)
    assert type(got) is type(wanted)
    for one, other in zip(tree.leaves(got), tree.leaves(wanted), strict=True):
        assert_close(one, other, ulps=0)


@pytest.mark.parametrize("case", [case for case in LAYERS if case.torch], ids=by_id)
def test_layer_against_torch(case: LayerCase) -> None:
    torch = pytest.importorskip("torch")
    assert case.torch is not None
    params = params_of(case.layer)
    y, residuals = case.layer.forward(params, case.x)
    dy = draw("dy", *y.shape)
    dx, grads = case.layer.backward(params, residuals, dy)

    x = torch.tensor(case.x, requires_grad=True)
    leaves = [torch.tensor(leaf, requires_grad=True) for leaf in tree.leaves(params)]
    wanted = case.torch(torch, leaves, x)
    wanted.backward(torch.tensor(dy))
    assert_close(y, wanted.detach().numpy())
    assert_close(dx, x.grad.numpy())
    carried = {id(leaf) for leaf in tree.leaves(params)} - {id(leaf) for leaf in tree.leaves(tree.trained(params))}
    oracle = [t for t, leaf in zip(leaves, tree.leaves(params), strict=True) if id(leaf) not in carried]
    for grad, leaf in zip(tree.leaves(tree.trained(grads)), oracle, strict=True):
        assert_close(grad, leaf.grad.numpy())


@pytest.mark.parametrize("case", LOSSES, ids=by_id)
def test_loss_against_finite_differences(case: LossCase) -> None:
    constants = case.loss.init()

    def value(prediction: np.ndarray) -> float:
        return float(case.loss.forward(constants, prediction, case.target, case.weight)[0])

    _, residuals = case.loss.forward(constants, case.prediction, case.target, case.weight)
    got = case.loss.backward(constants, residuals)
    wanted = differences(value, case.prediction)
    # The loss at logits of 1e4 is itself near 1e4, and so is the rounding that the differences see.
    scale = max(1.0, abs(value(case.prediction)))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1000 * H**2 * scale)


@pytest.mark.parametrize("case", LOSSES, ids=by_id)
def test_loss_against_torch(case: LossCase) -> None:
    torch = pytest.importorskip("torch")
    constants = case.loss.init()
    value, residuals = case.loss.forward(constants, case.prediction, case.target, case.weight)
    z = torch.tensor(case.prediction, requires_grad=True)
    weight = None if case.weight is None else torch.tensor(case.weight)
    wanted = case.torch(torch, z, torch.tensor(case.target), weight)
    wanted.backward()
    assert_close(np.asarray(value), wanted.detach().numpy())
    assert_close(case.loss.backward(constants, residuals), z.grad.numpy())
