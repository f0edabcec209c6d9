"""Tests for torch tensors on the CPU: steps run on NumPy views, or else with torch's operations."""

from __future__ import annotations

import gc
from typing import Any

import cases
import numpy as np
import pytest
import test_random_networks
import test_training
from conftest import make_backend
from networks import plan
from problem import X, Y, trainer
from threadpoolctl import ThreadpoolController

from xpnn import optim
from xpnn.arrays import tree
from xpnn.training import Trainer, engine
from xpnn.training.checks.shapes import computes_on_numpy
from xpnn.training.runners.eager import EagerRunner
from xpnn.training.runners.torch_via_numpy import TorchViaNumpyRunner

torch = pytest.importorskip("torch")
COUNT = test_random_networks.COUNT


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("number", range(COUNT))
def test_bit_identical_to_numpy(number: int, dtype: str) -> None:
    ours, backend = plan(number), make_backend("torch")

    def run(bring: Any) -> tuple[Any, ...]:
        one = Trainer(ours.model, ours.loss, ours.optimizer, dtype=dtype, ema=0.9 if number % 2 else None)
        one.load(ours.params)
        x, y = bring(ours.x), bring(ours.y)
        options = {"sample_weight": None if ours.weight is None else bring(ours.weight)}
        records = one.fit(x, y, epochs=2, batch_size=ours.batch_size, **options).records
        for log in records:
            del log["seconds"]
        prediction = one.predict(x)
        return one, prediction, records, one.evaluate(x, y, **options)

    wanted, y, *logs = run(np.asarray)
    got, tensor, *same = run(backend.array)
    assert isinstance(got._engine.runner, TorchViaNumpyRunner) and isinstance(tensor, torch.Tensor)
    assert same == logs and np.array_equal(tensor.numpy(), y)
    for leaf, like in zip(tree.leaves(got.state), tree.leaves(wanted.state), strict=True):
        assert isinstance(leaf, torch.Tensor)
        like = np.asarray(like)
        assert np.array_equal(leaf.numpy().view(like.dtype), like)


@pytest.mark.parametrize("number", range(COUNT))
def test_network_with_torch_operations(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with custom parts, and on a GPU."""
    monkeypatch.setattr(engine, "computes_on_numpy", lambda *parts: False)
    test_random_networks.test_network_matches_its_torch_twin(number, make_backend("torch"))


@pytest.mark.parametrize("optimizer", [optim.SGD(0.05, 0.9, 1e-3, nesterov=True), optim.Adam(1e-3)])
def test_500_steps_with_torch_operations(optimizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "computes_on_numpy", lambda *parts: False)
    test_training.test_loss_curve_matches_numpy_for_500_steps(optimizer, make_backend("torch"))


def test_every_public_optimizer_and_schedule_computes_on_numpy() -> None:
    params = trainer().snapshot()
    found = [computes_on_numpy(case.optimizer, params) for case in cases.OPTIMIZERS]
    found += [computes_on_numpy(optim.SGD(case.schedule), params) for case in cases.SCHEDULES]
    assert len(found) > 30 and all(found)


class Own(optim.SGD):
    """A custom optimizer for torch only."""

    def update(self, params: Any, grads: Any, state: Any, lr: Any, *, donate: bool = False) -> Any:
        return tree.map(lambda p, g: torch.sub(p, lr * g), params, grads), state


@pytest.mark.parametrize("optimizer", [Own(), optim.SGD(lambda step, steps_per_epoch: torch.exp(-step))])
def test_custom_optimizer_or_schedule_receives_tensors(optimizer: Any) -> None:
    run = trainer(optimizer)
    run.fit(torch.tensor(X), torch.tensor(Y))
    assert type(run._engine.runner) is EagerRunner


class Neutral(optim.SGD):
    """A custom optimizer for any library: its module does not matter."""

    def update(self, params: Any, grads: Any, state: Any, lr: Any, *, donate: bool = False) -> Any:
        return tree.map(lambda p, g: p - lr * g, params, grads), state


@pytest.mark.parametrize("optimizer", [Neutral(), optim.SGD(lambda step, steps_per_epoch: 0.1 / (1 + step))])
def test_custom_library_agnostic_optimizer_or_schedule_runs_on_numpy(optimizer: Any) -> None:
    run = trainer(optimizer)
    run.fit(torch.tensor(X), torch.tensor(Y))
    assert type(run._engine.runner) is TorchViaNumpyRunner


def test_threads_follow_torch_set_num_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    run, found, pools = trainer(), [], ThreadpoolController().select(user_api="blas")

    def threads() -> int:
        return max(pool["num_threads"] for pool in pools.info())

    run.fit(torch.tensor(X), torch.tensor(Y))
    monkeypatch.setattr(run._engine.runner._numpy, "predict", lambda params, x: [found.append(threads()), x][1])
    before = torch.get_num_threads()
    try:
        with pools.limit(limits=2):
            for told in (1, 2, 3):
                torch.set_num_threads(told)
                run.predict(torch.tensor(X))
                assert threads() == 2
    finally:
        torch.set_num_threads(before)
    assert found == [1, 2, 2]


def test_no_reference_chain_between_steps() -> None:
    """A chain of a tensor viewing an array viewing a tensor would grow with every call."""
    run = trainer(optim.Adam(1e-3), ema=0.9)
    x, y = torch.tensor(X), torch.tensor(Y)
    counts = []
    for _ in range(4):
        run.fit(x, y, epochs=10, batch_size=8)
        run.history.records.clear()
        gc.collect()
        counts.append(sum(type(o) is torch.Tensor for o in gc.get_objects()))
    assert counts[-1] == counts[0]

    leaf = run.state.params[1].weight
    run.fit(x, y, batch_size=8)
    assert run.state.params[1].weight is leaf


def test_data_that_requires_grad() -> None:
    x = torch.tensor(X, requires_grad=True)
    run, plain = trainer(), trainer()
    run.fit(x, torch.tensor(Y)), plain.fit(X, Y)
    assert np.array_equal(run.predict(x).numpy(), plain.predict(X))
    assert x.grad is None
