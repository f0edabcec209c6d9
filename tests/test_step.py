"""Tests for single steps, custom loops, batches in parts, and copies of trainers."""

from __future__ import annotations

import copy
import pickle
import runpy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gpu
import numpy as np
import pytest
from cases import draw
from conftest import Backend
from problem import X, Y, network, trainer

from xpnn import Trainer, nn, optim
from xpnn.arrays import tree
from xpnn.arrays.namespace import array_namespace
from xpnn.devices.place import to_numpy
from xpnn.errors import InputError
from xpnn.nn import traits
from xpnn.training import (
    Accuracy,
    ConfusionMatrix,
    Data,
    EarlyStopping,
    MeanAbsoluteError,
    R2Score,
    ReduceLROnPlateau,
    TrainingStep,
    begin_epoch,
    data_feed,
    engine,
    epoch_batches,
    initial_state,
    read_logs,
)
from xpnn.training.metrics.base import merged
from xpnn.training.step import part_edges

WEIGHT = np.linspace(0.0, 2.0, 40)


def without_jax(backend: Backend, why: str) -> None:
    if backend.library == "jax":
        pytest.skip(f"not on JAX: {why}")


def bits(run: Trainer) -> list[bytes]:
    return [np.ascontiguousarray(leaf).tobytes() for leaf in tree.leaves(run.snapshot())]


def logs(run: Trainer) -> list[dict[str, Any]]:
    return [{name: value for name, value in record.items() if name != "seconds"} for record in run.history]


# -- a custom loop ----------------------------------------------------------------------------------


def test_custom_loop_matches_the_trainer(backend: Backend) -> None:
    run = trainer(optim.Adam(1e-2), device=backend.place, dtype="float64", ema=0.9)
    wanted = run.fit(X, Y, epochs=3, batch_size=16)
    metrics = [Accuracy()]
    step: Any = TrainingStep(network(), nn.CrossEntropyLoss(), optim.Adam(1e-2), metrics, ema=0.9)
    state = initial_state(step, like=backend.place, dtype="float64")
    data = Data(backend.array(X, "float64"), backend.array(Y))
    run_step = step
    if backend.library == "jax":
        import jax

        run_step = jax.jit(step)
    for epoch in range(3):
        batches = list(epoch_batches(40, 16, backend.place, epoch=epoch))
        state = begin_epoch(step, state, epoch, len(batches))
        for rows in batches:
            state = run_step(state, data, rows)
        got = read_logs(step, state)
        assert got == pytest.approx({name: wanted.records[epoch][name] for name in got}, rel=1e-12)
    for leaf, other in zip(tree.leaves(state.ema), tree.leaves(run.state.ema), strict=True):
        np.testing.assert_allclose(to_numpy(leaf), to_numpy(other), rtol=1e-12, atol=1e-14)


def test_step_equals_its_two_halves(backend: Backend) -> None:
    without_jax(backend, "each operation would be compiled by itself")
    step = TrainingStep(network(), nn.CrossEntropyLoss(), optim.SGD(0.1, momentum=0.9))
    data, rows = Data(backend.array(X, "float64"), backend.array(Y)), backend.array(np.arange(12, dtype=np.int32))
    whole = step(initial_state(step, backend.place, dtype="float64"), data, rows)
    state = initial_state(step, backend.place, dtype="float64")
    halves = step.apply(state, *step.gradients(state, data, rows))
    for leaf, other in zip(tree.leaves(whole), tree.leaves(halves), strict=True):
        assert np.array_equal(to_numpy(leaf), to_numpy(other))


def test_steps_pickle_and_compare() -> None:
    step = TrainingStep(network(), nn.CrossEntropyLoss(), optim.Adam(optim.StepLR(0.1, 2)), [Accuracy()], accumulate=2)
    assert pickle.loads(pickle.dumps(step)) == step and hash(step) == hash(copy.deepcopy(step))


def test_loop_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(Path(__file__).parents[1] / "examples" / "own_loop.py"))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("10 {'loss': 0.2") and "'accuracy': 0.94" in last


def test_initial_parameters_from_any_library(backend: Backend) -> None:
    given = tree.map(lambda leaf: leaf + 1, trainer().snapshot())
    run = trainer(params=backend.tree(given))
    assert bits(run) == [np.ascontiguousarray(leaf).tobytes() for leaf in tree.leaves(given)]
    step = TrainingStep(network(), nn.CrossEntropyLoss(), optim.SGD())
    state = initial_state(step, backend.place, dtype="float64", params=given)
    for leaf, other in zip(tree.leaves(state.params), tree.leaves(given), strict=True):
        assert np.array_equal(to_numpy(leaf), other)
    with pytest.raises(InputError, match="belong to another model"):
        Trainer(nn.Linear(6, 2), nn.CrossEntropyLoss(), optim.SGD(), params=given)


def test_custom_row_order(backend: Backend) -> None:
    asked = []

    def order(epoch: int, rows: int) -> Any:
        asked.append((epoch, rows))
        return np.arange(rows)[:: -1 if epoch else 1][:30]

    run, plain = (trainer(device=backend.place, dtype="float64") for _ in range(2))
    run.fit(X, Y, epochs=2, batch_size=10, shuffle=order)
    assert asked == [(0, 40), (1, 40)]
    plain.fit(X[:30], Y[:30], batch_size=10, shuffle=False)
    plain.fit(X[:9:-1], Y[:9:-1], batch_size=10, shuffle=False)
    assert bits(run) == bits(plain)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.array([0, 40]), r"row indices in 0…40; expected 0…39"),
        (np.array([-1, 3]), r"row indices in -1…3"),
        (np.array([[1, 2]]), r"int64 of shape \(1, 2\); expected a list of row indices"),
        (np.array([0.5]), "float64 of shape"),
        ([], "at least one"),
    ],
)
def test_invalid_row_order_raises(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"shuffle returned .*{message}"):
        trainer().fit(X, Y, shuffle=lambda epoch, rows: given)


# -- batches in parts ----------------------------------------------------------------------------------

PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": dict,
    "weighted": lambda: {"sample_weight": WEIGHT},
    "sum": lambda: {"loss": nn.CrossEntropyLoss(reduction="sum"), "optimizer": optim.SGD(1e-3)},
    "classes": lambda: {"loss": nn.CrossEntropyLoss((0.5, 2.0, 1.0), 0.1, ignore_index=1)},
    "clipped": lambda: {"optimizer": optim.ClipGradNorm(optim.AdamW(1e-2), 0.1)},
    "ema": lambda: {"ema": 0.9},
    "metrics": lambda: {"loss": nn.MSELoss(), "metrics": [R2Score(3), MeanAbsoluteError()], "y": np.eye(3)[Y]},
}


@pytest.mark.parametrize(("case", "parts"), [*((case, 3) for case in PARTS), ("plain", 2), ("plain", 7)])
def test_batch_in_parts_matches_whole_batch(backend: Backend, case: str, parts: int) -> None:
    """40 rows in batches of 14 and a remainder of 12; with dropout, masks are identical."""
    if case not in ("classes", "sum") and parts != 2:
        without_jax(backend, "compiling takes long, and two cases and two parts have shown it")
    options = PARTS[case]()
    y, weight = options.pop("y", Y), options.pop("sample_weight", None)
    loss, optimizer = options.pop("loss", nn.CrossEntropyLoss()), options.pop("optimizer", optim.Adam(1e-2))
    runs = []
    for accumulate in (1, parts):
        run = Trainer(network(0.4), loss, optimizer, device=backend.place, dtype="float64", **options)
        run.fit(X, y, epochs=3, batch_size=14, sample_weight=weight, accumulate=accumulate, validation_data=(X, y))
        runs.append(run)
    for whole, part in zip(logs(runs[0]), logs(runs[1]), strict=True):
        assert part == pytest.approx(whole, rel=1e-11)
    for leaf, other in zip(tree.leaves(runs[0].snapshot()), tree.leaves(runs[1].snapshot()), strict=True):
        np.testing.assert_allclose(other, leaf, rtol=1e-9, atol=1e-12)
    assert bits(runs[0]) != bits(runs[1])  # it was computed in parts


def test_carried_values_are_updated_by_each_part(backend: Backend) -> None:
    """BatchNorm sees one part at a time, and each part updates the running statistics."""
    model = nn.Sequential(nn.Standardize.fit(X), nn.BatchNorm1d(6, momentum=0.5), nn.Linear(6, 3))
    run = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(0.0), device=backend.place, dtype="float64")
    with pytest.warns(UserWarning, match="statistics of the batch"):
        run.fit(X, Y, batch_size=40, shuffle=False, accumulate=2)
    z = (X - X.mean(axis=0)) / X.std(axis=0)
    wanted = 0.5 * (0.5 * z[:20].mean(axis=0)) + 0.5 * z[20:].mean(axis=0)
    np.testing.assert_allclose(run.snapshot()[1].running_mean.value, wanted, rtol=1e-9)
    np.testing.assert_allclose(run.snapshot()[0].mean.value, X.mean(axis=0), rtol=1e-15)


def test_parts_with_zero_weight_rows(backend: Backend) -> None:
    weight = np.where(np.arange(40) < 20, 0.0, 1.0)
    runs = [trainer(device=backend.place, dtype="float64") for _ in range(2)]
    for run, accumulate in zip(runs, (1, 2), strict=True):
        run.fit(X, Y, epochs=2, batch_size=40, sample_weight=weight, accumulate=accumulate, shuffle=False)
    assert logs(runs[1])[-1] == pytest.approx(logs(runs[0])[-1], rel=1e-12)


def test_parts_begin_on_even_rows() -> None:
    assert part_edges(14, 2) == [0, 8, 14] and part_edges(5, 5) == [0, 2, 4, 5] and part_edges(1, 3) == [0, 1]
    for batch in range(1, 30):
        for parts in range(1, 9):
            edges = part_edges(batch, parts)
            assert edges[0] == 0 and edges[-1] == batch and edges == sorted(set(edges)) and len(edges) <= parts + 1
            assert all(edge % 2 == 0 for edge in edges[:-1])


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "2"])
def test_invalid_accumulate_raises(wrong: Any) -> None:
    with pytest.raises(InputError, match=r"accumulate: .* is not a whole number of at least 1"):
        trainer().fit(X, Y, accumulate=wrong)


@pytest.mark.parametrize("metric", [Accuracy(), R2Score(2), MeanAbsoluteError()], ids=lambda metric: metric.name)
def test_merged_sums_match_one_pass(metric: Any) -> None:
    z, t = X[:, :2] + 1e6, X[:, 2:4] + 1e6
    target = Y % 2 if metric.name == "accuracy" else t
    empty = metric.init()
    one, other = (metric.update(empty, z[part], target[part], WEIGHT[part]) for part in (slice(11), slice(11, 40)))
    whole = metric.result(metric.update(empty, z, target, WEIGHT))
    for sums in (merged(metric, one, other), merged(metric, other, one)):
        assert metric.result(sums) == pytest.approx(whole, rel=1e-9)
    assert metric.result(merged(metric, empty, one)) == metric.result(merged(metric, one, empty)) == metric.result(one)


# -- pickles and copies ----------------------------------------------------------------------------------

COPIES = {"pickle": lambda run: pickle.loads(pickle.dumps(run)), "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_copied_trainer_continues_training(backend: Backend, way: str, dtype: str) -> None:
    """Before, between and after fits, with a schedule, moving averages and dropout."""
    optimizer = optim.AdamW(optim.CosineAnnealingLR(1e-2, 5))
    x, y = backend.array(X, dtype), backend.array(Y)
    plain, run = (trainer(optimizer, ema=0.9) for _ in range(2))
    for epochs in (2, 1, 2):
        run = COPIES[way](run)
        for each in (plain, run):
            each.lr_scale *= 0.5
            each.fit(x, y, epochs=epochs, batch_size=12)
        assert logs(run) == logs(plain) and bits(run) == bits(plain)
    copied = COPIES[way](run)
    assert (copied.epoch, copied.steps, copied.lr_scale) == (5, 20, 0.125) and logs(copied) == logs(run)
    assert copied.evaluate(x, y) == run.evaluate(x, y)
    assert np.array_equal(to_numpy(copied.predict(x)), to_numpy(run.predict(x)))
    if backend.name == "numpy":  # also to another library
        again = trainer(optimizer, ema=0.9)
        again.load(run.snapshot())
        assert again.evaluate(X.astype(dtype), Y)["loss"] == pytest.approx(run.evaluate(x, y)["loss"])


@pytest.mark.parametrize("way", COPIES)
def test_copy_keeps_the_dtype_of_the_first_data(way: str) -> None:
    plain, run = trainer(), trainer()
    for each in (plain, run):
        each.fit(X.astype("f4"), Y)
    run = COPIES[way](run)
    for each in (plain, run):
        each.fit(X, Y)
    assert bits(run) == bits(plain) and run.predict(X).dtype == np.float32


def test_trainer_can_be_pickled_in_a_callback(backend: Backend) -> None:
    kept: list[bytes] = []
    x, y = backend.array(X, "float64"), backend.array(Y)
    run = trainer()
    run.fit(x, y, epochs=3, batch_size=16, callbacks=[lambda each, logs: kept.append(pickle.dumps(each))])
    first = pickle.loads(kept[0])
    first.fit(x, y, epochs=2, batch_size=16)
    assert bits(first) == bits(run) and first.epoch == run.epoch == 3


def test_copy_shares_no_buffers(backend: Backend) -> None:
    """NumPy writes into the buffers of the state."""
    run = trainer(device=backend.place)
    run.fit(X, Y)
    saved = run.state_dict()
    before = [leaf.tobytes() for leaf in tree.leaves(saved["state"])]
    run.fit(X, Y, epochs=2)
    assert [leaf.tobytes() for leaf in tree.leaves(saved["state"])] == before


def test_state_dict_restores_callbacks_and_crosses_libraries(backend: Backend) -> None:
    def callbacks() -> list[Any]:
        return [EarlyStopping("loss", patience=2, min_delta=0.5), ReduceLROnPlateau("loss", 0.5, 2, min_delta=0.5)]

    x, y, names = backend.array(X, "float64"), backend.array(Y), (3, 9)
    whole = trainer()
    whole.fit(x, y, epochs=names[1], batch_size=16, callbacks=callbacks())
    first = trainer()
    first.fit(x, y, epochs=1, batch_size=16, callbacks=callbacks())
    saved = pickle.loads(pickle.dumps(first.state_dict()))
    second = trainer()
    second.load_state_dict(saved)
    assert (second.epoch, second.steps) == (1, 3) and logs(second) == logs(first)
    second.fit(x, y, epochs=8, batch_size=16, callbacks=callbacks())
    assert second.epoch == whole.epoch and second.lr_scale == whole.lr_scale
    assert logs(second) == logs(whole) and bits(second) == bits(whole)
    other = trainer()
    other.load_state_dict(saved)
    other.fit(X, Y, epochs=2, batch_size=16, callbacks=callbacks())
    assert other.history.records[-1]["loss"] == pytest.approx(whole.history.records[2]["loss"], rel=1e-12)


def test_invalid_state_dict_raises() -> None:
    run = trainer()
    run.fit(X, Y, callbacks=[EarlyStopping("loss")])
    saved = run.state_dict()
    with pytest.raises(InputError, match=r"state_dict: params has the structure .* with other arguments"):
        Trainer(nn.Linear(6, 3), nn.CrossEntropyLoss(), optim.Adam()).load_state_dict(saved)
    with pytest.raises(InputError, match="state_dict: totals has the structure"):
        trainer(metrics=[]).load_state_dict(saved)
    with pytest.raises(InputError, match=r"state_dict: optimizer has the structure AdamState.*; expected SGDState"):
        trainer(optim.SGD(0.1, momentum=0.9)).load_state_dict(saved)
    with pytest.raises(InputError, match="state_dict: ema has the structure"):
        trainer(ema=0.9).load_state_dict(saved)
    again = trainer()
    again.load_state_dict(saved)
    with pytest.raises(InputError, match="the saved run had EarlyStopping"):
        again.fit(X, Y)


def test_state_dict_contains_the_seed(backend: Backend) -> None:
    """The row order depends on it."""
    whole, first, second = (trainer(device=backend.place, dtype="float64", seed=seed) for seed in (3, 3, 4))
    whole.fit(X, Y, epochs=3, batch_size=16)
    first.fit(X, Y, batch_size=16)
    second.load_state_dict(first.state_dict())
    second.fit(X, Y, epochs=2, batch_size=16)
    assert second.seed == 3 and bits(second) == bits(whole)


@pytest.mark.parametrize("way", [*COPIES, "state_dict"])
def test_callback_states_apply_to_the_next_fit(way: str) -> None:
    """Also if the trainer is copied or saved between loading and training."""

    def early() -> EarlyStopping:
        return EarlyStopping("loss", patience=2, min_delta=9.0)

    first, second = trainer(), trainer()
    first.fit(X, Y, epochs=2, callbacks=[early()])
    second.load_state_dict(first.state_dict())
    if way == "state_dict":
        third = trainer()
        third.load_state_dict(second.state_dict())
    else:
        third = COPIES[way](second)
    third.fit(X, Y, epochs=5, callbacks=[early()])
    assert third.epoch == 3  # patience runs out after one more epoch, not two


def test_state_dict_before_the_first_step_is_a_copy() -> None:
    run = trainer()
    saved = run.state_dict()
    for leaf in tree.leaves(saved["state"].params):
        leaf[...] = 7
    run.fit(X, Y)
    other = trainer()
    other.fit(X, Y)
    assert bits(run) == bits(other)


@pytest.mark.parametrize("way", COPIES)
def test_trainer_with_a_device_is_copied(backend: Backend, way: str) -> None:
    plain, run = (trainer(device=backend.place, dtype="float64") for _ in range(2))
    for _ in range(2):
        run = COPIES[way](run)
        assert run.device == backend.place
        for each in (plain, run):
            each.fit(X, Y, batch_size=16)
    assert bits(run) == bits(plain)
    assert COPIES[way](trainer(device="cuda:1")).device == "cuda:1"
    assert COPIES[way](trainer(device="cpu")).fit(X, Y).records


# -- parts of a batch on every runner ----------------------------------------------------------------------------------


def in_parts(backend: Backend) -> tuple[Any, ...]:
    run = trainer(ema=0.9, device=backend.place, dtype="float64", metrics=[Accuracy(), ConfusionMatrix(3)])
    for accumulate in (3, 1, 3):
        run.fit(X, Y, epochs=2, batch_size=14, sample_weight=WEIGHT, accumulate=accumulate, validation_data=(X, Y))
    return logs(run), bits(run)


def test_parts_are_captured(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the GPU runner on the CPU; on torch, eager steps also use torch's operations."""
    without_jax(backend, "nothing is recorded there")
    monkeypatch.setattr(engine, "computes_on_numpy", lambda *parts: False)
    eager = in_parts(backend)
    gpu.rehearse(monkeypatch)
    assert in_parts(backend) == eager


def test_parts_of_streamed_data(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    resident = in_parts(backend)
    monkeypatch.setattr(data_feed, "free_bytes", lambda place: -1)
    monkeypatch.setattr(data_feed, "_CHUNK", 3 * 14 * (6 * 8 + 4 + 8))
    assert in_parts(backend) == resident
    gpu.rehearse(monkeypatch)
    recorded = in_parts(backend)
    if backend.library != "torch":  # torch's operations round differently from NumPy's
        assert recorded == resident


def test_parts_of_distorted_images_match_the_whole_batch(backend: Backend) -> None:
    model = nn.Sequential(nn.RandomDistortion(), nn.Flatten(), nn.Linear(64, 3))
    images = np.abs(draw("images", 12, 8, 8))
    runs = [Trainer(model, nn.MSELoss(), optim.SGD(0.1), device=backend.place, dtype="float64") for _ in range(2)]
    for run, accumulate in zip(runs, (1, 3), strict=True):
        run.fit(images, np.eye(3)[Y[:12]], batch_size=12, accumulate=accumulate)
    for leaf, other in zip(tree.leaves(runs[0].snapshot()), tree.leaves(runs[1].snapshot()), strict=True):
        np.testing.assert_allclose(other, leaf, rtol=1e-11, atol=1e-13)


@dataclass(frozen=True)
class Centred:
    """A custom layer that subtracts the batch mean."""

    uses_batch_statistics: ClassVar[bool] = True

    def init(self, key: Any) -> tuple[()]:
        return ()

    def forward(self, params: Any, x: Any, *, key: Any = None) -> tuple[Any, Any]:
        return x - array_namespace(x).mean(x, axis=0), ()

    def backward(self, params: Any, residuals: Any, dy: Any, *, need_dx: bool = True) -> tuple[Any, Any]:
        return dy - array_namespace(dy).mean(dy, axis=0), ()


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(6), Centred()], ids=["BatchNorm1d", "custom"])
def test_parts_with_batch_statistics_warn(layer: Any) -> None:
    for model in (
        nn.Sequential(layer, nn.Linear(6, 3)),
        nn.Sequential(nn.Residual(nn.Sequential(nn.Dropout(0.1), layer)), nn.Linear(6, 3)),
    ):
        run = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(0.1))
        run.fit(X, Y)  # no warning: warnings are errors in tests
        with pytest.warns(UserWarning, match="accumulate is 2 and the model uses statistics of the batch") as found:
            run.fit(X, Y, epochs=3, accumulate=2)
        assert len(found) == 1 and found[0].filename == __file__
    assert not traits.uses_batch_statistics(network()) and not traits.uses_batch_statistics(object())
