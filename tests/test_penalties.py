"""Tests for penalties, `value_and_grad`, losses that average an epoch by rows, and parameters loaded from a device."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from cases import draw, params_of
from conftest import Backend, assert_close
from problem import X, Y

from xpnn import nn, optim
from xpnn.arrays import random, tree
from xpnn.devices.libraries import library
from xpnn.errors import InputError
from xpnn.nn.layers.linear import LinearParams
from xpnn.training import Data, Trainer, TrainingStep, initial_state, value_and_grad
from xpnn.training.functional import ValueAndGrad
from xpnn.training.runners import base

T, W = draw("targets", 40, 2), np.abs(draw("weights", 40))
LINEAR = LinearParams(draw("w", 6, 2), draw("b", 2))


def by_hand(loss: nn.MSELoss, weight: Any, alpha: float, params: LinearParams) -> tuple[float, np.ndarray, np.ndarray]:
    """The loss and the gradients of a Linear layer with a squared error and a penalty on its weight."""
    w = np.ones(40) if weight is None else weight
    by, outputs = (1.0, 1) if loss.reduction == "sum" else (w.sum(), 2)
    error = (X @ params.weight + params.bias - T) * w[:, None] ** 0.5
    value = ((error**2).sum() / outputs + alpha / 2 * (params.weight**2).sum()) / by
    slope = 2 * error * w[:, None] ** 0.5 / outputs
    return value, (X.T @ slope + alpha * params.weight) / by, slope.sum(axis=0) / by


@pytest.mark.parametrize("weight", [None, W], ids=["rows", "weights"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_penalty_is_divided_by_the_count_of_the_batch(reduction: Any, weight: Any, backend: Backend) -> None:
    loss, lr = nn.MSELoss(reduction), 0.1 if reduction == "mean" else 1e-3
    value, dweight, dbias = by_hand(loss, weight, 0.7, LINEAR)
    x, t, w = (None if part is None else backend.array(part) for part in (X, T, weight))
    got, grads = value_and_grad(nn.Linear(6, 2), loss, nn.L2(0.7))(backend.tree(LINEAR), x, t, w)
    assert_close(backend.check(got, np.asarray(value)), np.asarray(value))
    for grad, wanted in zip(grads, (dweight, dbias), strict=True):
        assert_close(backend.check(grad, wanted), wanted, ulps=256)
    trainer = Trainer(nn.Linear(6, 2), loss, optim.SGD(lr), penalty=nn.L2(0.7), params=LINEAR)
    rows = 1 if reduction == "mean" else 40 if weight is None else W.sum()
    logs = trainer.fit(x, t, sample_weight=w, batch_size=40).records[-1]
    assert logs["loss"] == pytest.approx(value / rows)
    assert_close(trainer.snapshot().weight, LINEAR.weight - lr * dweight, ulps=256)
    assert_close(trainer.snapshot().bias, LINEAR.bias - lr * dbias, ulps=256)
    without = by_hand(loss, weight, 0.0, trainer.snapshot())[0]
    assert trainer.evaluate(x, t, sample_weight=w)["loss"] == pytest.approx(without / rows)


@pytest.mark.parametrize("weight", [None, W], ids=["rows", "weights"])
def test_penalty_is_added_once_for_a_batch_in_parts(weight: Any) -> None:
    def run(accumulate: int) -> Any:
        trainer = Trainer(
            nn.MLP(6, 3, (5,)), nn.CrossEntropyLoss(), optim.SGD(0.1), penalty=nn.L2(3.0), dtype="float64"
        )
        loss = trainer.fit(X, Y, sample_weight=weight, batch_size=20, accumulate=accumulate).records[-1]["loss"]
        return [np.asarray(loss), *tree.leaves(trainer.snapshot())]

    for one, other in zip(run(1), run(3), strict=True):
        assert_close(one, other, ulps=256)


def test_penalty_applies_to_chosen_parameters() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    params = tree.trained(params_of(model))
    zeros = tree.map(np.zeros_like, params)

    def changed(penalty: nn.L2) -> list[str]:
        grads = penalty.add(np.asarray(0.0), zeros, params, 1)[1]
        return [name for name, grad in tree.named(grads) if grad.any()]

    assert changed(nn.L2(1.0)) == ["0.weight", "2.weight"]
    assert changed(nn.L2(1.0, ("*.bias", "2.weight"))) == ["0.bias", "1.bias", "2.weight", "2.bias"]
    assert changed(nn.L2(0.0)) == []
    with pytest.raises(InputError, match=r"no parameter has the name '3.weight'; the names are 0.weight, 0.bias"):
        changed(nn.L2(1.0, ("3.weight",)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((-1.0,), "alpha is -1.0"), ((np.inf,), "alpha is inf"), ((1.0, "0.weight"), "expected a list of names")],
)
def test_bad_penalty(arguments: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        nn.L2(*arguments)
    with pytest.raises(InputError, match=r"penalty: .* is not a penalty; give an instance, for example nn.L2"):
        Trainer(nn.Linear(6, 3), nn.CrossEntropyLoss(), optim.SGD(), penalty=nn.L2)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"penalty: 0\.1 is not"):
        Trainer(nn.Linear(6, 3), nn.CrossEntropyLoss(), optim.SGD(), penalty=0.1)  # type: ignore[arg-type]


def test_value_and_grad_is_a_step(backend: Backend) -> None:
    """With dropout, class weights and a penalty; the function is a value, like a step."""
    model, loss = nn.MLP(6, 3, (5,), dropout=0.4), nn.CrossEntropyLoss((0.5, 1.0, 2.0))
    f = value_and_grad(model, loss, nn.L2(0.3))
    assert pickle.loads(pickle.dumps(f)) == f and hash(f) == hash(ValueAndGrad(model, loss, nn.L2(0.3)))
    step = TrainingStep(model, loss, optim.SGD(1.0), penalty=nn.L2(0.3))
    x, y, w = backend.array(X), backend.array(Y), backend.array(W)
    state = initial_state(step, like=x, dtype="float64")
    start = backend.tree(tree.map(lambda leaf: np.array(backend.place.lib.to_numpy(leaf)), state.params))
    value, grads = f(start, x, y, w, key=random.Key(state.key, state.step))
    rows = backend.array(np.arange(40, dtype=np.int32))
    after = step(state, Data(x, y, w), rows)
    total = backend.check(after.totals.loss, np.asarray(0.0)) / backend.check(after.totals.weight, np.asarray(0.0))
    assert_close(np.asarray(total), backend.check(value, np.asarray(0.0)))
    for new, old, grad in zip(*map(tree.leaves, (after.params, start, grads)), strict=True):
        assert_close(backend.check(new, np.zeros(new.shape)), backend.check(old - grad, np.zeros(new.shape)))


@dataclass(frozen=True)
class ByRows:
    """A squared error whose epoch is averaged by rows."""

    inner: nn.MSELoss = field(default_factory=nn.MSELoss)
    epoch_average = "rows"

    def init(self) -> Any:
        return self.inner.init()

    def forward(self, constants: Any, prediction: Any, target: Any, sample_weight: Any = None) -> Any:
        return self.inner.forward(constants, prediction, target, sample_weight)

    def backward(self, constants: Any, residuals: Any) -> Any:
        return self.inner.backward(constants, residuals)


def test_epoch_is_averaged_as_the_loss_states(backend: Backend) -> None:
    x, t, w = backend.array(X), backend.array(T), backend.array(W)

    def logged(loss: nn.Loss) -> float:
        trainer = Trainer(nn.Linear(6, 2), loss, optim.SGD(0.0), params=LINEAR)
        return trainer.fit(x, t, sample_weight=w, batch_size=16, shuffle=False).records[-1]["loss"]

    batches = [slice(0, 16), slice(16, 32), slice(32, 40)]
    losses = [np.average(((X @ LINEAR.weight + LINEAR.bias - T)[b] ** 2).mean(axis=1), weights=W[b]) for b in batches]
    assert logged(ByRows()) == pytest.approx(np.average(losses, weights=[16, 16, 8]))
    assert logged(nn.MSELoss()) == pytest.approx(np.average(losses, weights=[W[b].sum() for b in batches]))


def test_parameters_on_the_device_are_loaded_there(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(nn.Linear(6, 2), nn.MSELoss(), optim.SGD(0.1), ema=0.9)
    x, t, given = backend.array(X), backend.array(T), backend.tree(LINEAR)
    trainer.load(given)
    assert_close(trainer.snapshot().weight, LINEAR.weight)
    trainer.fit(x, t)

    def no_copy(self: Any, x: Any) -> Any:
        raise AssertionError("a copy to the host")

    with monkeypatch.context() as patch:
        if backend.library != "numpy":
            patch.setattr(type(library(backend.library)), "to_numpy", no_copy)
        trainer.load(given)
    for leaf, wanted in zip(trainer.snapshot(), LINEAR, strict=True):
        assert_close(leaf, wanted)
    trainer.fit(x, t)
    assert_close(backend.check(given.weight, LINEAR.weight), LINEAR.weight)  # a copy was loaded
    with pytest.raises(InputError, match="these parameters belong to another model"):
        trainer.load(backend.tree((np.ones((6, 3)), np.ones(3))))


def test_parameters_are_loaded_into_recorded_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A captured graph reads fixed memory: the values are written there."""
    import gpu

    gpu.rehearse(monkeypatch)
    trainer = Trainer(nn.Linear(6, 2), nn.MSELoss(), optim.SGD(0.0))
    trainer.fit(X, T, batch_size=8)
    trainer.load(LINEAR)
    trainer.fit(X, T, batch_size=8)
    assert_close(trainer.snapshot().weight, LINEAR.weight)


def test_host_values_are_copied_before_they_are_uploaded(backend: Backend) -> None:
    host = (np.arange(3.0), np.asarray(2.5))
    uploaded = base.upload(host, backend.place, "float64")
    host[0][...] = -1
    assert_close(backend.check(uploaded[0], host[0]), np.arange(3.0))
