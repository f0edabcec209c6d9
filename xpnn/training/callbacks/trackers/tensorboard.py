"""The callback that writes event files for TensorBoard."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xpnn.arrays import tree
from xpnn.errors import InputError
from xpnn.training.callbacks.base import TrainerLike, writes
from xpnn.training.callbacks.trackers.outbox import Outbox, hyperparameters, needed, numbers_of
from xpnn.training.history import Logs
from xpnn.training.runners.base import download
from xpnn.validation import as_count, as_nonnegative_count

_SCHEME = "xpnn-file"  # by which tensorboardX finds `_File`
_BINS = 30  # of a histogram, which is what TensorBoard shows
_TRAIN, _VALIDATION, _STEPS, _RUN = "train", "validation", "steps", "."


class TensorBoard:
    """Write event files for TensorBoard: losses, metrics, learning rate, hyperparameters, and histograms of weights.

    ``tensorboard --logdir FOLDER`` shows them, also while training goes on. They are written by tensorboardX
    (``pip install "xpnn[tensorboard]"``), which needs neither TensorFlow nor PyTorch.

    Parameters
    ----------
    log_dir : str or Path, default "logs"
        The folder of this training, which is created. To compare trainings, give each a folder of its own in one
        common folder.
    histogram_freq : int, default 0
        Write histograms of the weights after so many epochs; 0 for never.
    update_freq : "epoch" or int, default "epoch"
        With a number, the mean loss and the learning rate are also written every so many steps. A GPU then waits for
        the host that often.
    hparams : dict, optional
        The hyperparameters to show: texts, numbers and booleans by name. By default those of the trainer.

    Raises
    ------
    InputError
        If an argument cannot be used, or if tensorboardX is not installed.

    Notes
    -----
    The names are those of Keras: "epoch_loss" and so on in the folders "train" and "validation", against the epoch, so
    that both are in one chart. "batch_loss" and "batch_learning_rate" are in the folder "steps", against the step.

    A training that goes on from a checkpoint continues the curves. The points after the checkpoint are replaced:
    TensorBoard hides the older ones. If a file cannot be written, training goes on, with a warning.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from xpnn import Trainer, nn, optim
    >>> from xpnn.training import TensorBoard
    >>> x, y = np.eye(4, dtype=np.float32), np.arange(4)
    >>> trainer = Trainer(nn.Linear(4, 4), nn.CrossEntropyLoss(), optim.SGD(0.1))
    >>> with tempfile.TemporaryDirectory() as folder:  # doctest: +SKIP
    ...     _ = trainer.fit(x, y, epochs=2, batch_size=2, callbacks=[TensorBoard(folder, update_freq=1)])
    ...     sorted(file.name for file in Path(folder).iterdir() if file.is_dir())
    ['steps', 'train']
    """

    def __init__(
        self,
        log_dir: str | Path = "logs",
        histogram_freq: int = 0,
        update_freq: str | int = "epoch",
        hparams: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(update_freq, str) and update_freq != "epoch":
            raise InputError(f"TensorBoard: update_freq is {update_freq!r}; expected 'epoch' or a number of steps")
        self.log_dir = Path(log_dir)
        self.histogram_freq = as_nonnegative_count("TensorBoard: histogram_freq", histogram_freq)
        self.update_freq = update_freq if update_freq == "epoch" else as_count("TensorBoard: update_freq", update_freq)
        self.hparams = hparams
        self._every = 0 if isinstance(self.update_freq, str) else self.update_freq
        _part("summary")
        self._files = _EventFiles(self.log_dir)
        self._outbox = Outbox("TensorBoard")
        self._is_described = False
        self._point = 0  # the step of the latest point
        self._base = self._carried = (0.0, 0.0)  # sums of the epoch up to the latest point, and of those before it

    def on_train_begin(self, trainer: TrainerLike) -> None:
        """Begin where the trainer is."""
        self._point, self._is_described = trainer.steps, False
        self._carried = (0.0, 0.0)
        self._base = self._sums(trainer) if self._every and trainer.epoch_steps and writes(trainer) else (0.0, 0.0)

    def on_train_batch_end(self, trainer: TrainerLike) -> None:
        """Write the loss of the latest steps, if it is time to."""
        if not self._every or trainer.steps // self._every == self._point // self._every or not writes(trainer):
            return
        self._point, sums = trainer.steps, self._sums(trainer)
        loss, weight = _plus(self._carried, sums, self._base)
        self._base, self._carried = sums, (0.0, 0.0)
        rate = float(download(trainer.state.totals).lr)
        values = {"batch_loss": loss / weight if weight else float("nan"), "batch_learning_rate": rate}
        self._write(_STEPS, trainer.steps, values)

    def __call__(self, trainer: TrainerLike, logs: Logs) -> None:
        if not writes(trainer):
            return
        if self._every:
            self._carried, self._base = _plus(self._carried, self._sums(trainer), self._base), (0.0, 0.0)
        if not self._is_described:
            self._describe(trainer, logs)
        values, epoch = numbers_of(logs), logs["epoch"]
        values = {"learning_rate" if name == "lr" else name: value for name, value in values.items()}
        train = {f"epoch_{name}": value for name, value in values.items() if not name.startswith("val_")}
        validation = {f"epoch_{name[4:]}": value for name, value in values.items() if name.startswith("val_")}
        self._write(_TRAIN, epoch, train)
        if validation:
            self._write(_VALIDATION, epoch, validation)
        if self.histogram_freq and epoch % self.histogram_freq == 0 and not self._outbox.is_behind:  # they are large
            self._write_histograms(trainer, epoch)

    def on_train_end(self, trainer: TrainerLike) -> None:
        """Complete the files."""
        if writes(trainer):
            self._outbox.put(self._files.close)
            self._outbox.finish()

    def _sums(self, trainer: TrainerLike) -> tuple[float, float]:
        """Σ of weight · loss, and Σ of the weights, of the steps of this epoch."""
        totals = download(trainer.state.totals)
        return float(totals.loss), float(totals.weight)

    def _write(self, folder: str, step: int, values: Mapping[str, float]) -> None:
        def write(now: float = time.time()) -> None:
            for name, value in values.items():
                self._files.add(folder, step, _part("summary").scalar(name, value), now)

        self._outbox.put(write)

    def _write_histograms(self, trainer: TrainerLike, epoch: int) -> None:
        weights = [(name, leaf) for name, leaf in tree.named(trainer.snapshot()) if 0 not in leaf.shape]

        def write(now: float = time.time()) -> None:
            for name, leaf in weights:
                histogram = _part("summary").histogram(name.replace(".", "/"), leaf, _BINS)
                self._files.add(_TRAIN, epoch, histogram, now)

        self._outbox.put(write)

    def _describe(self, trainer: TrainerLike, logs: Logs) -> None:
        """Write the hyperparameters, and which values measure the result."""
        self._is_described = True
        values = dict(hyperparameters(trainer) if self.hparams is None else self.hparams)
        names = [name for name in numbers_of(logs) if name not in ("lr", "seconds")]
        metrics = [
            (_VALIDATION if name.startswith("val_") else _TRAIN, f"epoch_{name.removeprefix('val_')}") for name in names
        ]
        self._outbox.put(lambda: self._files.describe(values, metrics, logs["epoch"]))


def _plus(carried: tuple[float, float], sums: tuple[float, float], base: tuple[float, float]) -> tuple[float, float]:
    """Sums of earlier epochs, and those of this epoch since `base`."""
    return carried[0] + sums[0] - base[0], carried[1] + sums[1] - base[1]


class _File:
    """A file of tensorboardX whose `flush` does not wait for the disk: it is called after each record.

    A process that is killed then loses no point before its checkpoint, and an epoch takes no longer.
    """

    def __init__(self, path: str) -> None:
        file = Path(path.removeprefix(f"{_SCHEME}:")).open("wb")  # noqa: SIM115
        self.write, self.flush, self.close = file.write, file.flush, file.close

    @classmethod
    def open(cls, path: str) -> _File:
        """Open a file, as tensorboardX asks for it."""
        return cls(path)


class _EventFiles:
    """One event file in each folder of a training, opened when it is needed.

    The writer is tensorboardX's for single records. Its larger ones use a thread, in which an error would be lost.
    """

    def __init__(self, log_dir: Path) -> None:
        self._log_dir, self._open = log_dir, dict[str, Any]()

    def __del__(self) -> None:
        self._abandon()  # after an error that ended the training

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_open": {}}

    def add(self, folder: str, step: int, summary: Any, now: float) -> None:
        """Append a summary. After an error, the next one begins a new file: the end of this one may be cut off."""
        try:
            writer = self._open.get(folder) or self._begin(folder, step)
            writer.write_event(_part("proto.event_pb2").Event(wall_time=now, step=step, summary=summary))
            writer.flush()
        except Exception:
            self._abandon()
            raise

    def describe(self, values: Mapping[str, Any], metrics: list[tuple[str, str]], step: int) -> None:
        """Write the hyperparameters."""
        known = {
            name: value if isinstance(value, (str, bool, int, float)) else str(value) for name, value in values.items()
        }
        experiment, start, _ = _part("summary").hparams(known, {})
        self._name_metrics(experiment, metrics)
        for summary in (experiment, start):
            self.add(_RUN, step, summary, time.time())

    def close(self) -> None:
        """Complete all files; the next summary begins new ones."""
        try:
            while self._open:
                self._open.popitem()[1].close()
        except Exception:
            self._abandon()
            raise

    def _begin(self, folder: str, step: int) -> Any:
        """Begin a file: TensorBoard then hides the points of this step, and those after it, in the older files."""
        path = self._log_dir / folder
        path.mkdir(parents=True, exist_ok=True)
        suffix = f".{step:09}.{sum(1 for _ in path.iterdir())}"  # two files may begin in the same second
        _part("record_writer").register_writer_factory(_SCHEME, _File)
        writer = self._open[folder] = _part("event_file_writer").EventsWriter(f"{_SCHEME}:{path / 'events'}", suffix)
        events = _part("proto.event_pb2")
        log = events.SessionLog(status=events.SessionLog.START)
        writer.write_event(events.Event(wall_time=time.time(), step=step, session_log=log))
        return writer

    def _abandon(self) -> None:
        for writer in self._open.values():
            with contextlib.suppress(Exception):
                writer.close()
        self._open.clear()

    def _name_metrics(self, experiment: Any, metrics: list[tuple[str, str]]) -> None:
        """Add the metrics with their folders, which `tensorboardX.summary.hparams` cannot."""
        api, plugin = _part("proto.api_pb2"), _part("proto.plugin_hparams_pb2")
        stored = experiment.value[0].metadata.plugin_data
        content = plugin.HParamsPluginData.FromString(stored.content)
        for group, tag in metrics:
            name = api.MetricName(tag=tag, group=group)
            content.experiment.metric_infos.append(api.MetricInfo(name=name))
        stored.content = content.SerializeToString()


def _part(name: str) -> Any:
    """A module of tensorboardX."""
    return needed("TensorBoard", f"tensorboardX.{name}", "tensorboard")
