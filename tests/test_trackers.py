"""Tests for the callbacks that send what a training logs to another program. Each file is read by that program's own
reader."""

from __future__ import annotations

import copy
import math
import pickle
import struct
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from problem import X, Y, trainer

from xpnn import InputError, MLflowLogger, TensorBoard, Trainer, WandbLogger
from xpnn.cli import main
from xpnn.ranks import run_threads
from xpnn.training.callbacks.trackers.outbox import Outbox, hyperparameters

DATA: dict[str, Any] = {"batch_size": 8, "validation_data": (X, Y)}  # 5 steps in an epoch


def keep(state: list[Any], at: int) -> Callable[..., None]:
    """A callback that keeps a copy of the training after an epoch, as a checkpoint does."""

    def callback(run: Trainer, logs: Any) -> None:
        if logs["epoch"] == at:
            state.append(run.state_dict())

    return callback


# -- what they share ----------------------------------------------------------------------------------------------


def test_what_fails_is_kept_and_sent_later_in_order() -> None:
    now, fails, sent = 0.0, True, list[int]()

    def action(number: int) -> Callable[[], None]:
        def send() -> None:
            nonlocal now
            now += 2.0  # a slow server
            if fails:
                raise ConnectionError("no\nanswer")
            sent.append(number)

        return send

    outbox = Outbox("MyLogger", lambda: now)
    with pytest.warns(UserWarning, match=r"^MyLogger: cannot log \(ConnectionError: no answer\); training goes on$"):
        outbox.put(action(1))
    for number in (2, 3):  # too early: the server takes a tenth of the time at most
        outbox.put(action(number))
    assert now == 2.0
    now = 22.0
    outbox.put(action(4))  # the second failure is silent
    assert now == 24.0 and not sent
    now, fails = 50.0, False
    outbox.put(action(5))
    assert sent == [1, 2, 3, 4, 5]
    fails = True
    outbox.put(action(6))
    with pytest.warns(UserWarning, match="MyLogger: the latest records could not be logged"):
        outbox.finish()
    fails = False
    outbox.finish()
    assert sent == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("kind", "package", "extra"),
    [(TensorBoard, "tensorboardX", "tensorboard"), (MLflowLogger, "mlflow", "mlflow"), (WandbLogger, "wandb", "wandb")],
)
def test_a_missing_package_is_one_line(monkeypatch: Any, kind: Any, package: str, extra: str) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        InputError, match=rf"{kind.__name__} needs the package {package}, .*; pip install 'xpnn\[{extra}"
    ):
        kind()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "package"), [(TensorBoard, "tensorboardX"), (MLflowLogger, "mlflow"), (WandbLogger, "wandb")]
)
def test_callbacks_can_be_copied_and_pickled(kind: Any, package: str) -> None:
    pytest.importorskip(package)
    copies = [copy.deepcopy(kind()), pickle.loads(pickle.dumps(kind()))]
    assert [type(one) for one in copies] == [kind, kind]


def test_hyperparameters_are_those_of_the_parts() -> None:
    run = trainer(ema=0.9)
    run.fit(X, Y, batch_size=8)
    found = hyperparameters(run)
    assert {"optimizer": "Adam", "optimizer.lr": 0.01, "seed": 0, "ema": 0.9, "batch_size": 8}.items() <= found.items()
    assert (
        found["model"]
        == "Standardize, Linear(6, 16), ReLU, Dropout(0.3), Linear(16, 8), ReLU, Dropout(0.3), Linear(8, 3)"
    )
    assert found["parameters"] == 6 * 16 + 16 + 16 * 8 + 8 + 8 * 3 + 3
    assert all(isinstance(value, (str, bool, int, float)) for value in found.values())


# -- TensorBoard --------------------------------------------------------------------------------------------------


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    """The points of a curve, as TensorBoard reads them."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        events = reader.EventAccumulator(str(folder), {"scalars": 0, "histograms": 0}).Reload()
    kind = events.Histograms if tag in events.Tags()["histograms"] else events.Scalars
    return [
        (event.step, event.histogram_value.num if kind == events.Histograms else event.value) for event in kind(tag)
    ]


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Path]:
    pytest.importorskip("tensorboardX")
    yield tmp_path / "logs"


def test_curves_of_tensorboard_are_the_history(board: Path) -> None:
    seen: list[int] = []

    def read(run: Trainer, logs: Any) -> None:
        """A killed process loses no epoch that a checkpoint may have."""
        seen.append(len(points(board / "train", "epoch_loss")))

    history = trainer().fit(X, Y, epochs=3, **DATA, callbacks=[TensorBoard(board, 2), read])
    assert seen == [1, 2, 3]
    for folder, tag, name in (
        ("train", "epoch_loss", "loss"),
        ("train", "epoch_learning_rate", "lr"),
        ("train", "epoch_seconds", "seconds"),
        ("validation", "epoch_loss", "val_loss"),
        ("validation", "epoch_accuracy", "val_accuracy"),
    ):
        expected = [(record["epoch"], float(np.float32(record[name]))) for record in history]
        assert points(board / folder, tag) == expected
    assert points(board / "train", "1/weight") == [(2, 6 * 16)]
    assert not (board / "steps").exists()


def test_points_between_steps_are_means_of_all_rows_since_the_last(board: Path) -> None:
    losses: list[float] = []

    def single(run: Trainer, logs: Any) -> None:
        """The loss of each step of the second training, in which an epoch is a step."""
        losses.append(logs["loss"])

    rows = [np.arange(40)[start : start + 8] for start in range(0, 40, 8)]
    run, alone = trainer(), trainer()
    run.fit(
        X, Y, epochs=2, batch_size=8, shuffle=lambda *_: np.arange(40), callbacks=[TensorBoard(board, update_freq=3)]
    )
    for _ in range(2):
        for part in rows:
            alone.fit(X, Y, batch_size=8, shuffle=lambda *_, part=part: part, callbacks=[single])
    found = points(board / "steps", "batch_loss")
    assert [step for step, _ in found] == [3, 6, 9]
    expected = [np.mean(losses[start : start + 3]) for start in (0, 3, 6)]
    assert [value for _, value in found] == pytest.approx(expected, rel=1e-6)
    assert points(board / "steps", "batch_learning_rate") == [(step, np.float32(1e-2)) for step in (3, 6, 9)]


def test_a_resumed_training_continues_the_curves(board: Path) -> None:
    """After epoch 2 a checkpoint is saved; the training is lost after epoch 4, and goes on from the checkpoint."""
    state: list[Any] = []
    first = trainer()
    first.fit(X, Y, epochs=4, **DATA, callbacks=[TensorBoard(board, update_freq=5), keep(state, 2)])
    again = trainer()
    again.load_state_dict(state[0])
    history = again.fit(X, Y, epochs=3, **DATA, callbacks=[TensorBoard(board, update_freq=5)])
    assert [record["epoch"] for record in history] == [1, 2, 3, 4, 5]
    for folder, tag, name in (("train", "epoch_loss", "loss"), ("validation", "epoch_loss", "val_loss")):
        assert points(board / folder, tag) == [(one["epoch"], float(np.float32(one[name]))) for one in history]
    assert [step for step, _ in points(board / "steps", "batch_loss")] == [5, 10, 15, 20, 25]


def test_hyperparameters_are_compared_by_the_metrics(board: Path) -> None:
    trainer().fit(
        X, Y, epochs=1, **DATA, callbacks=[TensorBoard(board, hparams={"width": 16, "name": "a", "none": ()})]
    )
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    plugin = pytest.importorskip("tensorboard.plugins.hparams.plugin_data_pb2").HParamsPluginData
    found = reader.EventAccumulator(str(board)).Reload().summary_metadata
    content = {tag: plugin.FromString(one.plugin_data.content) for tag, one in found.items()}
    start = content["_hparams_/session_start_info"].session_start_info.hparams
    assert (start["width"].number_value, start["name"].string_value, start["none"].string_value) == (16, "a", "()")
    metrics = content["_hparams_/experiment"].experiment.metric_infos
    assert ("validation", "epoch_accuracy") in [(one.name.group, one.name.tag) for one in metrics]
    assert all(points(board / one.name.group, one.name.tag) for one in metrics)


def test_a_folder_that_cannot_be_written_does_not_end_the_training(board: Path) -> None:
    board.write_text("a file in the way")
    run = trainer()

    def clear(_: Trainer, logs: Any) -> None:
        if logs["epoch"] == 2:
            board.unlink()

    with pytest.warns(UserWarning, match="TensorBoard: cannot log .*; training goes on") as caught:
        history = run.fit(X, Y, epochs=4, **DATA, callbacks=[TensorBoard(board), clear])
    assert len(caught) == 1 and len(history) == 4
    assert [step for step, _ in points(board / "train", "epoch_loss")] == [1, 2, 3, 4]


def test_a_file_that_is_cut_off_is_left_and_another_begun(board: Path, monkeypatch: Any) -> None:
    callback, calls = TensorBoard(board), 0
    writer_class = pytest.importorskip("tensorboardX.event_file_writer").EventsWriter
    write = writer_class.write_event

    def full(writer: Any, event: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 12:
            writer._py_recordio_writer._writer.write(b"half a rec")
            raise OSError(28, "No space left on device")
        return write(writer, event)

    monkeypatch.setattr(writer_class, "write_event", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        trainer().fit(X, Y, epochs=4, batch_size=8, callbacks=[callback])
    assert [step for step, _ in points(board / "train", "epoch_loss")] == [1, 2, 3, 4]


def test_only_rank_0_writes_events(board: Path) -> None:
    history: list[Any] = []

    def train(ranks: Any) -> None:
        found = trainer(ranks=ranks).fit(X, Y, epochs=2, batch_size=8, callbacks=[TensorBoard(board, update_freq=5)])
        history.append(found)

    run_threads(2, train)
    assert len(list((board / "train").iterdir())) == 1
    losses = [float(np.float32(record["loss"])) for record in history[0]]
    assert [value for _, value in points(board / "train", "epoch_loss")] == losses
    assert [value for _, value in points(board / "steps", "batch_loss")] == pytest.approx(losses, rel=1e-6)


@pytest.mark.parametrize("options", [{"update_freq": "batch"}, {"update_freq": 0}, {"histogram_freq": -1}])
def test_wrong_arguments_of_tensorboard(options: Any) -> None:
    with pytest.raises(InputError, match=f"TensorBoard: {next(iter(options))}"):
        TensorBoard(**options)


def test_the_command_writes_events_and_goes_on_with_them(board: Path, capsys: Any) -> None:
    run = board.parent / "run"
    train = ["train", "xor", "--hidden", "2", "--validation-fraction", "0", "--quiet"]
    assert main([*train, "--tensorboard"]) == 2
    assert "--tensorboard needs an --output, the folder of the run" in capsys.readouterr().err
    assert main([*train, "--epochs", "2", "--output", str(run), "--tensorboard"]) == 0
    assert main(["train", "--resume", str(run), "--epochs", "4", "--quiet"]) == 0
    assert [step for step, _ in points(run / "tensorboard" / "train", "epoch_loss")] == [1, 2, 3, 4]
    assert main([*train, "--epochs", "1", "--tensorboard-dir", str(board)]) == 0
    assert [step for step, _ in points(board / "train", "epoch_loss")] == [1]
    many = ["train", "--hidden", "4", "--epochs", "1", "--set", "lr=0.1", "--output", str(run / "many"), "--quiet"]
    assert main([*many, "--tensorboard"]) == 0
    (events,) = (run / "many").rglob("tensorboard")  # not in the copy of the best run, too
    assert [step for step, _ in points(events / "validation", "epoch_loss")] == [1]
    assert main([*many, "--tensorboard-dir", str(board)]) == 2
    assert "--tensorboard-dir is for one run; with --set, give --tensorboard" in capsys.readouterr().err


# -- MLflow -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: Any) -> Iterator[Any]:
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")  # of its own imports
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a folder in place of a server
        patch.setenv("MLFLOW_ENABLE_TELEMETRY", "false")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        module = pytest.importorskip("mlflow")
        module.set_tracking_uri((tmp_path_factory.mktemp("mlflow") / "store").as_uri())
        yield module


@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_the_history_also_of_a_resumed_training(mlflow: Any) -> None:
    state: list[Any] = []
    logger = MLflowLogger("digits", "first", tags={"kind": "test"})
    trainer().fit(X, Y, epochs=3, **DATA, callbacks=[logger, keep(state, 2)])
    client = mlflow.MlflowClient()
    run = client.get_run(logger.run_id)
    assert (run.info.run_name, run.info.status, run.data.tags["kind"]) == ("first", "FINISHED", "test")
    assert client.get_experiment(run.info.experiment_id).name == "digits"
    assert run.data.params["optimizer.lr"] == "0.01" and run.data.params["batch_size"] == "8"
    again, resumed = trainer(), MLflowLogger("digits")
    again.load_state_dict(state[0])
    history = again.fit(X, Y, epochs=3, **DATA, callbacks=[resumed])
    assert resumed.run_id == logger.run_id
    for name in ("loss", "val_accuracy", "lr"):
        found = [(point.step, point.value) for point in client.get_metric_history(logger.run_id, name)]
        assert found == [(record["epoch"], record[name]) for record in history]


@pytest.mark.filterwarnings("ignore")
def test_an_active_mlflow_run_is_used_and_stays_open(mlflow: Any) -> None:
    logger = MLflowLogger()
    with mlflow.start_run() as run:
        trainer().fit(X, Y, epochs=1, **DATA, callbacks=[logger])
        assert mlflow.active_run().info.run_id == run.info.run_id == logger.run_id
    assert "loss" in mlflow.get_run(run.info.run_id).data.metrics


def test_an_mlflow_server_that_fails_does_not_end_the_training(mlflow: Any, monkeypatch: Any) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("no answer")

    monkeypatch.setattr(mlflow, "start_run", fail)
    with pytest.warns(UserWarning, match="MLflowLogger: (cannot log .ConnectionError|the latest records)") as caught:
        assert len(trainer().fit(X, Y, epochs=2, **DATA, callbacks=[MLflowLogger()])) == 2
    ours = [one for one in caught if str(one.message).startswith("MLflowLogger")]
    assert len(ours) == 2  # at the first failure, and at the end


# -- Weights & Biases ---------------------------------------------------------------------------------------------


def offline_records(file: Path) -> Iterator[bytes]:
    """The records of an offline run of wandb: a header of seven bytes, then a log in LevelDB's form."""
    content, place, record = file.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if 2**15 - place % 2**15 < 7:  # the rest of a block is empty
            place += 2**15 - place % 2**15
            continue
        _, size, kind = struct.unpack("<IHB", content[place : place + 7])
        record += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


@pytest.mark.filterwarnings("ignore")
def test_wandb_has_the_history(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    wandb = pytest.importorskip("wandb")
    proto = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    logger = WandbLogger("digits", "first", mode="offline", dir=str(tmp_path))
    history = trainer().fit(X, Y, epochs=3, **DATA, callbacks=[logger])
    assert wandb.run is None and logger.run_id
    (file,) = tmp_path.rglob("*.wandb")
    records: list[Any] = []
    for _ in range(600):  # a process of wandb writes it, after `finish` has returned
        records = [proto.Record.FromString(content) for content in offline_records(file)]
        if any(record.HasField("exit") for record in records):
            break
        time.sleep(0.05)
    found, config = list[dict[str, float]](), dict[str, str]()
    for record in records:
        if record.HasField("history"):
            found.append(
                {".".join(item.nested_key) or item.key: float(item.value_json) for item in record.history.item}
            )
        config |= {item.key: item.value_json for item in record.run.config.update}
    assert config["optimizer.lr"] == "0.01"
    for name in ("epoch", "loss", "val_accuracy"):
        assert [one[name] for one in found] == [record[name] for record in history]
    assert [one["_step"] for one in found] == [1, 2, 3]


class _FakeRun:
    """A run of wandb as the server would continue it, after four epochs."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.id, self.resumed = options.get("id", "new"), "id" in options
        self.step, self.logged, self.finished = 5 if self.resumed else 0, list[int](), False

    def define_metric(self, *_: Any, **__: Any) -> None: ...

    def log(self, values: dict[str, float], step: int) -> None:
        assert values["epoch"] == step and math.isfinite(values["loss"])
        self.logged.append(step)

    def finish(self) -> None:
        self.finished = True


def test_a_resumed_training_continues_its_run_of_wandb(monkeypatch: Any) -> None:
    runs: list[_FakeRun] = []

    def init(**options: Any) -> _FakeRun:
        runs.append(_FakeRun({name: options[name] for name in ("id",) if name in options}))
        return runs[-1]

    fake: Any = type("wandb", (), {"run": None, "init": staticmethod(init)})
    monkeypatch.setitem(sys.modules, "wandb", fake)
    state: list[Any] = []
    trainer().fit(X, Y, epochs=4, **DATA, callbacks=[WandbLogger(), keep(state, 2)])
    again = trainer()
    again.load_state_dict(state[0])
    again.fit(X, Y, epochs=4, **DATA, callbacks=[WandbLogger()])
    assert [(run.id, run.logged, run.finished) for run in runs] == [("new", [1, 2, 3, 4], True), ("new", [5, 6], True)]
