"""Compare every hand-derived gradient with PyTorch's autograd; edge cases of the formulas.

`test_backends.py` compares with finite differences.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from cases import LAYERS, LOSSES, LayerCase, LossCase, draw, params_of
from conftest import Backend, assert_close, eps

from xpnn import nn
from xpnn.arrays import random, tree
from xpnn.arrays.special import erfc, sign
from xpnn.devices.place import to_numpy
from xpnn.nn.layers.activations import ACTIVATIONS

KEY = random.key(3, "dropout")


def by_id(case: Any) -> str:
    return case.id


@pytest.mark.parametrize("case", [case for case in LAYERS if case.torch], ids=by_id)
def test_layer_against_torch(case: LayerCase) -> None:
    torch = pytest.importorskip("torch")
    assert case.torch is not None
    params = params_of(case.layer)
    y, residuals = case.layer.forward(params, case.x, key=KEY if case.training else None)
    dy = draw("dy", *y.shape)
    dx, grads = case.layer.backward(params, residuals, dy)

    x = torch.tensor(case.x, requires_grad=case.x.dtype.kind == "f")
    leaves = [torch.tensor(leaf, requires_grad=True) for leaf in tree.leaves(params)]
    wanted = case.torch(torch, leaves, x)
    wanted.backward(torch.tensor(dy))
    assert_close(y, wanted.detach().numpy())
    if x.requires_grad:
        assert_close(dx, x.grad.numpy())
    carried = {id(leaf) for leaf in tree.leaves(params)} - {id(leaf) for leaf in tree.leaves(tree.trained(params))}
    oracle = [t for t, leaf in zip(leaves, tree.leaves(params), strict=True) if id(leaf) not in carried]
    for grad, leaf in zip(tree.leaves(tree.trained(grads)), oracle, strict=True):
        assert_close(grad, leaf.grad.numpy())


@pytest.mark.parametrize("case", LOSSES, ids=by_id)
def test_loss_against_torch(case: LossCase) -> None:
    torch = pytest.importorskip("torch")
    constants = case.loss.init()
    value, residuals = case.loss.forward(constants, case.prediction, case.target, case.weight)
    z = torch.tensor(case.prediction, requires_grad=True)
    weight = None if case.weight is None else torch.tensor(case.weight)
    wanted = case.torch(torch, z, torch.tensor(case.target), weight)
    wanted.sum().backward()
    assert_close(np.asarray(value), wanted.detach().numpy())
    assert_close(case.loss.backward(constants, residuals), z.grad.numpy())


class Untouchable:
    """A weight that supports `x @ weight` but raises on `weight.T`."""

    __array_ufunc__ = None  # so that `x @ self` calls __rmatmul__

    def __init__(self, weight: np.ndarray) -> None:
        self.weight, self.dtype = weight, weight.dtype

    def __rmatmul__(self, x: np.ndarray) -> np.ndarray:
        return x @ self.weight

    @property
    def T(self) -> Any:
        raise AssertionError("computed a dx that nobody needs")


def test_first_trained_layer_computes_no_dx() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Scale(0.5), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    params = list(params_of(model))
    params[2] = params[2]._replace(weight=Untouchable(params[2].weight))
    _, residuals = model.forward(tuple(params), draw("x", 4, 5))
    dx, grads = model.backward(tuple(params), residuals, np.ones((4, 3)), need_dx=False)
    assert dx is None and grads[2].weight.shape == (5, 4)
    with pytest.raises(AssertionError, match="nobody needs"):
        model.backward(tuple(params), residuals, np.ones((4, 3)))


def test_dropout_scales_kept_values_and_redraws_each_step_and_path() -> None:
    x = np.ones((50, 40))
    layer, key = nn.Dropout(0.25), random.key(0, "dropout")
    y, _ = layer.forward((), x, key=key)
    assert set(np.unique(y)) == {0.0, 1 / 0.75} and abs(y.mean() - 1) < 0.05
    later = key._replace(step=np.array([1], np.uint32))
    others = [layer.forward((), x, key=other)[0] for other in (later, key.child(1), random.key(1, "dropout"))]
    assert not any(np.array_equal(y, other) for other in others)
    two = nn.Sequential(nn.Dropout(0.25), nn.Dropout(0.25), nn.Dropout(0.25))
    _, (first, second, third) = two.forward(((), (), ()), x, key=key)
    assert not np.array_equal(first, second) and not np.array_equal(second, third)
    block = nn.Sequential(nn.Linear(40, 40), nn.ReLU(), nn.Dropout(0.5), nn.Linear(40, 40), nn.ReLU(), nn.Dropout(0.5))
    zero = tree.map(np.zeros_like, block.init(KEY))
    ones = tuple(part._replace(bias=part.bias + 1) if part else part for part in zero)  # only dropped elements are 0
    _, (first, second) = block.forward(ones, x, key=key)
    assert not np.array_equal(first.y, second.y) and set(np.unique(first.y)) == {0.0, 2.0}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_inputs(dtype: str) -> None:
    x = np.array([[-1e4, -1000.0, 0.0, 1000.0, 1e4]], dtype=dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert nn.Sigmoid().forward((), x)[0].tolist() == [[0, 0, 0.5, 1, 1]]
        assert nn.Softmax().forward((), x)[0].tolist() == [[0, 0, 0, 0, 1]]
        value, residuals = nn.CrossEntropyLoss().forward((), x, np.array([0]))
        assert value == 2e4 and nn.CrossEntropyLoss().backward((), residuals).tolist() == [[-1, 0, 0, 0, 1]]
    tail = nn.Sigmoid().forward((), np.array([[-50.0]]))[0]
    np.testing.assert_allclose(tail, np.exp(-50.0), rtol=1e-15)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_at_extreme_inputs_and_nan(name: str) -> None:
    x = np.array([[-1e4, -90.0, -1e-30, 0.0, 1e-30, 90.0, 1e4, np.nan]], dtype=np.float32)
    layer = ACTIVATIONS[name]()
    with np.errstate(over="raise", divide="raise"):
        y, residuals = layer.forward((), x)
        dx, _ = layer.backward((), residuals, np.ones_like(x))
    assert dx is not None and y.dtype == dx.dtype == np.float32
    assert np.isfinite(y[0, :-1]).all() and np.isfinite(dx[0, :-1]).all() and np.isnan(y[0, -1])


def test_sign(backend: Backend) -> None:
    x = np.array([-np.inf, -2.0, -0.0, 0.0, 1e-300, np.inf, np.nan])
    got = to_numpy(sign(backend.xp, backend.array(x)))
    assert np.array_equal(got, np.sign(x), equal_nan=True) and not np.signbit(got[2:4]).any()


def test_erfc() -> None:
    x = np.concat([np.linspace(-8, 6, 5001), np.array([0.46875, 4.0, -0.0])])
    np.testing.assert_allclose(erfc(np, x), [math.erfc(value) for value in x], rtol=5e-15)
    tail = np.linspace(6, 26, 501)
    np.testing.assert_allclose(erfc(np, tail), [math.erfc(value) for value in tail], rtol=6e-14)


def test_all_zero_weights_give_zero_loss_and_gradient() -> None:
    for loss, y in ((nn.CrossEntropyLoss(), np.array([0, 1])), (nn.MSELoss(), np.zeros((2, 3)))):
        value, residuals = loss.forward((), draw("z", 2, 3), y, np.zeros(2))
        assert value == 0 and not loss.backward((), residuals).any()


def test_uint8_labels_with_more_than_255_classes() -> None:
    z = draw("z", 2, 300)
    one = nn.CrossEntropyLoss().forward((), z, np.array([3, 200], np.uint8))[0]
    assert one == nn.CrossEntropyLoss().forward((), z, np.array([3, 200]))[0]


def test_constant_column_is_only_centred() -> None:
    layer = nn.Standardize.fit(np.full((1437, 1), 0.1))
    y, _ = layer.forward(layer.init(KEY), np.array([[0.1], [0.2]]))
    np.testing.assert_allclose(y, [[0], [0.1]], atol=1e-15)


def test_initial_weight_scale() -> None:
    model = nn.MLP(300, 10, (200, 100))
    params = model.init(random.key(0, "init"))
    for layer, scale in ((0, 2 / 300), (2, 2 / 200), (4, 2 / 110)):  # He before ReLU, Glorot in the last layer
        assert abs(params[layer].weight.var() / scale - 1) < 0.1 and not params[layer].bias.any()
    same = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5)).init(random.key(0, "init"))
    assert not np.array_equal(same[0].weight, same[1].weight)


def test_adam_bias_correction_is_exact_in_float32() -> None:
    """Computing 1 − 0.999ᵗ in float32 would have a relative error of 1e-5 at t = 1."""
    from xpnn.optim.adam import one_minus_power

    for beta in (0.9, 0.999, 0.0):
        for t in (1, 2, 1000):
            got = one_minus_power(beta, np.float32(t))
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, 1 - beta**t, rtol=3 * eps("float32"))


def test_class_of_zero_target_may_have_zero_probability() -> None:
    """0 · log p counts as 0 for log p = −∞, as in torch, which only reads the label's entry."""
    log_p = np.array([[0.0, -np.inf], [-1.0, -0.5]])
    with np.errstate(all="raise"):
        value, residuals = nn.NLLLoss().forward((), log_p, np.array([0, 1]))
        assert value == 0.25 and nn.NLLLoss().backward((), residuals).tolist() == [[-0.5, 0], [0, -0.5]]
