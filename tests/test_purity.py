"""Steps do not read from the device, do not recompile, and keep float32.

That layers, losses and optimizers do not modify their inputs is part of `test_backends.test_row_passes_all_checks`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from cases import LAYERS, METRICS, OPTIMIZERS, LayerCase, MetricCase, draw, params_of
from conftest import Backend, assert_close

from xpnn import nn, optim
from xpnn.arrays import random, tree
from xpnn.devices.place import to_place
from xpnn.training import Accuracy, Data, EvaluationStep, Trainer, TrainingStep
from xpnn.training.runners.base import upload
from xpnn.training.state import first_state


def by_id(case: Any) -> str:
    return case.id


@contextmanager
def sync_guard() -> Iterator[None]:
    """Make reading array-api-strict arrays raise, as it would make the host wait for a GPU."""
    strict = pytest.importorskip("array_api_strict")
    array = type(strict.asarray(1.0))

    def refuse(self: Any, *_: Any, **__: Any) -> Any:
        raise AssertionError("the host read a value from the device")

    names = ("__bool__", "__float__", "__int__", "__complex__", "__index__", "__array__", "__buffer__")
    saved = {name: getattr(array, name) for name in names if hasattr(array, name)}
    for name in saved:
        setattr(array, name, refuse)
    try:
        yield
    finally:
        for name, method in saved.items():
            setattr(array, name, method)


def network() -> nn.Sequential:
    front = (nn.Flatten(), nn.Scale(0.25), nn.Standardize.fit(draw("fit", 9, 6)))
    return nn.Sequential(*front, *nn.MLP(6, 3, (8, 5), dropout=0.3).layers)


@pytest.mark.parametrize("optimizer", [case.optimizer for case in OPTIMIZERS], ids=[case.id for case in OPTIMIZERS])
@pytest.mark.parametrize("labels", [True, False])
def test_training_step_does_not_synchronize(optimizer: optim.Optimizer, labels: bool) -> None:
    strict = pytest.importorskip("array_api_strict")
    from xpnn.devices.place import Place

    place = Place("strict", strict.Device("device1"), "cpu", 1)
    loss: nn.Loss = nn.CrossEntropyLoss() if labels else nn.MSELoss()
    metrics = (Accuracy(),)
    model = network()
    run = TrainingStep(model, loss, optimizer, metrics)
    evaluate = EvaluationStep(model, loss, metrics)
    state = upload(first_state(model, loss, metrics, 0), place, "float32")
    state = state._replace(optimizer=optimizer.init(tree.trained(state.params)))
    y = np.array([0, 1, 2, 1], np.int32) if labels else draw("y", 4, 3).astype("float32")
    host = Data(draw("x", 4, 2, 3).astype("float32"), y, np.ones(4, "float32"))
    data = tree.map(lambda x: to_place(x, place), host)
    rows = to_place(np.array([3, 0, 2], np.int32), place)
    with sync_guard():
        after = run(run(state, data, rows), data, rows)
        totals = evaluate(after.params, after.constants, after.totals, data, rows)
    assert int(np.asarray(after.step.to_device(strict.Device("CPU_DEVICE")))[0]) == 2
    assert totals.weight.device == place.device


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("case", METRICS, ids=by_id)
def test_metric_does_not_synchronize(case: MetricCase, weighted: bool) -> None:
    strict = pytest.importorskip("array_api_strict")
    from xpnn.devices.place import Place

    place = Place("strict", strict.Device("device1"), "cpu", 1)
    weight = np.ones(41) if weighted else None
    sums, *batch = upload((case.metric.init(), case.prediction, case.target, weight), place, "float32")
    with sync_guard():
        after = case.metric.update(sums, *batch)
    for one, other in zip(tree.leaves(sums), tree.leaves(after), strict=True):
        assert (one.dtype, one.shape, one.device) == (other.dtype, other.shape, other.device)


def test_guard_catches_a_read() -> None:
    strict = pytest.importorskip("array_api_strict")
    x = strict.asarray(1.0)
    for read in (float, bool, int, np.asarray):
        with sync_guard(), pytest.raises(AssertionError, match="the host read"):
            read(x)
    assert float(x) == 1.0


def test_float32_step_has_no_float64_and_keeps_every_shape(backend: Backend) -> None:
    """Static buffers and compiled loops need a state with constant dtypes and shapes."""
    trainer = Trainer(network(), nn.CrossEntropyLoss(), optim.Adam(), device=backend.place)
    x, y = draw("x", 12, 2, 3).astype("float32"), np.arange(12) % 3
    trainer.evaluate(x, y)
    before = [(tuple(leaf.shape), leaf.dtype) for leaf in tree.leaves(trainer.state)]
    trainer.fit(x, y, epochs=2, batch_size=5)
    after = [(tuple(leaf.shape), leaf.dtype) for leaf in tree.leaves(trainer.state)]
    assert before == after
    assert not any("float64" in str(dtype) for _, dtype in after)


@pytest.mark.parametrize("case", LAYERS, ids=by_id)
def test_layers_under_jit(case: LayerCase) -> None:
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    host, key = params_of(case.layer), random.key(3, "dropout") if case.training else None

    def both(params: Any, x: Any, dy: Any) -> Any:
        y, residuals = case.layer.forward(params, x, key=key)
        return y, case.layer.backward(params, residuals, dy)

    dy = draw("dy", *case.layer.forward(host, case.x, key=key)[0].shape)
    wanted = both(host, case.x, dy)
    got = jax.jit(both)(host, case.x, dy)
    for one, other in zip(tree.leaves(got), tree.leaves(wanted), strict=True):
        assert_close(np.asarray(one), np.asarray(other))


def test_run_compiles_exactly_two_shapes() -> None:
    jax = pytest.importorskip("jax")
    from xpnn.devices.place import find_place

    place = find_place("cpu", "jax")
    trainer = Trainer(network(), nn.CrossEntropyLoss(), optim.Adam(), device=place)
    x, y = draw("x", 200, 2, 3).astype("float32"), np.arange(200) % 3
    trainer.fit(x, y, epochs=3, batch_size=3)  # 66 full batches, so more than one call, and a remainder of 2
    trainer.lr_scale = 0.5
    trainer.fit(x, y, epochs=2, batch_size=3)
    assert trainer._engine.runner._train._cache_size() == 2
    assert jax is not None
