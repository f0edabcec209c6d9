"""Tests for callbacks."""

from __future__ import annotations

import csv
import json
import logging
import math
import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import Backend
from problem import X, Y, trainer

from xpnn import (
    Accuracy,
    ConfusionMatrix,
    CSVLogger,
    EarlyStopping,
    History,
    InputError,
    LearningRateLogger,
    ModelCheckpoint,
    NonFiniteError,
    ReduceLROnPlateau,
    TerminateOnNaN,
    Trainer,
    load_model,
    nn,
    optim,
)
from xpnn.arrays import tree
from xpnn.training import AtEnd, AtStart, callbacks
from xpnn.training.callbacks.monitor import Monitor
from xpnn.training.history import Logs


def script(name: str, values: Sequence[float]) -> Any:
    """A callback that sets `name` in the logs to the next of `values`, for the callbacks after it."""
    left = iter(values)

    def write(_: Trainer, logs: Logs) -> None:
        logs[name] = next(left)

    return write


def weights_of(keep: list[Any]) -> Any:
    """A callback that appends the weights of every epoch to `keep`."""
    return lambda run, logs: keep.append(run.snapshot())


def same(one: Any, other: Any) -> bool:
    pairs = zip(tree.leaves(one), tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


# -- monitored values --------------------------------------------------------------------------------------------------


def test_no_callbacks_may_be_none() -> None:
    assert len(trainer().fit(X, Y, batch_size=8, callbacks=None)) == 1


@pytest.mark.parametrize(
    ("names", "up"),
    [
        ("accuracy val_accuracy top_k_accuracy top_5 precision recall val_f1_score f1 r2 val_r2_score auc", True),
        ("loss val_loss error val_error mae val_mse rmse mean_absolute_error top_5_error", False),
    ],
)
def test_direction_follows_from_the_name(names: str, up: bool) -> None:
    for name in names.split():
        monitor = Monitor("M", name, "auto")
        assert monitor.improves({name: 1.0})
        assert monitor.improves({name: 2.0}) is up and monitor.improves({name: 0.5}) is not up
    with pytest.raises(InputError, match="the name 'temperature' does not show whether lower or higher is better"):
        Monitor("M", "temperature", "auto")
    assert Monitor("M", "temperature", "max").best == -math.inf


def test_improvement_exceeds_min_delta_and_nan_is_never_better() -> None:
    monitor = Monitor("M", "loss", "min", 0.5)
    values = (math.nan, math.inf, 4.0, 3.5, 3.49, 3.0, 2.0, math.nan)
    assert [monitor.improves({"loss": v}) for v in values] == [False, False, True, False, True, False, True, False]
    assert monitor.best == 2.0
    upwards = Monitor("M", "loss", "max", 0.5)
    assert [upwards.improves({"loss": v}) for v in (1.0, 1.5, 1.75)] == [True, False, True]


@pytest.mark.parametrize(
    "kind", [EarlyStopping, ReduceLROnPlateau, lambda: ModelCheckpoint("/no/where", save_best_only=True)]
)
def test_missing_log_raises(kind: Any) -> None:
    run = trainer()
    with pytest.raises(
        InputError, match=r"'val_loss' is not one of the logs epoch, loss, accuracy, lr.*no validation_data"
    ):
        run.fit(X, Y, epochs=3, batch_size=8, callbacks=[kind()])
    assert len(run.history) == 1
    with pytest.raises(InputError, match="'confusion_matrix' is not a number"):
        Monitor("M", "confusion_matrix", "max").improves({"confusion_matrix": [[1.0]]})


# -- EarlyStopping -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patience", "losses", "epochs", "best", "stopped"),
    [
        (0, [3, 2, 2, 1], 3, 2, 3),
        (1, [3, 2, 2, 1], 3, 2, 3),
        (2, [3, 2, 5, 1, 4, 4, 0], 6, 4, 6),
        (2, [3, math.nan, math.nan, 1], 3, 1, 3),
        (3, [1, 2, 3], 3, 1, 0),  # all epochs run
        (0, [math.nan, 1], 1, 0, 1),  # no best epoch
    ],
)
def test_early_stopping(patience: int, losses: list[float], epochs: int, best: int, stopped: int) -> None:
    run, keep = trainer(), []
    early = EarlyStopping(patience=patience)
    history = run.fit(
        X, Y, epochs=len(losses), batch_size=8, callbacks=[weights_of(keep), script("val_loss", losses), early]
    )
    assert (len(history), early.best_epoch, early.stopped_epoch) == (epochs, best, stopped)
    assert early.best == (losses[best - 1] if best else math.inf)
    assert same(run.snapshot(), keep[best - 1])  # no best epoch: the last weights
    assert epochs == 1 or not same(keep[0], keep[1])


def test_best_weights_are_restored_after_a_stop_within_an_epoch(backend: Backend) -> None:
    run, keep = trainer(device=backend.place), []
    early = EarlyStopping("loss", mode="max", patience=9)

    def progress(done: int, rows: int) -> None:
        if run.steps > 12:  # within the third epoch of five steps, as after a signal
            run.stop()

    history = run.fit(X, Y, epochs=9, batch_size=8, callbacks=[weights_of(keep), early], progress=progress)
    assert len(history) == 2 and early.best_epoch == 1 and early.stopped_epoch == 0
    assert same(run.snapshot(), keep[0])
    assert same(early.best_weights, keep[0])


def test_last_weights_are_kept_without_restore_best() -> None:
    run, keep = trainer(), []
    early = EarlyStopping("loss", mode="max", restore_best_weights=False)
    run.fit(X, Y, epochs=5, batch_size=8, callbacks=[weights_of(keep), early])
    assert early.best_epoch == 1 and len(keep) == 2 and same(run.snapshot(), keep[1])
    assert early.best_weights is None


def test_second_fit_starts_afresh_even_after_an_error() -> None:
    run, early = trainer(), EarlyStopping(patience=2)

    def fit(losses: list[float]) -> None:
        run.fit(X, Y, epochs=3, batch_size=8, callbacks=[script("val_loss", losses), early])

    fit([0.1, 0.2, 0.2])
    assert (early.best, early.best_epoch, early.stopped_epoch) == (0.1, 1, 3)
    fit([9, 8, 7])
    assert (early.best, early.best_epoch, early.stopped_epoch) == (7, 6, 0)
    with pytest.raises(StopIteration):  # the script has no third value
        fit([1, 2])
    assert (early.best, early.best_epoch) == (1, 7)
    fit([9, 8, 8])
    assert (early.best, early.best_epoch, early.stopped_epoch) == (8, 11, 0)


# -- ModelCheckpoint ---------------------------------------------------------------------------------------------------


def test_checkpoint_every_epoch_with_logs_in_the_name(tmp_path: Path) -> None:
    run, keep = trainer(), []
    path = tmp_path / "new" / "deep" / "{epoch:02d}-{val_loss:.4f}.safetensors"
    history = run.fit(
        X, Y, epochs=3, batch_size=8, validation_data=(X, Y), callbacks=[weights_of(keep), ModelCheckpoint(path)]
    )
    names = [f"{log['epoch']:02d}-{log['val_loss']:.4f}.safetensors" for log in history]
    assert sorted(p.name for p in path.parent.iterdir()) == names
    for name, record, weights in zip(names, history, keep, strict=True):
        model, params, about = load_model(path.parent / name)
        assert model == run.model and same(params, weights) and about == record


def test_save_best_only_across_fits(tmp_path: Path) -> None:
    run, path = trainer(), tmp_path / "best.safetensors"
    best = ModelCheckpoint(path, save_best_only=True)
    run.fit(X, Y, epochs=4, batch_size=8, callbacks=[script("val_loss", [3, 2, math.nan, 2.5]), best])
    assert load_model(path)[2]["epoch"] == 2
    run.fit(X, Y, epochs=2, batch_size=8, callbacks=[script("val_loss", [2.2, 1.9]), best])
    assert load_model(path)[2]["epoch"] == 6


def test_old_checkpoint_is_kept_until_the_new_one_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, path = trainer(), tmp_path / "best.safetensors"
    best = ModelCheckpoint(path, save_best_only=True)
    run.fit(X, Y, batch_size=8, callbacks=[script("val_loss", [3]), best])
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run.fit(X, Y, batch_size=8, callbacks=[script("val_loss", [1]), best])
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]
    assert run.history.records[0]["val_loss"] == 1


@pytest.mark.parametrize("name", ["{val_los:.3f}", "{}", "{epoch:02q}", "{loss[0]}"])
def test_invalid_path_template_raises(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be filled in with the logs epoch, loss, accuracy, lr, seconds"):
        trainer().fit(X, Y, batch_size=8, callbacks=[ModelCheckpoint(tmp_path / name)])


# -- ReduceLROnPlateau -------------------------------------------------------------------------------------------------


def rates(plateau: ReduceLROnPlateau, losses: Sequence[float], lr: float) -> list[float]:
    """The learning rate of each epoch."""
    run, had = SimpleNamespace(lr_scale=1.0), []
    plateau.on_train_begin(run)
    for epoch, loss in enumerate(losses):
        had.append(lr * run.lr_scale)
        plateau(run, {"epoch": epoch + 1, "val_loss": loss, "lr": had[-1]})
    return [*had, lr * run.lr_scale]


def test_plateau_by_hand() -> None:
    assert rates(ReduceLROnPlateau(factor=0.5, patience=2), [3, 3, 3, 3, 3], 1.0) == [1, 1, 1, 0.5, 0.5, 0.25]
    assert rates(ReduceLROnPlateau(factor=0.5, patience=0), [3, 3, 2, 2], 1.0) == [1, 1, 0.5, 0.5, 0.25]
    three = ReduceLROnPlateau(factor=0.5, patience=1, cooldown=3)
    assert rates(three, [3, 3, 3, 3, 3, 3], 1.0) == [1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]
    assert rates(ReduceLROnPlateau(factor=0.5, patience=1, min_delta=1), [3, 2.5, 1.9], 1.0) == [1, 1, 0.5, 0.5]


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("patience", [1, 2, 4])
@pytest.mark.parametrize("cooldown", [0, 1, 3])
def test_plateau_matches_torch(mode: str, patience: int, cooldown: int) -> None:
    """torch waits one epoch longer for the same patience and the same cooldown."""
    torch = pytest.importorskip("torch")
    draws = random.Random(10 * patience + cooldown)
    losses = [round(3 + draws.gauss(0, 0.3) + 2 * math.exp(-i / 10), 1) for i in range(120)]
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.8)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode, 0.7, patience - 1, 0.15, "abs", max(cooldown - 1, 0), min_lr=1e-3, eps=0
    )
    wanted = [0.8]
    for loss in losses:
        theirs.step(loss)
        wanted.append(optimizer.param_groups[0]["lr"])
    ours = ReduceLROnPlateau("val_loss", 0.7, patience, 0.15, cooldown, 1e-3, mode)
    assert len(set(wanted)) > 5
    np.testing.assert_allclose(rates(ours, losses, 0.8), wanted, rtol=1e-12)


def test_rate_never_falls_below_min_lr_in_float32() -> None:
    run = trainer(optim.Adam(1e-2), dtype="float32")
    plateau, rate = ReduceLROnPlateau("loss", 0.3, patience=1, mode="max", min_lr=1e-3), LearningRateLogger()
    history = run.fit(X, Y, epochs=8, batch_size=8, callbacks=[plateau, rate])
    assert rate.rates == [log["lr"] for log in history]
    np.testing.assert_allclose(rate.rates[:5], [1e-2, 1e-2, 3e-3, 1e-3, 1e-3], rtol=1e-6)
    assert len(set(rate.rates[3:])) == 1
    before = run.lr_scale
    run.fit(X, Y, epochs=2, batch_size=8, callbacks=[plateau])
    assert run.lr_scale == before


def test_plateau_state_is_reset_by_a_new_fit() -> None:
    run, plateau = trainer(), ReduceLROnPlateau(factor=0.5, patience=2)
    for _ in range(3):
        run.fit(X, Y, epochs=2, batch_size=8, callbacks=[script("val_loss", [3, 3]), plateau])
    assert run.lr_scale == 1


# -- loggers -----------------------------------------------------------------------------------------------------------


def test_csv_logger_writes_the_history(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    log, seen = CSVLogger(path), []
    run = trainer(metrics=(Accuracy(), ConfusionMatrix(3)))
    history = run.fit(X, Y, epochs=3, batch_size=8, callbacks=[log, lambda *_: seen.append(len(path.read_text()))])
    lines = path.read_text().splitlines()
    assert lines[0] == "epoch,loss,accuracy,confusion_matrix,lr,seconds" and len(lines) == 4
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{name: json.loads(cell) for name, cell in row.items()} for row in rows] == history.records
    assert seen[0] < seen[1] < seen[2]  # flushed
    log(run, {**history.records[0], "confusion_matrix": [[math.nan]]})
    assert ",[[null]]," in path.read_text()
    run.fit(X, Y, epochs=1, batch_size=8, callbacks=[log])
    assert [line.split(",")[0] for line in path.read_text().splitlines()] == ["epoch", "4"]  # overwritten


def test_csv_logger_appends(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv"
    run = trainer()
    for _ in range(2):
        run.fit(X, Y, epochs=2, batch_size=8, callbacks=[CSVLogger(path, "\t", append=True)])
    assert [line.split("\t")[0] for line in path.read_text().splitlines()] == ["epoch", "1", "2", "3", "4"]
    before = path.read_bytes()
    with pytest.raises(
        InputError, match=r"log.tsv' has the columns epoch, loss, .* but the logs are epoch, .*val_loss"
    ):
        run.fit(X, Y, batch_size=8, validation_data=(X, Y), callbacks=[CSVLogger(path, separator="\t", append=True)])
    with pytest.raises(InputError, match=r"has the columns epoch\\t"):
        run.fit(X, Y, batch_size=8, callbacks=[CSVLogger(path, append=True)])
    assert path.read_bytes() == before


def test_changes_of_the_rate_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    def halve(run: Trainer, logs: Logs) -> None:
        if logs["epoch"] == 2:
            run.lr_scale = 0.5

    rate = LearningRateLogger()
    with caplog.at_level(logging.INFO, "xpnn"):
        trainer().fit(X, Y, epochs=4, batch_size=8, callbacks=[halve, rate])
    assert rate.rates == [0.01, 0.01, 0.005, 0.005]
    assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records] == [
        ("xpnn", "INFO", "epoch 3: learning rate 0.005, it was 0.01")
    ]


# -- NaN ---------------------------------------------------------------------------------------------------------------


def overflowing_trainer(**options: Any) -> Trainer:
    return Trainer(nn.Linear(6, 1), nn.MSELoss(), optim.SGD(1e30), dtype="float32", **options)


def test_nan_loss_reaches_no_other_callback(backend: Backend) -> None:
    run, seen = overflowing_trainer(device=backend.place), []
    with pytest.raises(NonFiniteError, match=r"at step 2 \(epoch 1, batch 2\)"):
        run.fit(X, X[:, :1], epochs=2, batch_size=8, callbacks=[lambda _, logs: seen.append(logs)])
    assert seen == [] and len(run.history) == 0


def test_batch_is_counted_from_the_start_of_its_epoch() -> None:
    def raise_rate(run: Trainer, logs: Logs) -> None:
        run.lr_scale = 1e33 if logs["epoch"] == 2 else 1.0

    run = Trainer(nn.Linear(6, 1), nn.MSELoss(), optim.SGD(1e-3), dtype="float32")
    with pytest.raises(NonFiniteError, match=r"at step 12 \(epoch 3, batch 2\), learning rate 1e\+30"):
        run.fit(X, X[:, :1], epochs=4, batch_size=8, callbacks=[raise_rate])


def test_training_continues_with_nan_if_requested(backend: Backend) -> None:
    run = overflowing_trainer(device=backend.place)
    history = run.fit(X, X[:, :1], epochs=3, batch_size=8, validation_data=(X, X[:, :1]), terminate_on_nan=False)
    assert len(history) == 3 and math.isnan(history.records[2]["loss"]) and math.isnan(history.records[2]["val_loss"])
    early = EarlyStopping("loss")
    run = overflowing_trainer(device=backend.place)
    run.fit(X, X[:, :1], epochs=3, batch_size=40, callbacks=[early], terminate_on_nan=False)
    assert early.best_epoch == 1 and early.stopped_epoch == 2


def test_terminate_on_nan_at_any_position() -> None:
    run, seen = overflowing_trainer(), []
    watch = [lambda _, logs: seen.append(logs["epoch"]), TerminateOnNaN()]
    with pytest.raises(NonFiniteError, match="at step 2 "):
        run.fit(X, X[:, :1], epochs=2, batch_size=8, callbacks=watch, terminate_on_nan=False)
    assert seen == [1]


# -- the protocol ------------------------------------------------------------------------------------------------------


class CallLog:
    """Records the calls of its hooks."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def on_train_begin(self, run: Trainer) -> None:
        self.calls.append(("begin", run.epoch))

    def __call__(self, run: Trainer, logs: Logs) -> None:
        self.calls.append(logs["epoch"])
        if logs["epoch"] == 4:
            raise KeyError("a mistake")

    def on_train_end(self, run: Trainer) -> None:
        self.calls.append(("end", run.epoch))


def test_train_begin_and_end_hooks_and_no_end_after_an_error() -> None:
    told, run = CallLog(), trainer()
    assert isinstance(told, AtStart) and isinstance(told, AtEnd) and not isinstance(print, AtEnd)
    run.fit(X, Y, epochs=2, batch_size=8, callbacks=[lambda run, logs: None, told])
    with pytest.raises(KeyError, match="a mistake"):
        run.fit(X, Y, epochs=3, batch_size=8, callbacks=[told])
    assert told.calls == [("begin", 0), 1, 2, ("end", 2), ("begin", 2), 3, 4]
    assert isinstance(run.history, History) and [log["epoch"] for log in run.history] == [3, 4]
    assert run.predict(X).shape == (40, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EarlyStopping(patience=-1), "EarlyStopping: patience: -1 is not a whole number of at least 0"),
        (lambda: EarlyStopping(patience=1.5), "patience: 1.5"),  # type: ignore[arg-type]
        (lambda: EarlyStopping(min_delta=-0.1), "EarlyStopping: min_delta is -0.1"),
        (lambda: EarlyStopping(mode="mox"), "EarlyStopping: mode: 'mox' is not one of auto, min, max"),
        (lambda: ReduceLROnPlateau(factor=1.0), "factor is 1.0; expected 0 < factor < 1"),
        (lambda: ReduceLROnPlateau(min_lr=-1), "min_lr is -1"),
        (lambda: ReduceLROnPlateau(cooldown=-1), "cooldown: -1"),
        (lambda: CSVLogger("x", separator=", "), "separator is ', '; expected one character"),
        (lambda: trainer().fit(X, Y, callbacks=[EarlyStopping]), "is not a callback; give a function or an instance"),  # type: ignore[list-item]
        (lambda: trainer().fit(X, Y, callbacks=[None]), "None is not a callback"),  # type: ignore[list-item]
        (lambda: trainer().fit(X, Y, callbacks=EarlyStopping()), "is not a list; write"),  # type: ignore[arg-type]
    ],
)
def test_invalid_callbacks_raise(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_every_callback_is_public() -> None:
    from xpnn import training

    names = vars(callbacks).items()
    kinds = {name for name, kind in names if isinstance(kind, type) and "__call__" in vars(kind)}
    assert len(kinds) == 11 and kinds <= set(training.__all__)


def test_csv_logger_keeps_a_table_with_unfinished_last_and_blank_first_line(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log.csv"
    trainer().fit(X, Y, callbacks=[CSVLogger(path, append=True)])
    header, row = path.read_text().splitlines()
    path.write_text(f"\n{header}\n{row}")
    trainer().fit(X, Y, callbacks=[CSVLogger(path, append=True)])
    lines = path.read_text().splitlines()
    assert lines[:3] == ["", header, row] and len(lines) == 4 and lines[3].count(",") == header.count(",")
