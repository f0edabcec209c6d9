"""The loop: the same experiment on every library, what goes in and what comes out, and what stops it."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from cases import draw
from conftest import Backend, assert_close

from xpnn import nn, optim
from xpnn.arrays import random, tree
from xpnn.arrays.device import Place, find_place, place, to_numpy
from xpnn.arrays.namespace import array_namespace, device_of, library_of
from xpnn.errors import DataFormatError, DeviceUnavailableError, InputError, NonFiniteError, XpnnError
from xpnn.training import History, JSONLLogger, Trainer, step
from xpnn.training.trainer import Logs

X = draw("train x", 40, 6)
Y = np.argmax(X[:, :3] + 0.5 * X[:, 3:], axis=1).astype(np.int32)


def network(dropout: float = 0.3) -> nn.Sequential:
    return nn.Sequential(nn.Standardize.fit(X), *nn.MLP(6, 3, (16, 8), dropout=dropout).layers)


def trainer(optimizer: optim.Optimizer | None = None, **options: Any) -> Trainer:
    return Trainer(network(), nn.CrossEntropyLoss(), optimizer or optim.Adam(1e-2), **options)


@pytest.mark.parametrize(
    "optimizer", [optim.SGD(0.05, 0.9, 1e-3, nesterov=True), optim.Adam(1e-3)], ids=["sgd", "adam"]
)
def test_the_loss_curve_is_the_same_on_every_library_for_500_steps(optimizer: Any, backend: Backend) -> None:
    """Batches of 8 of 37 rows: five steps an epoch, the last one of 5 rows; dropout on; validation each epoch."""

    def curve(x: Any, y: Any, **options: Any) -> np.ndarray:
        validation = (x[37:, ...], y[37:])
        run = trainer(optimizer, seed=3, **options)
        history = run.fit(x[:37, ...], y[:37], epochs=100, batch_size=8, validation_data=validation)
        return np.array([[log["loss"], log["accuracy"], log["val_loss"], log["val_accuracy"]] for log in history])

    wanted = curve(X, Y)
    assert wanted[-1, 0] < 0.7 * wanted[0, 0]
    got = curve(backend.array(X), backend.array(Y))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-9)


def test_the_same_seed_repeats_bit_for_bit_and_another_does_not() -> None:
    first, again, other = (trainer(seed=seed).fit(X, Y, epochs=3, batch_size=8).records for seed in (1, 1, 2))
    for log in (*first, *again, *other):
        del log["seconds"]
    assert first == again
    assert first != other


def test_training_on_from_an_earlier_call_is_one_longer_run() -> None:
    whole, parts = trainer(), trainer()
    whole.fit(X, Y, epochs=4, batch_size=8)
    parts.fit(X, Y, epochs=3, batch_size=8)
    history = parts.fit(X, Y, epochs=1, batch_size=8)
    assert history.records[0]["epoch"] == 4
    for one, other in zip(tree.leaves(whole.snapshot()), tree.leaves(parts.snapshot()), strict=True):
        assert np.array_equal(one, other)


def test_two_epochs_by_hand() -> None:
    """What fit does, written out: the order of the rows, the masks, the sums, the rate, the remainder of 5 rows."""
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


def test_evaluate_counts_every_row_once(backend: Backend) -> None:
    """1,030 rows: one full batch of 1,024 and a remainder; the mean is over rows, also for a loss that is a sum."""
    x, y = np.tile(X, (26, 1))[:1030], np.tile(Y, 26)[:1030]
    for loss in (nn.CrossEntropyLoss(), nn.CrossEntropyLoss("sum")):
        run = Trainer(network(), loss, optim.SGD(0.1), device=backend.where, dtype="float64")
        logits = run.predict(x)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        result = run.evaluate(x, y)
        np.testing.assert_allclose(result["loss"], -log_p[np.arange(1030), y].mean(), rtol=1e-12)
        assert result["accuracy"] == np.mean(np.argmax(logits, axis=1) == y)


class CenterParams(NamedTuple):
    mean: nn.Carried
    seen: nn.Carried


@dataclass(frozen=True)
class Center:
    """A layer of a user's own: subtracts the mean of all training rows so far, which it carries."""

    features: int

    def init(self, key: nn.Key) -> CenterParams:
        return CenterParams(nn.Carried(np.zeros(self.features)), nn.Carried(np.zeros(())))

    def forward(self, params: CenterParams, x: Any, *, key: nn.Key | None = None) -> Any:
        mean, seen = params.mean.value, params.seen.value
        if key is not None:
            xp = array_namespace(x)
            rows = x.shape[0]
            mean = (mean * seen + xp.sum(x, axis=0)) / (seen + rows)
            seen = seen + rows
        return x - mean, CenterParams(nn.Carried(mean), nn.Carried(seen))

    def backward(self, params: CenterParams, residuals: CenterParams, dy: Any, *, need_dx: bool = True) -> Any:
        return (dy if need_dx else None), residuals


@pytest.mark.parametrize("place_of_layer", ["below", "nested", "above"])
def test_a_layer_of_ones_own_carries_its_values(place_of_layer: str, backend: Backend) -> None:
    layers = {
        "below": nn.Sequential(nn.Flatten(), Center(6), nn.Linear(6, 3)),
        "nested": nn.Sequential(nn.Sequential(nn.Flatten()), nn.Sequential(Center(6)), nn.Linear(6, 3)),
        "above": nn.Sequential(nn.Linear(6, 6), Center(6), nn.Linear(6, 3)),
    }
    run = Trainer(layers[place_of_layer], nn.CrossEntropyLoss(), optim.Adam(), device=backend.where)
    run.fit(X, Y, epochs=2, batch_size=16)
    (center,) = (leaf for leaf in _layers(run.snapshot()) if isinstance(leaf, CenterParams))
    assert float(center.seen.value) == 80
    if place_of_layer != "above":
        assert_close(center.mean.value, X.mean(axis=0))


def _layers(params: Any) -> Iterator[Any]:
    for part in params:
        if isinstance(part, CenterParams):
            yield part
        elif isinstance(part, tuple) and part and not hasattr(part, "_fields"):
            yield from _layers(part)


def test_a_model_with_nothing_to_train() -> None:
    run = Trainer(nn.Sequential(nn.Sequential(nn.ReLU()), nn.Tanh()), nn.CrossEntropyLoss(), optim.Adam())
    assert len(run.fit(X[:, :3], Y, epochs=2, batch_size=8)) == 2


class Costs(NamedTuple):
    of_class: Any


@dataclass(frozen=True)
class Expected:
    """A loss of a user's own, with constants: the mean expected cost of the labels' classes."""

    def init(self) -> Costs:
        return Costs(np.array([1.0, 2.0, 4.0]))

    def forward(self, constants: Costs, prediction: Any, target: Any, sample_weight: Any = None) -> Any:
        xp = array_namespace(prediction)
        cost = xp.take(constants.of_class, target)[:, None]
        return xp.sum((prediction - cost) ** 2) / prediction.shape[0], (prediction, cost)

    def backward(self, constants: Costs, residuals: Any) -> Any:
        prediction, cost = residuals
        return 2 * (prediction - cost) / prediction.shape[0]


def test_a_loss_of_ones_own(backend: Backend) -> None:
    run = Trainer(nn.Linear(6, 1), Expected(), optim.Adam(0.05), device=backend.where, dtype="float64")
    history = run.fit(X, Y, epochs=60, batch_size=16)
    assert set(history.records[0]) == {"epoch", "loss", "lr", "seconds"}
    assert history.records[-1]["loss"] < 0.5 * history.records[0]["loss"]


NUMBERS = [
    lambda: Trainer(network(), nn.CrossEntropyLoss(), optim.SGD(np.float64(0.1), np.float64(0.5), np.float64(1e-3))),
    lambda: Trainer(network(), nn.CrossEntropyLoss(), optim.Adam(np.float64(0.1), weight_decay=np.float64(1e-3))),
    lambda: Trainer(network(np.float64(0.2)), nn.CrossEntropyLoss(), optim.SGD(1)),
]


@pytest.mark.parametrize("make", NUMBERS)
def test_numbers_from_numpy_do_not_widen_the_weights(make: Any, backend: Backend) -> None:
    run = make()
    run.lr_scale = 1
    run.fit(backend.array(X, "float32"), Y, epochs=2, batch_size=16)
    assert all("float32" in str(leaf.dtype) for leaf in tree.leaves(run.state.params))


def test_the_batch_in_the_error_is_of_this_epoch() -> None:
    run = Trainer(nn.Linear(6, 1), nn.MSELoss(), optim.SGD(1e-3), dtype="float32")
    run.fit(X, X[:, :1], batch_size=16)
    run.lr_scale = 1e33
    with pytest.raises(NonFiniteError, match=r"at step 5 \(epoch 2, batch 2\), learning rate 1e\+30"):
        run.fit(X, X[:, :1], batch_size=8)


def test_not_a_number_in_the_weights_is_never_hidden(backend: Backend) -> None:
    run = trainer(device=backend.where, dtype="float64")
    spoilt = run.snapshot()
    tree.leaves(tree.trained(spoilt))[0][0, 0] = math.nan
    run.load(spoilt)
    assert math.isnan(run.evaluate(X, Y)["loss"])
    with pytest.raises(NonFiniteError, match="at step 1 "):
        run.fit(X, Y, epochs=3, batch_size=8)


def test_parameters_of_another_model_are_not_loaded() -> None:
    run = trainer()
    with pytest.raises(InputError, match="of another model"):
        run.load(Trainer(nn.Linear(6, 3), nn.CrossEntropyLoss(), optim.SGD()).snapshot())


def test_copies_are_copies(backend: Backend) -> None:
    """A snapshot belongs to its holder, a loaded one to the trainer, and data is never written."""
    x, y = np.array(X), np.array(Y)
    run = trainer(device=backend.where, dtype="float64")
    kept = run.snapshot()
    wanted = trainer(dtype="float64").evaluate(x, y)["loss"]
    run.load(kept)
    for leaf in tree.leaves(kept):
        leaf[...] = 7
    assert abs(run.evaluate(x, y)["loss"] - wanted) < 1e-12
    kept = run.snapshot()
    before = run.evaluate(x, y)
    for leaf in (*tree.leaves(kept), *tree.leaves(run.snapshot())):
        leaf[...] = 7
    assert run.evaluate(x, y) == before
    run.fit(x, y, epochs=1, batch_size=8)
    assert np.array_equal(x, X) and np.array_equal(y, Y)


def test_torch_keeps_no_tape_and_jax_reuses_the_state() -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor(X, requires_grad=True)
    run = trainer()
    run.fit(x, torch.tensor(Y), batch_size=8)
    assert not any(leaf.requires_grad for leaf in tree.leaves(run.state))
    assert not run.predict(x).requires_grad
    pytest.importorskip("jax")
    run = trainer(device=find_place("cpu", "jax"), dtype="float32")
    run.evaluate(X, Y)
    before = run.state
    run.fit(X, Y, batch_size=8)
    assert all(leaf.is_deleted() for leaf in tree.leaves(before.params))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint32", "int64", "float64", "bool"])
def test_labels_of_every_kind(dtype: str, backend: Backend) -> None:
    y = (Y > 0).astype(dtype)
    if backend.library == "torch" and dtype == "uint32":
        pytest.skip("array-api-compat's torch has no uint32 arithmetic, and no one has such labels there")
    run = Trainer(nn.Linear(6, 300), nn.CrossEntropyLoss(), optim.SGD(0.1))
    run.fit(backend.array(X), backend.array(y), batch_size=40)
    assert run.evaluate(X, (Y > 0).astype("int32"))["accuracy"] >= 0


def test_what_goes_in_comes_out(backend: Backend) -> None:
    x = backend.array(X, "float32")
    run = trainer()
    run.fit(x, backend.array(Y), epochs=30, batch_size=8)
    outputs = run.predict(x)
    assert array_namespace(outputs) is backend.xp
    assert device_of(outputs) == backend.where.device
    assert tuple(outputs.shape) == (40, 3) and "float32" in str(outputs.dtype)
    assert np.mean(np.argmax(to_numpy(outputs), axis=1) == Y) > 0.85
    assert run.evaluate(x, backend.array(Y))["accuracy"] == np.mean(np.argmax(to_numpy(outputs), axis=1) == Y)
    leaf = tree.leaves(run.state.params)[0]
    assert library_of(leaf) == backend.library and device_of(leaf) == backend.where.device

    elsewhere = run.predict(X)  # NumPy in, NumPy out, wherever the model lives
    assert isinstance(elsewhere, np.ndarray) and elsewhere.dtype == np.float32
    assert_close(elsewhere, to_numpy(outputs))
    assert_close(to_numpy(run.predict(x, batch_size=7)), to_numpy(outputs), ulps=256)


def test_lists_and_tables_are_numpy() -> None:
    run = Trainer(nn.Linear(2, 2), nn.CrossEntropyLoss(), optim.SGD())
    run.fit([[0.0, 1.0], [1.0, 0.0]], [0, 1], batch_size=2)
    assert isinstance(run.predict([[0.0, 1.0]]), np.ndarray)


def test_whole_numbers_stay_bytes_on_the_device(backend: Backend) -> None:
    images = (np.abs(X) * 40).astype(np.uint8).reshape(40, 2, 3)
    model = nn.Sequential(nn.Flatten(), nn.Scale(1 / 255), nn.Linear(6, 3))
    run = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(), device=backend.where)
    data = run._enter(images, Y)
    assert "uint8" in str(data.x.dtype)
    run.fit(images, Y, batch_size=8)
    assert "float32" in str(tree.leaves(run.state.params)[0].dtype)


def test_sample_weights_count(backend: Backend) -> None:
    """A weight of 0 is as if the row were not there, in the loss, the accuracy and the gradient."""
    weight = np.where(np.arange(40) < 30, 1.0, 0.0)
    model = nn.Linear(6, 3)
    weighted = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(0.1), device=backend.where)
    fewer = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(0.1), device=backend.where)
    one = weighted.fit(X, Y, batch_size=40, epochs=3, sample_weight=weight, shuffle=False)
    other = fewer.fit(X[:30], Y[:30], batch_size=30, epochs=3, shuffle=False)
    for a, b in zip(one, other, strict=True):
        assert abs(a["loss"] - b["loss"]) < 1e-12 and a["accuracy"] == b["accuracy"]
    result = weighted.evaluate(X, Y, sample_weight=weight)
    assert abs(result["loss"] - fewer.evaluate(X[:30], Y[:30])["loss"]) < 1e-12


def test_the_means_are_weighted_over_batches_of_different_weight() -> None:
    weight = np.linspace(0, 3, 40)
    run = Trainer(nn.Linear(6, 3), nn.CrossEntropyLoss(), optim.SGD(0.0))
    log = run.fit(X, Y, batch_size=8, sample_weight=weight).records[0]
    result = run.evaluate(X, Y, sample_weight=weight)
    assert abs(log["loss"] - result["loss"]) < 1e-12 and abs(log["accuracy"] - result["accuracy"]) < 1e-12
    assert abs(result["loss"] - run.evaluate(X, Y)["loss"]) > 1e-3


def test_one_hot_rows_are_the_same_target_as_labels(backend: Backend) -> None:
    run = trainer(device=backend.where, dtype="float64")
    labels, rows = run.evaluate(X, Y), run.evaluate(X, np.eye(3)[Y])
    assert labels["accuracy"] == rows["accuracy"] and abs(labels["loss"] - rows["loss"]) < 1e-12


def test_without_shuffle_the_rows_come_as_they_stand() -> None:
    order = random.permutation(random.key(5, "shuffle").child(0), 40)
    one, other = (Trainer(nn.Linear(6, 3), nn.CrossEntropyLoss(), optim.SGD(0.5), seed=5) for _ in range(2))
    one.fit(X, Y, batch_size=8)
    other.fit(X[order], Y[order], batch_size=8, shuffle=False)
    assert np.array_equal(one.snapshot().weight, other.snapshot().weight)
    assert not np.array_equal(order, np.arange(40))


def test_regression_with_mse(backend: Backend) -> None:
    y = X @ np.array([1.0, -2.0, 0.5, 0.0, 3.0, 1.0]) + 4
    run = Trainer(nn.Linear(6, 1), nn.MSELoss(), optim.Adam(0.1), device=backend.where)
    history = run.fit(X, y, epochs=300, batch_size=40)
    assert set(history.records[0]) == {"epoch", "loss", "lr", "seconds"}
    assert history.records[-1]["loss"] < 1e-3
    bias = run.snapshot().bias
    assert abs(float(bias[0]) - 4) < 0.05


def test_callbacks_see_the_logs_and_may_stop_or_change_the_rate() -> None:
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


def test_the_history_file_holds_one_json_object_an_epoch(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = trainer().fit(X, Y, epochs=3, batch_size=8, callbacks=[JSONLLogger(path)])
    assert isinstance(history, History)
    assert [json.loads(line) for line in path.read_text().splitlines()] == history.records
    JSONLLogger(path)(trainer(), {"epoch": 4, "loss": math.nan, "lr": math.inf})
    assert path.read_text().splitlines()[-1] == '{"epoch": 4, "loss": null, "lr": null}'


def test_every_error_is_also_the_built_in_one() -> None:
    for error, parent in [
        (InputError, ValueError),
        (DataFormatError, InputError),
        (DeviceUnavailableError, RuntimeError),
        (NonFiniteError, ArithmeticError),
    ]:
        assert issubclass(error, parent) and issubclass(error, XpnnError)


def test_stop_between_steps_leaves_a_model_that_predicts() -> None:
    run = trainer()

    def progress(done: int, rows: int) -> None:
        if done >= 16:
            run.stop()

    assert len(run.fit(X, Y, epochs=5, batch_size=8, progress=progress)) == 0
    assert int(run.state.step[0]) == 2
    assert run.predict(X).shape == (40, 3)


def test_a_snapshot_outlives_the_state_and_can_be_loaded(backend: Backend) -> None:
    run = trainer(device=backend.where)
    run.fit(X, Y, epochs=2, batch_size=8)
    kept, before = run.snapshot(), run.evaluate(X, Y)
    run.fit(X, Y, epochs=2, batch_size=8)
    assert run.evaluate(X, Y) != before
    run.load(kept)
    assert run.evaluate(X, Y) == before
    other = trainer(device=backend.where)
    other.load(kept)
    assert other.evaluate(X, Y) == before


@pytest.mark.parametrize("library", ["numpy", "strict", "torch", "jax"])
def test_a_loss_that_is_not_finite_names_the_step_and_the_rate(library: str) -> None:
    pytest.importorskip({"strict": "array_api_strict"}.get(library, library))
    run = Trainer(nn.Linear(6, 1), nn.MSELoss(), optim.SGD(1e30), device=find_place("cpu", library), dtype="float32")
    with pytest.raises(
        NonFiniteError, match=r"loss is not finite at step 2 \(epoch 1, batch 2\), learning rate 1e\+30"
    ):
        run.fit(X, X[:, :1], epochs=2, batch_size=8)


def test_the_first_bad_step_keeps_its_rate() -> None:
    """Later steps are bad too, and may have another rate: the one that is told is the first one's."""
    loss, optimizer = nn.MSELoss(), optim.SGD(1.0)
    model = nn.Linear(6, 1)
    run = step.training_step(model, loss, optimizer, ())
    data = step.Data(np.full((2, 6), math.inf), np.ones((2, 1)), None)
    rows = np.array([0, 1])
    state = step.first_state(model, loss, (), 0)
    state = state._replace(optimizer=optimizer.init(state.params), lr_scale=np.asarray(0.5))
    with np.errstate(all="ignore"):
        state = run(state, data, rows)
        state = run(state._replace(lr_scale=np.asarray(0.25)), data, rows)
    assert (int(state.totals.bad_step[0]), float(state.totals.bad_lr), float(state.totals.lr)) == (1, 0.5, 0.25)


def test_weights_spoilt_by_the_last_step_are_noticed() -> None:
    run = Trainer(nn.Linear(6, 1), nn.MSELoss(), optim.SGD(1e308), dtype="float64")
    with pytest.raises(NonFiniteError, match="the weights weight are not finite after step 1"):
        run.fit(1e3 * X, X[:, :1], batch_size=40)


def test_a_batch_larger_than_the_data_is_clipped_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="batch_size 100 is larger than the data; using 40"):
        trainer().fit(X, Y, batch_size=100)


def broken(x: Any, *index: int, value: float = math.nan) -> Any:
    x = np.array(x, dtype=float)
    x[index] = value
    return x


BAD = [
    (X[0], Y, {}, r"x has shape \(6,\); expected \(rows, features\)"),
    (X[:0], Y[:0], {}, r"x has shape \(0, 6\): it is empty"),
    (X[:, :5], Y, {}, r"Standardize: x has shape \(1, 5\); expected \(batch, 6\)"),
    (broken(X, 3, 2), Y, {}, r"x\[3, 2\] is nan \(1 of 240 values are not finite\)"),
    (broken(X, 3, 2, value=math.inf), Y, {}, r"x\[3, 2\] is inf"),
    (X.astype(complex), Y, {}, "x has dtype complex128; expected real numbers"),
    (X.astype(str), Y, {}, "x has dtype <U32; expected real numbers; encode text first"),
    ([[1.0], [1.0, 2.0]], Y, {}, "x: cannot be made an array"),
    (X, Y[:39], {}, r"y has shape \(39,\) for 40 rows"),
    (X, broken(Y, 7, value=3), {}, r"y\[7\] = 3.0, but labels must be whole numbers in 0…2 \(3 classes"),
    (X, broken(Y, 7, value=-1), {}, r"y\[7\] = -1.0, but labels"),
    (X, np.where(np.arange(40) == 7, -1, Y), {}, r"y\[7\] = -1, but labels"),
    (X, broken(Y, 7, value=1.5), {}, r"y\[7\] = 1.5, but labels"),
    (X, broken(Y, 7), {}, r"y\[7\] is nan"),
    (X, [str(y) for y in Y], {}, "y has dtype <U1; expected real numbers; encode text first"),
    (X, np.ones((40, 2)), {}, r"y has shape \(40, 2\); expected \(40,\) labels or \(40, 3\) probabilities"),
    (X, -np.ones((40, 3)), {}, "y holds negative numbers"),
    (X, Y, {"sample_weight": np.ones(39)}, r"sample_weight has shape \(39,\) for 40 rows"),
    (X, Y, {"sample_weight": -np.ones(40)}, "sample_weight: expected weights of at least 0"),
    (X, Y, {"sample_weight": np.zeros(40)}, "that are not all 0"),
    (X, Y, {"epochs": 0}, "epochs: 0 is not a whole number of at least 1"),
    (X, Y, {"batch_size": 2.5}, "batch_size: 2.5 is not a whole number"),
    (X, Y, {"validation_data": (X, broken(Y, 7, value=9))}, r"validation_y\[7\] = 9.0"),
]


@pytest.mark.parametrize(("x", "y", "options", "message"), BAD, ids=[bad[3][:40] for bad in BAD])
def test_bad_data_is_refused_before_training(x: Any, y: Any, options: Any, message: str) -> None:
    run = trainer()
    with pytest.raises(InputError, match=message):
        run.fit(x, y, **{"batch_size": 8, **options})


def test_labels_on_a_device_are_checked_too(backend: Backend) -> None:
    with pytest.raises(InputError, match=r"y\[5\] = 3, but labels"):
        trainer().fit(backend.array(X), backend.array(np.where(np.arange(40) == 5, 3, Y)))


def test_a_column_of_labels_is_raveled_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="one column is taken as the labels"):
        trainer().fit(X, Y[:, None], batch_size=8)


BAD_SETTINGS = [
    (lambda: nn.Linear(0, 3), "in_features: 0 is not a whole number"),
    (lambda: nn.Dropout(1.0), "p is 1.0; expected"),
    (lambda: nn.MLP(4, 2, (8,), activation="relux"), "did you mean 'relu'"),
    (lambda: nn.MLP(4, 2, (8, 8), dropout=(0.1,)), "1 dropout rates for 2 hidden layers"),
    (lambda: nn.Sequential(nn.ReLU), r"ReLU is a class; write ReLU\(…\)"),
    (lambda: nn.CrossEntropyLoss("average"), "reduction: 'average' is not one of mean, sum"),
    (lambda: optim.SGD(-1.0), "lr = -1.0"),
    (lambda: optim.SGD(math.nan), "lr = nan"),
    (lambda: optim.SGD(0.1, nesterov=True), "nesterov needs a momentum"),
    (lambda: optim.Adam(betas=(0.9, 1.0)), "beta2 = 1.0"),
    (lambda: trainer(dtype="float16"), "dtype: 'float16'"),
    (lambda: trainer(seed=-1), "seed: -1"),
    (lambda: trainer().state, "no state yet"),
    (lambda: Trainer(network(), nn.CrossEntropyLoss, optim.SGD()), "is no loss; give an instance"),
    (lambda: Trainer(network(), nn.CrossEntropyLoss(), "adam"), "'adam' is no optimizer"),
    (lambda: trainer().predict(X, batch_size=0), "batch_size: 0 is not"),
    (lambda: trainer().fit(X, [[1], [1, 2]]), "y: cannot be made an array"),
    (lambda: nn.VarianceScaling(1, "fan_in", "gauss"), "distribution: 'gauss' is not one of"),
    (lambda: nn.VarianceScaling(-1, "fan_in", "normal"), "scale is -1"),
    (lambda: nn.Standardize((1.0, 2.0), (1.0,)), "2 means, but 1 deviations"),
    (lambda: nn.MLP(6, 3, 8), r"hidden_sizes is 8; expected a list of widths: \[8\]"),
    (lambda: optim.SGD("0.1"), "lr: '0.1' is not a number"),
    (lambda: nn.Dropout("x"), "p: 'x' is not a number"),
    (lambda: nn.Linear(3, 2).forward(nn.Linear(3, 2).init(random.key(0, "")), np.ones((2, 3, 4))), "Flatten"),
    (lambda: nn.MSELoss().forward((), np.ones((3, 1)), np.ones(3)), r"y\[:, None\]"),
    (lambda: nn.CrossEntropyLoss().forward((), np.ones(3), np.ones(3)), "prediction has shape"),
    (lambda: nn.Standardize.fit(np.ones(3)), "expected \\(rows, features\\)"),
]


@pytest.mark.parametrize(("make", "message"), BAD_SETTINGS, ids=[message[:30] for _, message in BAD_SETTINGS])
def test_bad_settings_are_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_place_copies_unless_told_otherwise(backend: Backend) -> None:
    x = backend.array(X)
    copied = place(x, backend.where)
    assert copied is not x and np.array_equal(to_numpy(copied), X)
    assert place(x, backend.where, copy=False) is x
    if backend.library in ("numpy", "torch"):
        assert not np.shares_memory(to_numpy(copied), to_numpy(x))
    host = np.array(X)
    there = place(host, backend.where)
    host[...] = 7
    assert np.array_equal(to_numpy(there), X)
    assert place(X[::-1, ::2], backend.where).shape == (40, 3)  # torch refuses negative strides


def test_places_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from xpnn.arrays import probe
    from xpnn.arrays.driver import Stage

    missing = (Stage("driver", False, "no driver here", "install one"),)
    monkeypatch.setattr(probe, "stages", lambda library, index=0: missing)
    assert find_place("cpu").library == "numpy"
    assert find_place("auto") == Place("numpy", "cpu", "cpu", "no GPU can be used: no driver here; install one")
    assert find_place("cuda").fell_back
    for device, backend, message in [
        ("cuda", "numpy", "computes on the CPU only"),
        ("cpu", "cupy", "computes on a GPU only"),
        ("gpu", "auto", "device: 'gpu' is not one of"),
        ("cuda:x", "auto", "cuda:N"),
        ("cpu:0", "auto", "cuda:N"),
        ("cpu", "numppy", "did you mean 'numpy'"),
    ]:
        with pytest.raises(InputError, match=message):
            find_place(device, backend)
    with pytest.raises(DeviceUnavailableError, match="no driver here; install one"):
        find_place("cuda", fallback=False)
    with pytest.raises(DeviceUnavailableError, match="no driver here"):
        trainer(device="cuda").fit(X, Y)
    with pytest.warns(UserWarning, match="no driver here.*training on the CPU with numpy"):
        trainer(device="auto").fit(X, Y, batch_size=8)
    with warnings.catch_warnings():
        trainer(device="cpu").fit(X, Y, batch_size=8)


def test_jax_without_64_bits() -> None:
    """The library leaves JAX's switch alone; float32 works without it, masks and all, and float64 is refused."""
    pytest.importorskip("jax")
    code = """
import numpy as np
from xpnn import Trainer, nn, optim, find_place, InputError
x = np.arange(60, dtype=np.float32).reshape(20, 3) / 60; y = np.arange(20) % 2
def run(**options):
    model = nn.MLP(3, 2, (8,), dropout=0.5)
    return Trainer(model, nn.CrossEntropyLoss(), optim.Adam(), **options).fit(x, y, epochs=3, batch_size=8)
jax, numpy = run(device=find_place("cpu", "jax")), run()
for one, other in zip(jax, numpy):
    assert abs(one["loss"] - other["loss"]) < 1e-5, (one, other)
try:
    run(device=find_place("cpu", "jax"), dtype="float64")
except InputError as error:
    assert "jax_enable_x64" in str(error)
else:
    raise SystemExit("float64 was not refused")
"""
    import subprocess
    import sys

    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
