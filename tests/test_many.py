"""Tests for fit_many: the numbers of each trainer alone, on every library."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import numpy as np
import pytest
from conftest import Backend
from problem import X, Y, network

from xpnn import EarlyStopping, InputError, NonFiniteError, Trainer, config, nn, optim
from xpnn.arrays import tree
from xpnn.training import fit_many

OPTIONS: dict[str, Any] = {"epochs": 4, "batch_size": 8}
RATES = (1e-3, 1e-2, 3e-2, 1e-1)


def make(**more: Any) -> list[Trainer]:
    return [
        Trainer(network(), nn.CrossEntropyLoss(), optim.Adam(lr), seed=seed, ema=0.9, **more)
        for seed, lr in enumerate(RATES)
    ]


def same(one: Trainer, other: Trainer) -> bool:
    records = [[{**record, "seconds": 0} for record in trainer.history] for trainer in (one, other)]
    leaves = zip(tree.leaves(one.snapshot()), tree.leaves(other.snapshot()), strict=True)
    return records[0] == records[1] and all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in leaves)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bits_are_those_of_each_alone(backend: Backend, dtype: str) -> None:
    x, y = backend.array(X, dtype), backend.array(Y)
    alone, together = make(), make()
    for trainer in alone:
        trainer.fit(x, y, **OPTIONS, validation_data=(x, y))
    histories = fit_many(together, x, y, **OPTIONS, validation_data=(x, y), threads=3)
    assert [trainer.history for trainer in together] == histories
    assert all(same(*pair) for pair in zip(alone, together, strict=True))
    # A second call goes on.
    alone[1].fit(x, y, **OPTIONS)
    fit_many(together[1:2], x, y, **OPTIONS)
    assert same(alone[1], together[1])


def test_a_network_whose_products_are_divided() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(600, 200)), rng.integers(0, 10, 600)

    def pair() -> list[Trainer]:
        parts = nn.MLP(200, 10, (300, 200), dropout=0.3), nn.CrossEntropyLoss(), optim.Adam(1e-3)
        return [Trainer(*parts, seed=seed) for seed in range(2)]

    alone, together = pair(), pair()
    for trainer in alone:
        trainer.fit(x, y, epochs=2, batch_size=200)
    fit_many(together, x, y, epochs=2, batch_size=200, threads=2)
    for one, other in zip(alone, together, strict=True):
        for a, b in zip(tree.leaves(one.snapshot()), tree.leaves(other.snapshot()), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_folds_and_callbacks(backend: Backend) -> None:
    x, y = backend.array(X, "float64"), backend.array(Y)
    rows = np.arange(X.shape[0])
    folds = [(rows[rows % 4 != k], rows[rows % 4 == k]) for k in range(4)]
    made: dict[int, EarlyStopping] = {}

    def callbacks(i: int) -> list[Any]:
        made[i] = EarlyStopping("val_loss", patience=2)
        return [made[i]]

    together, alone = make(), make()
    fit_many(together, x, y, folds=folds, callbacks=callbacks, **OPTIONS)
    for i, (train, held) in enumerate(folds):
        stopping = EarlyStopping("val_loss", patience=2)
        data = (backend.array(X[held], "float64"), backend.array(Y[held]))
        part = backend.array(X[train], "float64"), backend.array(Y[train])
        alone[i].fit(*part, validation_data=data, callbacks=[stopping], **OPTIONS)
        assert same(alone[i], together[i]) and stopping.best_epoch == made[i].best_epoch


class Watcher:
    """A callback that waits until another trainer is being trained, too; and notes the number of threads."""

    def __init__(self, barrier: threading.Barrier) -> None:
        self.barrier, self.threads = barrier, ""

    def __call__(self, trainer: Any, logs: Any) -> None:
        self.threads = config.get("XPNN_THREADS")
        self.barrier.wait(60)


def test_on_numpy_they_are_trained_side_by_side() -> None:
    watchers = [Watcher(threading.Barrier(2))] * 2
    fit_many(make()[:2], X, Y, callbacks=lambda i: [watchers[i]], threads=2, **OPTIONS)
    assert watchers[0].threads == "1" and config.get("XPNN_THREADS") == ""


def test_a_failure_does_not_end_the_others() -> None:
    trainers = make()
    trainers[1] = Trainer(network(), nn.CrossEntropyLoss(), optim.SGD(1e30))
    with pytest.raises(NonFiniteError):
        fit_many(trainers, X, Y, threads=2, **OPTIONS)
    assert [len(trainer.history) == 4 for trainer in trainers] == [True, False, True, True]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_stops_all() -> None:
    def interrupt() -> None:
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    trainers, sender = make(), threading.Thread(target=interrupt)
    sender.start()
    with pytest.raises(KeyboardInterrupt):
        fit_many(trainers, X, Y, epochs=10**6, batch_size=8, threads=2)
    sender.join()
    assert all(trainer.steps == int(trainer.state.step[0]) for trainer in trainers[:2])
    trainers[0].fit(X, Y, **OPTIONS)


def test_wrong_arguments_are_refused() -> None:
    trainers, rows = make(), np.arange(10)
    with pytest.raises(InputError, match="listed twice"):
        fit_many([trainers[0]] * 2, X, Y)
    with pytest.raises(InputError, match="1 folds for 4 trainers"):
        fit_many(trainers, X, Y, folds=[(rows, rows)])
    with pytest.raises(InputError, match="leave validation_data"):
        fit_many(trainers, X, Y, folds=[(rows, rows)] * 4, validation_data=(X, Y))
    with pytest.raises(InputError, match="no `progress`"):
        fit_many(trainers, X, Y, progress=print)
    with pytest.raises(InputError, match="threads: 0"):
        fit_many(trainers, X, Y, threads=0)
    assert fit_many([], X, Y) == []
