"""Numerical edge cases on every library: huge, tiny and constant inputs, and kinks."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from cases import OPTIMIZERS, OptimizerCase, draw
from conftest import Backend, eps

from xpnn import nn
from xpnn.arrays import random, tree
from xpnn.devices.place import to_numpy
from xpnn.nn.layers.activations import ACTIVATIONS
from xpnn.training import totals as step

KEY = random.key(0, "init")
LOG2 = math.log(2)
NEAR = {"rtol": 8 * eps("float32"), "atol": 1e-37}  # some libraries flush values below 1.2e-38 to 0


def slopes(layer: Any, x: np.ndarray, backend: Backend, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    """(y, dx) of a layer in training mode, in `dtype`; dy is 1, or random if the layer has parameters."""
    params = backend.tree(layer.init(KEY), dtype)
    with np.errstate(all="ignore"):
        y, residuals = layer.forward(params, backend.array(x, dtype), key=key_on(backend))
        dy = np.ones(y.shape) if not tree.leaves(params) else draw("dy", *y.shape)
        dx, _ = layer.backward(params, residuals, backend.array(dy, dtype))
    like = np.zeros(x.shape, dtype)
    return backend.check(y, like), backend.check(dx, like)


def key_on(backend: Backend) -> random.Key:
    words = random.key(0, "dropout")
    return tree.map(lambda x: backend.array(random.lanes(x, backend.place.lib.lane_dtype)), words)


# The row is (s, −s, 0). Each loss has a target, and its value and gradient as formulas in s.
FAR_LOSSES = [
    ("cross-entropy", nn.CrossEntropyLoss(), [1], lambda s: 2 * s, [1, -1, 0]),
    ("all-smoothed", nn.CrossEntropyLoss(label_smoothing=1.0), [2], lambda s: s, [2 / 3, -1 / 3, -1 / 3]),
    ("shares", nn.CrossEntropyLoss(), [[0, 0.5, 0.5]], lambda s: 1.5 * s, [1, -0.5, -0.5]),
    ("bce", nn.BCEWithLogitsLoss(), [[0, 1, 0.5]], lambda s: (2 * s + LOG2) / 3, [1 / 3, -1 / 3, 0]),
    ("l1", nn.L1Loss(), [[0, 0, 0]], lambda s: 2 * s / 3, [1 / 3, -1 / 3, 0]),
    ("huber", nn.HuberLoss(2.0), [[0, 0, 0]], lambda s: (4 * s - 4) / 3, [2 / 3, -2 / 3, 0]),
    ("quantile", nn.QuantileLoss(0.3), [[0, 0, 0]], lambda s: s / 3, [0.7 / 3, -0.1, 0]),
]


@pytest.mark.parametrize("s", [1e4, 1e30])
@pytest.mark.parametrize(
    ("loss", "target", "value", "slope"), [c[1:] for c in FAR_LOSSES], ids=[c[0] for c in FAR_LOSSES]
)
def test_losses_far_from_targets(loss: Any, target: Any, value: Any, slope: Any, s: float, backend: Backend) -> None:
    z, t = backend.array([[s, -s, 0]], "float32"), np.asarray(target)
    t = backend.array(t, "float32" if t.ndim == 2 else "int32")
    with np.errstate(all="raise", under="ignore"):
        got, residuals = loss.forward((), z, t)
        dz = loss.backward((), residuals)
    np.testing.assert_allclose(backend.check(got, np.zeros((), "float32")), value(s), **NEAR)
    np.testing.assert_allclose(backend.check(dz, np.zeros((1, 3), "float32")), [slope], **NEAR)


def test_log_softmax_and_nll_far_apart(backend: Backend) -> None:
    z = backend.array([[1e30, -1e30, 0]], "float32")
    log_p, residuals = nn.LogSoftmax().forward((), z)
    loss, kept = nn.NLLLoss().forward((), log_p, backend.array([1]))
    dz, _ = nn.LogSoftmax().backward((), residuals, nn.NLLLoss().backward((), kept))
    np.testing.assert_allclose(to_numpy(loss), 2e30, **NEAR)
    assert to_numpy(dz).tolist() == [[1, -1, 0]]


def test_losses_at_kinks(backend: Backend) -> None:
    """Huber at ±delta, on both pieces; L1 and quantile losses where prediction and target are equal."""
    z, t = backend.array([[1.0, -3.0, 2.0]], "float64"), backend.array([[-1.0, -1.0, 2.0]], "float64")
    for loss, value, slope in (
        (nn.HuberLoss(2.0, "sum"), 4.0, [2, -2, 0]),
        (nn.L1Loss("sum"), 4.0, [1, -1, 0]),
        (nn.QuantileLoss(0.25, "sum"), 0.75 * 2 + 0.25 * 2, [0.75, -0.25, 0]),
        (nn.HuberLoss(math.inf, "sum"), 4.0, [2, -2, 0]),  # half the squared error
        (nn.HuberLoss(1e39, "sum"), 4.0, [2, -2, 0]),
    ):
        got, residuals = loss.forward((), z, t)
        assert float(to_numpy(got)) == value
        assert to_numpy(loss.backward((), residuals)).tolist() == [slope]


FAR = [-1e30, -3e19, -1e19, -1e-30, 0.0, 1e-30, 1e19, 3e19, 1e30]
NEARER = [-20.0, -10.1, -9.9, 9.9, 10.1, 20.0]


@pytest.mark.parametrize("layer", [*(make() for make in ACTIVATIONS.values()), nn.GELU("tanh")], ids=repr)
@pytest.mark.parametrize(("x", "atol"), [(FAR, 1e-37), (NEARER, 4 * eps("float32"))], ids=["far", "nearer"])
def test_activations_at_kinks_and_extremes(layer: Any, x: list[float], atol: float, backend: Backend) -> None:
    """Compare with torch in float64, which has no trouble with 1e30; in flat regions to a rounding error of 1."""
    torch = pytest.importorskip("torch")
    options = {field.name: getattr(layer, field.name) for field in dataclasses.fields(layer)}
    if isinstance(layer, nn.Softplus):
        options["threshold"] = 700  # above it, where e^x would overflow, torch returns x
    z = torch.tensor(np.asarray([x], "float32").astype("float64"), requires_grad=True)
    wanted = getattr(torch.nn, type(layer).__name__)(**options)(z)
    wanted.sum().backward()
    y, dx = slopes(layer, np.asarray([x]), backend)
    np.testing.assert_allclose(y, wanted.detach().numpy(), rtol=NEAR["rtol"], atol=atol)
    np.testing.assert_allclose(dx, z.grad.numpy(), rtol=NEAR["rtol"], atol=atol)


@pytest.mark.parametrize("value", [0.1, 123456.7, -3e7, 1e18])
def test_constant_rows_and_columns_are_only_centred(value: float, backend: Backend) -> None:
    """A rounded mean would leave a residue, which an equally small standard deviation scales to about 1."""
    for layer, x in (
        (nn.LayerNorm(7), np.full((2, 7), value)),
        (nn.BatchNorm1d(2), np.full((7, 2), value)),
    ):
        y, dx = slopes(layer, x, backend)
        assert not y.any() and np.isfinite(dx).all()
    fitted = nn.Standardize.fit(np.full((7, 2), value, "float32"))
    y, _ = fitted.forward(backend.tree(fitted.init(KEY), "float32"), backend.array(np.full((3, 2), value), "float32"))
    assert not to_numpy(y).any()


def test_normalization_precision_far_from_zero(backend: Backend) -> None:
    """Compare with float64 on the same values: rounding errors are those of values near 1, not near 1e6."""
    x = (1e6 + draw("x", 9, 9)).astype("float32")
    for layer in (nn.LayerNorm(9), nn.BatchNorm1d(9)):
        wanted = layer.forward(layer.init(KEY), x.astype("float64"), key=random.key(0, "dropout"))[0]
        np.testing.assert_allclose(slopes(layer, x, backend)[0], wanted, atol=16 * eps("float32"), rtol=0)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e15])
def test_normalization_of_tiny_and_huge_features(scale: float, backend: Backend) -> None:
    x = (scale * draw("x", 5, 6)).astype("float32")
    for layer in (nn.LayerNorm(6), nn.RMSNorm(6), nn.BatchNorm1d(6)):
        wanted = layer.forward(layer.init(KEY), x.astype("float64"), key=random.key(0, "dropout"))[0]
        np.testing.assert_allclose(slopes(layer, x, backend)[0], wanted, rtol=1e-5, atol=1e-37)


@pytest.mark.parametrize("p", [0.0, 0.001, 0.999])
def test_dropout_at_extreme_rates(p: float, backend: Backend) -> None:
    x = np.full((500, 400), 2.0)
    y, dx = slopes(nn.Dropout(p), x, backend)
    kept = y != 0
    share = kept.mean()
    assert abs(share - (1 - p)) <= 5 * math.sqrt(p * (1 - p) / x.size)
    np.testing.assert_allclose(y[kept], 2 / (1 - p), rtol=1e-6)
    np.testing.assert_allclose(dx, np.where(kept, 1 / (1 - p), 0), rtol=1e-6)


@pytest.mark.parametrize("case", OPTIMIZERS, ids=[case.id for case in OPTIMIZERS])
def test_learning_rate_of_0_changes_no_weight(case: OptimizerCase, backend: Backend) -> None:
    host = (draw("a", 4, 3), draw("b", 3))
    params = backend.tree(host, "float32")
    state = case.optimizer.init(params)
    for i in range(2):
        grads = backend.tree((draw(f"g{i}", 4, 3), draw(f"h{i}", 3)), "float32")
        params, state = case.optimizer.update(params, grads, state, backend.array(np.zeros((), "float32")))
    for leaf, first in zip(params, host, strict=True):
        assert np.array_equal(to_numpy(leaf), first.astype("float32"))
    assert all(np.isfinite(to_numpy(leaf)).all() for leaf in tree.leaves(state))


def test_slow_ema_is_exact_in_float32(backend: Backend) -> None:
    """Computing 1 − decay in float32 would have a relative error of 3e-3 at a decay of 0.99999."""
    for taken, share in ((0.0, 0.9), (90.0, 0.09), (3e6, 1e-5)):
        averages, weights = (backend.tree((np.full(2, value),), "float32") for value in (0.0, 1.0))
        got = step.averaged(averages, weights, 0.99999, backend.array(np.asarray([taken], "int32")))
        np.testing.assert_allclose(to_numpy(got[0]), share, rtol=4 * eps("float32"))
