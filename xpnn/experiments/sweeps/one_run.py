"""One run of a sweep, in this process or in a worker."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpnn.devices.place import find_place
from xpnn.errors import InputError, XpnnError
from xpnn.experiments.run_experiment import run
from xpnn.experiments.run_folder import CHECKPOINTS, HISTORY, LOCK, MODEL, RUN, CheckpointPlan
from xpnn.experiments.settings import Settings
from xpnn.experiments.sweeps.records import RunRecord
from xpnn.training.callbacks import newest_checkpoint
from xpnn.training.many.workers import as_worker


@dataclass(frozen=True)
class Task:
    """What a worker needs for one run.

    Parameters
    ----------
    settings : Settings
        With the seed of the run.
    folder : str
        Its folder.
    device, backend : str
        Where to train.
    checkpoints : CheckpointPlan
        When to save.
    tensorboard : bool
        Whether to write event files for TensorBoard.
    in_worker : bool
        Whether the run is in a worker, beside others.
    sweeper : int, optional
        The process that started the workers, if it runs on the same machine: a worker ends with it.
    """

    settings: Settings
    folder: str
    device: str
    backend: str
    checkpoints: CheckpointPlan
    tensorboard: bool = False
    in_worker: bool = False
    sweeper: int | None = None

    @property
    def is_running(self) -> bool:
        """Whether the run has begun and not ended; also if its process was killed."""
        return (Path(self.folder) / LOCK).exists()

    @property
    def epochs_done(self) -> int:
        """Epochs in the history of the run so far."""
        try:
            return (Path(self.folder) / HISTORY).read_bytes().count(b"\n")
        except OSError:
            return 0

    def failure(self, error: str) -> RunRecord:
        """The record of this run, if it failed."""
        return RunRecord(self.settings.seed, self.folder, "failed", epochs=self.epochs_done, error=error)

    def finished(self) -> RunRecord | None:
        """The record of this run from its folder; None if it has not finished."""
        try:
            facts = json.loads((Path(self.folder) / RUN).read_bytes())
            if facts["status"] != "finished" or not (Path(self.folder) / MODEL).is_file():
                return None
            return self.record(facts)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):  # cut off, or edited
            return None

    def record(self, facts: Mapping[str, Any], texts: tuple[str, ...] = ()) -> RunRecord:
        """The record of this run, from the facts of run.json."""
        value = kept_figure(facts, self.settings)
        return RunRecord(
            self.settings.seed, self.folder, "finished", value, facts["epochs"], facts["seconds"], None, texts
        )


def kept_figure(facts: Mapping[str, Any], settings: Settings) -> float:
    """The validation figure of the weights that a run kept, before they were calibrated.

    With `patience` they are those of the best epoch, otherwise those of the last one. Raises InputError.
    """
    monitor = settings.monitor
    last = facts["history"][-1]
    value = last.get(monitor) if settings.patience is None else facts.get(f"best_{monitor}")
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"{monitor} is {value}, so that the run cannot be compared with others")
    return float(value)


def train(task: Task) -> RunRecord:
    """Train a run, or continue it; a failure is part of the record."""
    folder = Path(task.folder)
    with _as_worker(task), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            place = find_place(task.device, task.backend)
            if task.in_worker and task.settings.precision == "fp64":
                place.lib.enable_float64()  # a setting of the process, which belongs to the sweep
            if folder.is_dir() and newest_checkpoint(folder / CHECKPOINTS) is None:
                _clear(folder)
            result = run(
                task.settings,
                output=folder,
                device=place,
                progress=False,
                tensorboard=task.tensorboard,
                checkpoints=task.checkpoints,
                resume="auto",
                test=False,
            )
            record = task.record(result.facts, tuple({str(one.message): None for one in caught}))
        except Exception as error:  # whatever is wrong with this run, the others go on
            text = str(error) if isinstance(error, XpnnError) else f"{type(error).__name__}: {error}"
            return task.failure(" ".join(text.split()))
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)  # a finished run is not continued
    return record


def _clear(folder: Path) -> None:
    """Remove what a run left that was stopped before its first checkpoint, unless another process still trains it."""
    if not (folder / LOCK).exists() or _free(folder / LOCK):
        for name in (HISTORY, RUN, MODEL):
            (folder / name).unlink(missing_ok=True)


def _free(lock: Path) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows has no locks
        return True
    with lock.open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


@contextlib.contextmanager
def _as_worker(task: Task) -> Iterator[None]:
    if not task.in_worker:
        yield
        return
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes on one GPU
    with as_worker(task.sweeper):
        yield
