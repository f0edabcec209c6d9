"""Tests for Trainer.fit, evaluate and predict."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import Backend
from problem import X, Y, network, trainer

from xpnn import nn, optim
from xpnn.arrays import random, tree
from xpnn.devices.place import find_place
from xpnn.errors import InputError, NonFiniteError
from xpnn.nn.losses import elementwise
from xpnn.training import Data, History, JSONLLogger, Trainer, TrainingStep
from xpnn.training.state import first_state
from xpnn.training.trainer import Logs


@pytest.mark.parametrize(
    "optimizer", [optim.SGD(0.05, 0.9, 1e-3, nesterov=True), optim.Adam(1e-3)], ids=["sgd", "adam"]
)
def test_loss_curve_matches_numpy_for_500_steps(optimizer: Any, backend: Backend) -> None:
    """37 rows in batches of 8: five steps per epoch, the last one with 5 rows; dropout, and validation each epoch."""

    def curve(x: Any, y: Any, **options: Any) -> np.ndarray:
        validation = (x[37:, ...], y[37:])
        run = trainer(optimizer, seed=3, **options)
        history = run.fit(x[:37, ...], y[:37], epochs=100, batch_size=8, validation_data=validation)
        return np.array([[log["loss"], log["accuracy"], log["val_loss"], log["val_accuracy"]] for log in history])

    wanted = curve(X, Y)
    assert wanted[-1, 0] < 0.7 * wanted[0, 0]
    got = curve(backend.array(X), backend.array(Y))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-9)


def test_same_seed_is_bit_identical_and_another_is_not() -> None:
    first, again, other = (trainer(seed=seed).fit(X, Y, epochs=3, batch_size=8).records for seed in (1, 1, 2))
    for log in (*first, *again, *other):
        del log["seconds"]
    assert first == again
    assert first != other


def test_repeated_fit_equals_one_longer_run() -> None:
    whole, parts = trainer(), trainer()
    whole.fit(X, Y, epochs=4, batch_size=8)
    parts.fit(X, Y, epochs=3, batch_size=8)
    history = parts.fit(X, Y, epochs=1, batch_size=8)
    assert history.records[0]["epoch"] == 4
    for one, other in zip(tree.leaves(whole.snapshot()), tree.leaves(parts.snapshot()), strict=True):
        assert np.array_equal(one, other)


def test_two_epochs_by_hand() -> None:
    """The computation of fit, written out: row order, masks, sums, learning rate, and a remainder of 5 rows."""
    rate, scale, n = 0.1, 0.5, 37
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3))
    run = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(rate), seed=9)
    run.lr_scale = scale
    history = run.fit(X[:n], Y[:n], epochs=2, batch_size=8, validation_data=(X[n:], Y[n:]))

    weight, bias, out, shift = tree.leaves(model.init(random.key(9, "init")))
    step = 0
    for epoch in range(2):
        order = random.permutation(random.key(9, "shuffle").child(epoch), n)
        total = hits = 0.0
        for at in range(0, n, 8):
            rows = order[at : at + 8]
            x, y = X[rows], np.eye(3)[Y[rows]]
            key = random.key(9, "dropout").child(2)._replace(step=np.array([step], np.uint32))
            mask = random.keep_mask(key, 0.4, (len(rows), 8)) / (1 - 0.4)
            before = x @ weight + bias
            hidden = np.maximum(before, 0) * mask
            logits = hidden @ out + shift
            share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            total -= np.log(share[y == 1]).sum()
            hits += (np.argmax(logits, axis=1) == Y[rows]).sum()
            slope = (share - y) / len(rows)
            back = (slope @ out.T) * mask * (before > 0)
            out, shift = out - rate * scale * hidden.T @ slope, shift - rate * scale * slope.sum(axis=0)
            weight, bias = weight - rate * scale * x.T @ back, bias - rate * scale * back.sum(axis=0)
            step += 1
        np.testing.assert_allclose(history.records[epoch]["loss"], total / n, rtol=1e-12)
        assert history.records[epoch]["accuracy"] == hits / n and history.records[epoch]["lr"] == rate * scale
        logits = np.maximum(X[n:] @ weight + bias, 0) @ out + shift
        share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        loss = -np.log(share[np.arange(3), Y[n:]]).mean()
        np.testing.assert_allclose(history.records[epoch]["val_loss"], loss, rtol=1e-12)
    for ours, hand in zip(tree.leaves(run.snapshot()), (weight, bias, out, shift), strict=True):
        np.testing.assert_allclose(ours, hand, rtol=1e-12)


def test_evaluate_averages_over_rows(backend: Backend) -> None:
    """1,030 rows: a full batch of 1,024 and a remainder; the mean is over rows, also for sum reduction."""
    x, y = np.tile(X, (26, 1))[:1030], np.tile(Y, 26)[:1030]
    for loss in (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(reduction="sum")):
        run = Trainer(network(), loss, optim.SGD(0.1), device=backend.place, dtype="float64")
        logits = run.predict(x)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        result = run.evaluate(x, y)
        np.testing.assert_allclose(result["loss"], -log_p[np.arange(1030), y].mean(), rtol=1e-12)
        assert result["accuracy"] == np.mean(np.argmax(logits, axis=1) == y)


def test_error_counts_batches_within_the_epoch() -> None:
    run = Trainer(nn.Linear(6, 1), nn.MSELoss(), optim.SGD(1e-3), dtype="float32")
    run.fit(X, X[:, :1], batch_size=16)
    run.lr_scale = 1e33
    with pytest.raises(NonFiniteError, match=r"at step 5 \(epoch 2, batch 2\), learning rate 1e\+30"):
        run.fit(X, X[:, :1], batch_size=8)


def test_nan_weights_are_reported(backend: Backend) -> None:
    run = trainer(device=backend.place, dtype="float64")
    spoilt = run.snapshot()
    tree.leaves(tree.trained(spoilt))[0][0, 0] = math.nan
    run.load(spoilt)
    assert math.isnan(run.evaluate(X, Y)["loss"])
    with pytest.raises(NonFiniteError, match="at step 1 "):
        run.fit(X, Y, epochs=3, batch_size=8)


def test_sample_weight(backend: Backend) -> None:
    """A row of weight 0 is ignored in the loss, the accuracy and the gradient."""
    weight = np.where(np.arange(40) < 30, 1.0, 0.0)
    model = nn.Linear(6, 3)
    weighted = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(0.1), device=backend.place)
    fewer = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(0.1), device=backend.place)
    one = weighted.fit(X, Y, batch_size=40, epochs=3, sample_weight=weight, shuffle=False)
    other = fewer.fit(X[:30], Y[:30], batch_size=30, epochs=3, shuffle=False)
    for a, b in zip(one, other, strict=True):
        assert abs(a["loss"] - b["loss"]) < 1e-12 and a["accuracy"] == b["accuracy"]
    result = weighted.evaluate(X, Y, sample_weight=weight)
    assert abs(result["loss"] - fewer.evaluate(X[:30], Y[:30])["loss"]) < 1e-12


def test_means_are_weighted_over_batches() -> None:
    weight = np.linspace(0, 3, 40)
    run = Trainer(nn.Linear(6, 3), nn.CrossEntropyLoss(), optim.SGD(0.0))
    log = run.fit(X, Y, batch_size=8, sample_weight=weight).records[0]
    result = run.evaluate(X, Y, sample_weight=weight)
    assert abs(log["loss"] - result["loss"]) < 1e-12 and abs(log["accuracy"] - result["accuracy"]) < 1e-12
    assert abs(result["loss"] - run.evaluate(X, Y)["loss"]) > 1e-3


def test_no_shuffle_keeps_the_row_order() -> None:
    order = random.permutation(random.key(5, "shuffle").child(0), 40)
    one, other = (Trainer(nn.Linear(6, 3), nn.CrossEntropyLoss(), optim.SGD(0.5), seed=5) for _ in range(2))
    one.fit(X, Y, batch_size=8)
    other.fit(X[order], Y[order], batch_size=8, shuffle=False)
    assert np.array_equal(one.snapshot().weight, other.snapshot().weight)
    assert not np.array_equal(order, np.arange(40))


def test_regression_with_mse(backend: Backend) -> None:
    y = X @ np.array([1.0, -2.0, 0.5, 0.0, 3.0, 1.0]) + 4
    run = Trainer(nn.Linear(6, 1), nn.MSELoss(), optim.Adam(0.1), device=backend.place)
    history = run.fit(X, y, epochs=300, batch_size=40)
    assert set(history.records[0]) == {"epoch", "loss", "lr", "seconds"}
    assert history.records[-1]["loss"] < 1e-3
    bias = run.snapshot().bias
    assert abs(float(bias[0]) - 4) < 0.05


@pytest.mark.parametrize(
    "loss",
    [getattr(elementwise, name)() for name in sorted(vars(elementwise)) if name.endswith("Loss")],
    ids=lambda loss: type(loss).__name__,
)
def test_elementwise_loss_trains_on_a_1d_target(loss: nn.Loss) -> None:
    """A 1-D target is a column. Some losses need counts or probabilities; 0 and 1 are valid for all."""
    y = (X[:, 0] > 0).astype(np.float64)
    run = Trainer(nn.MLP(6, 1, (8,)), loss, optim.Adam(0.02))
    history = run.fit(X, y, epochs=60, batch_size=20)
    assert history.records[-1]["loss"] < 0.8 * history.records[0]["loss"]


def test_callbacks_receive_logs_and_may_stop_or_change_the_rate() -> None:
    seen: list[Logs] = []

    def watch(run: Trainer, logs: Logs) -> None:
        seen.append(logs)
        run.lr_scale *= 0.5
        if logs["epoch"] == 3:
            run.stop()

    done: list[tuple[int, int]] = []
    history = trainer().fit(X, Y, epochs=9, batch_size=16, callbacks=[watch], progress=lambda *at: done.append(at))
    assert [log["lr"] for log in history] == [0.01, 0.005, 0.0025] and history.records == seen
    assert done[:3] == [(16, 40), (32, 40), (40, 40)] and len(done) == 9
    assert history.history["epoch"] == [1, 2, 3] and len(history) == 3 and "3 epochs" in repr(history)


def test_history_file_has_one_json_object_per_epoch(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = trainer().fit(X, Y, epochs=3, batch_size=8, callbacks=[JSONLLogger(path)])
    assert isinstance(history, History)
    assert [json.loads(line) for line in path.read_text().splitlines()] == history.records
    JSONLLogger(path)(trainer(), {"epoch": 4, "loss": math.nan, "lr": math.inf})
    assert path.read_text().splitlines()[-1] == '{"epoch": 4, "loss": null, "lr": null}'


def test_stop_between_steps_leaves_a_usable_model() -> None:
    run = trainer()

    def progress(done: int, rows: int) -> None:
        if done >= 16:
            run.stop()

    assert len(run.fit(X, Y, epochs=5, batch_size=8, progress=progress)) == 0
    assert int(run.state.step[0]) == 2
    assert run.predict(X).shape == (40, 3)


def test_snapshot_outlives_the_state_and_can_be_loaded(backend: Backend) -> None:
    run = trainer(device=backend.place)
    run.fit(X, Y, epochs=2, batch_size=8)
    kept, before = run.snapshot(), run.evaluate(X, Y)
    run.fit(X, Y, epochs=2, batch_size=8)
    assert run.evaluate(X, Y) != before
    run.load(kept)
    assert run.evaluate(X, Y) == before
    other = trainer(device=backend.place)
    other.load(kept)
    assert other.evaluate(X, Y) == before


@pytest.mark.parametrize("library", ["numpy", "strict", "torch", "jax"])
def test_nonfinite_loss_names_the_step_and_the_rate(library: str) -> None:
    pytest.importorskip({"strict": "array_api_strict"}.get(library, library))
    run = Trainer(nn.Linear(6, 1), nn.MSELoss(), optim.SGD(1e30), device=find_place("cpu", library), dtype="float32")
    with pytest.raises(
        NonFiniteError, match=r"loss is not finite at step 2 \(epoch 1, batch 2\), learning rate 1e\+30"
    ):
        run.fit(X, X[:, :1], epochs=2, batch_size=8)


def test_first_bad_step_reports_its_rate() -> None:
    """Later steps are also nonfinite and may have another rate: the first one is reported."""
    loss, optimizer = nn.MSELoss(), optim.SGD(1.0)
    model = nn.Linear(6, 1)
    run = TrainingStep(model, loss, optimizer, ())
    data = Data(np.full((2, 6), math.inf), np.ones((2, 1)), None)
    rows = np.array([0, 1])
    state = first_state(model, loss, (), 0)
    state = state._replace(optimizer=optimizer.init(state.params), lr_scale=np.asarray(0.5))
    with np.errstate(all="ignore"):
        state = run(state, data, rows)
        state = run(state._replace(lr_scale=np.asarray(0.25)), data, rows)
    assert (int(state.totals.bad_step[0]), float(state.totals.bad_lr), float(state.totals.lr)) == (1, 0.5, 0.25)


def test_nonfinite_weights_after_the_last_step_are_reported() -> None:
    run = Trainer(nn.Linear(6, 1), nn.MSELoss(), optim.SGD(1e308), dtype="float64")
    with pytest.raises(NonFiniteError, match="the weights weight are not finite after step 1"):
        run.fit(1e3 * X, X[:, :1], batch_size=40)


def test_schedule_applies_at_each_step(backend: Backend) -> None:
    """40 rows in batches of 10: an epoch's record has the rate of its last step, including lr_scale."""
    run = trainer(optim.SGD(optim.InverseTimeLR(0.1, 0.5)), device=backend.place, dtype="float64")
    rates = [record["lr"] for record in run.fit(X, Y, epochs=3, batch_size=10)]
    run.lr_scale = 0.1
    rates += [record["lr"] for record in run.fit(X, Y, epochs=2, batch_size=10)]
    last = np.arange(5) + 0.75  # in epochs
    np.testing.assert_allclose(rates, [1, 1, 1, 0.1, 0.1] * (0.1 / (1 + 0.5 * last)), rtol=1e-12)
    plain = trainer(optim.SGD(0.1), device=backend.place, dtype="float64")
    assert plain.fit(X, Y, batch_size=10).records[0]["loss"] != run.history.records[0]["loss"]


def test_custom_function_is_accepted_as_schedule() -> None:
    run = trainer(optim.SGD(lambda step, per_epoch: 0.1 / (1 + step)))
    assert [record["lr"] for record in run.fit(X, Y, epochs=2, batch_size=20)] == [np.float32(0.1) / 2, 0.025]


def test_schedule_continues_by_whole_epochs() -> None:
    """After 2 epochs of 4 steps, a fit with another batch size continues at epoch 2; a partial epoch is repeated."""
    run = trainer(optim.SGD(optim.ExponentialLR(1.0, 0.5)), dtype="float64")
    run.fit(X, Y, epochs=2, batch_size=10)
    assert run.fit(X, Y, batch_size=40).records[0]["lr"] == 0.5**2
    stopping = {"progress": lambda done, rows: run.stop() if done >= 20 else None}
    assert len(run.fit(X, Y, batch_size=10, **stopping)) == 0
    assert run.fit(X, Y, batch_size=20).records[0]["lr"] == 0.5**3.5


class Lying(NamedTuple):
    weight: Any


@dataclass(frozen=True)
class WrongShape:
    """A layer with a gradient of the wrong shape, which an update would broadcast."""

    def init(self, key: nn.Key) -> Lying:
        return Lying(np.ones(3))

    def forward(self, params: Lying, x: Any, *, key: nn.Key | None = None) -> Any:
        return x * params.weight, x

    def backward(self, params: Lying, x: Any, dy: Any, *, need_dx: bool = True) -> Any:
        return dy * params.weight, Lying((dy * x)[:, 0])


@dataclass(frozen=True)
class EachRow:
    """A loss that is not a scalar."""

    def init(self) -> tuple[()]:
        return ()

    def forward(self, constants: Any, prediction: Any, target: Any, sample_weight: Any = None) -> Any:
        return (prediction[:, 0] - target) ** 2, (prediction, target)

    def backward(self, constants: Any, residuals: Any) -> Any:
        return residuals[0]


def test_invalid_custom_parts_raise_before_training() -> None:
    for layers in ((WrongShape(),), (nn.Linear(3, 3), WrongShape())):
        with pytest.raises(InputError, match=r"backward returned gradients .*Lying\(\(1,\)\).*Lying\(\(3,\)\)"):
            Trainer(nn.Sequential(*layers), nn.CrossEntropyLoss(), optim.SGD()).fit(X[:, :3], Y)
    with pytest.raises(InputError, match=r"the loss EachRow has shape \(1,\); expected a scalar"):
        Trainer(nn.Linear(6, 1), EachRow(), optim.SGD()).fit(X, Y)
