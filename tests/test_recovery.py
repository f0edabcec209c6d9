"""Tests for what happens when a loss or a weight is not finite: the trainer goes back, and says what went bad first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from conftest import Backend
from problem import X, Y, network

from xpnn import NonFiniteError, TerminateOnNaN, Trainer, nn, optim
from xpnn.arrays import tree
from xpnn.arrays.namespace import array_namespace
from xpnn.training.checks import recovery
from xpnn.training.runners.eager import EagerRunner

BATCH = 8  # 5 steps in an epoch


@dataclass(frozen=True)
class JumpAt:
    """A learning rate that becomes far too large from one step on."""

    first: int
    lr: float

    def __call__(self, step: Any, steps_per_epoch: Any) -> Any:
        xp = array_namespace(step)
        return xp.where(step < self.first, xp.zeros_like(step) + 0.01, xp.zeros_like(step) + self.lr)


def failing(backend: Backend, trainer: Trainer, epochs: int = 4, **options: Any) -> NonFiniteError:
    with pytest.raises(NonFiniteError) as caught:
        trainer.fit(backend.array(X, "float32"), backend.array(Y), epochs=epochs, batch_size=BATCH, **options)
    return caught.value


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(tree.leaves(one), tree.leaves(other), strict=True))


def test_goes_back_to_the_weights_before_the_bad_step(backend: Backend) -> None:
    def make() -> Trainer:
        return Trainer(network(), nn.CrossEntropyLoss(), optim.SGD(JumpAt(11, 1e30)), seed=2)

    trainer = make()
    error = failing(backend, trainer)
    assert (error.epoch, error.step) == (3, 13)  # the large step is the 12th, its weights make the 13th loss bad
    assert "the loss is not finite at step 13 (epoch 3, batch 3), learning rate 1e+30" in str(error)
    assert error.first == "the output of layer 4, Linear" and error.first in str(error)
    assert str(error).endswith("the weights are those before step 13; lower the learning rate or scale the features")
    assert (trainer.epoch, trainer.steps, trainer.epoch_steps, len(trainer.history)) == (2, 12, 2, 2)
    other = make()

    def stop(done: int, rows: int) -> None:
        if other.steps == 12:
            other.stop()

    x, y = backend.array(X, "float32"), backend.array(Y)
    if backend.place.lib.runner("cpu") == "eager":  # others execute many steps in one call
        other.fit(x, y, epochs=3, batch_size=BATCH, progress=stop)
        assert other.steps == 12 and same(trainer.snapshot(), other.snapshot())
    assert all(np.isfinite(leaf).all() for leaf in tree.leaves(trainer.snapshot()))


def test_names_the_rows_of_the_batch(backend: Backend) -> None:
    orders = {epoch: np.random.default_rng(epoch).permutation(40) for epoch in range(4)}
    trainer = Trainer(network(), nn.CrossEntropyLoss(), optim.SGD(JumpAt(6, 1e30)))
    error = failing(backend, trainer, shuffle=lambda epoch, rows: orders[epoch])
    assert error.step == 8
    np.testing.assert_array_equal(error.rows, orders[1][16:24])


def test_checks_within_a_long_epoch(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "STEPS", 2)
    trainer = Trainer(network(), nn.CrossEntropyLoss(), optim.SGD(JumpAt(1, 1e30)))
    steps = []
    error = failing(backend, trainer, epochs=1, progress=lambda done, rows: steps.append(trainer.steps))
    assert error.step == 3 and trainer.steps == 2
    assert steps[-1] < 5 or len(steps) == 1  # stopped before the end, unless the runner has one call for all steps


def test_weight_that_is_bad_after_the_last_step(backend: Backend) -> None:
    """The last update overflows: no loss has seen it."""
    trainer = Trainer(nn.Sequential(nn.Scale(1000), nn.Linear(6, 3)), nn.MSELoss(), optim.SGD(JumpAt(4, 3e38)))
    with pytest.raises(NonFiniteError) as caught:
        trainer.fit(backend.array(X, "float32"), backend.array(np.eye(3)[Y], "float32"), batch_size=BATCH)
    error = caught.value
    assert error.of_weights and error.step == 5 and error.first == "the updated weight 1.weight"
    assert "weight are not finite after step 5" in str(error)
    assert all(np.isfinite(leaf).all() for leaf in tree.leaves(trainer.snapshot()))
    assert trainer.steps == 4


def test_training_can_go_on(backend: Backend) -> None:
    trainer = Trainer(network(), nn.CrossEntropyLoss(), optim.SGD(0.1))
    good = trainer.snapshot()
    trainer.lr_scale = 1e31
    failing(backend, trainer)
    trainer.lr_scale = 1.0
    trainer.load(good)
    history = trainer.fit(backend.array(X, "float32"), backend.array(Y), epochs=2, batch_size=BATCH)
    assert all(np.isfinite(record["loss"]) for record in history)


def test_part_that_does_not_compute_on_numpy_is_no_hindrance(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> str:
        raise TypeError("not on NumPy")

    monkeypatch.setattr(recovery, "first_bad_value", fails)
    trainer = Trainer(network(), nn.CrossEntropyLoss(), optim.SGD(1e30))
    with pytest.raises(NonFiniteError, match=r"learning rate 1e\+30; the weights are those before step") as caught:
        trainer.fit(X, Y, epochs=2, batch_size=BATCH)
    assert caught.value.first == ""


def test_without_the_check_there_is_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[Any] = []
    monkeypatch.setattr(EagerRunner, "kept", lambda runner, state: copies.append(state) or state)
    for options, expected in (
        ({"terminate_on_nan": False}, 0),
        ({"terminate_on_nan": False, "callbacks": [TerminateOnNaN()]}, 1),
        ({}, 1),
    ):
        copies.clear()
        Trainer(network(), nn.CrossEntropyLoss(), optim.SGD(0.1)).fit(X, Y, batch_size=BATCH, **options)
        assert len(copies) == expected
