"""Tests for the running statistics of BatchNorm1d."""

from __future__ import annotations

import numpy as np
import pytest
from cases import draw
from conftest import Backend, assert_close
from problem import X, Y

from xpnn import load_model, nn, optim, save_model
from xpnn.arrays import random, tree
from xpnn.errors import InputError
from xpnn.training import Trainer

KEY = random.key(0, "dropout")


def test_running_statistics_match_torch() -> None:
    torch = pytest.importorskip("torch")
    theirs, ours = torch.nn.BatchNorm1d(5, momentum=0.3, dtype=torch.float64), nn.BatchNorm1d(5, momentum=0.3)
    params = ours.init(random.key(0, "init"))
    for i in range(4):
        x = draw(f"x{i}", 7, 5)
        y, residuals = ours.forward(params, x, key=KEY)
        assert_close(y, theirs(torch.tensor(x)).detach().numpy())
        _, grads = ours.backward(params, residuals, np.zeros((7, 5)))
        params = params._replace(running_mean=grads.running_mean, running_var=grads.running_var)
    assert_close(params.running_mean.value, theirs.running_mean.numpy())
    assert_close(params.running_var.value, theirs.running_var.numpy())
    theirs.eval()
    x = draw("new", 3, 5)
    assert_close(ours.forward(params, x)[0], theirs(torch.tensor(x)).detach().numpy())


@pytest.mark.parametrize("affine", [True, False])
def test_trains_and_saves_running_statistics(affine: bool, backend: Backend, tmp_path) -> None:
    """BatchNorm1d is below the first trained layer without affine, and above it otherwise."""
    model = nn.Sequential(
        nn.BatchNorm1d(6, affine=affine), nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)
    )
    run = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(0.02), device=backend.place, dtype="float64")
    run.fit(X, Y, epochs=60, batch_size=20)
    params = run.snapshot()
    # After 120 steps at momentum 0.1 the initial values have weight 0.9¹²⁰ = 3e-6, and two batches average to all rows.
    np.testing.assert_allclose(params[0].running_mean.value, X.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(params[0].running_var.value, X.var(axis=0, ddof=1), rtol=0.3)
    assert (params[0].weight is None) == (not affine)
    result = run.evaluate(X, Y)
    assert result["accuracy"] > 0.9
    save_model(tmp_path / "m.safetensors", model, params)
    again, loaded, _ = load_model(tmp_path / "m.safetensors")
    other = Trainer(again, nn.CrossEntropyLoss(), optim.SGD(), device=backend.place, dtype="float64")
    other.load(loaded)
    assert other.evaluate(X, Y) == result


def test_batch_of_one_is_finite() -> None:
    layer = nn.BatchNorm1d(5)
    params = layer.init(random.key(0, "init"))
    y, residuals = layer.forward(params, draw("x", 1, 5), key=KEY)
    dx, grads = layer.backward(params, residuals, draw("dy", 1, 5))
    assert not y.any() and all(np.isfinite(leaf).all() for leaf in (dx, *tree.leaves(grads)))


def test_zero_variance_is_finite() -> None:
    for layer in (nn.LayerNorm(5), nn.RMSNorm(5), nn.BatchNorm1d(5)):
        for x in (np.zeros((4, 5)), np.full((4, 5), 1e4)):
            params = layer.init(random.key(0, "init"))
            y, residuals = layer.forward(params, x, key=KEY)
            dx, _ = layer.backward(params, residuals, draw("dy", 4, 5))
            assert np.isfinite(y).all() and np.isfinite(dx).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.LayerNorm(0), "LayerNorm: features: 0 is not"),
        (lambda: nn.RMSNorm(4, 0), "RMSNorm: eps is 0.0"),
        (lambda: nn.BatchNorm1d(4, momentum=2), "momentum is 2.0"),
        (lambda: nn.LayerNorm(4).forward(nn.LayerNorm(4).init(KEY), X), r"LayerNorm\(4\): x has shape \(40, 6\)"),
        (lambda: nn.BatchNorm1d(6).forward(nn.BatchNorm1d(6).init(KEY), X[None]), r"BatchNorm1d\(6\): x has shape"),
        (
            lambda: nn.Residual(nn.Flatten()).forward((), X[None]),
            r"\(1, 40, 6\), block\(x\) \(1, 240\); expected the same",
        ),
        (lambda: nn.Residual(nn.Linear(6, 3)), r"the block Linear\(6, 3\) takes 6 features and gives 3"),
    ],
)
def test_invalid_arguments_raise(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
