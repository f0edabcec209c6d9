"""The callback that saves the whole training regularly."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from xpnn.errors import DataFormatError, InputError, SaveError
from xpnn.training.callbacks.base import TrainerLike, check_state, writes
from xpnn.training.callbacks.monitor import Monitor
from xpnn.training.history import Logs
from xpnn.training.saving.atomic_write import check_space, remove_temporary_files
from xpnn.training.saving.checkpoint import SavedTraining, read_checkpoint, write_checkpoint
from xpnn.validation import as_count, as_float, as_nonnegative_count

_NAME = "epoch-{epoch:05}-step-{steps:09}.safetensors"
_PATTERN = re.compile(r"epoch-(\d{5,})-step-(\d{9,})\.safetensors")
_WARN_AGAIN = 600.0  # seconds


class _Saved(NamedTuple):
    """What is saved if a file fails: the files, that of the best epoch, the steps, and the best value if it was one."""

    files: list[str]
    best: str | None
    steps: int
    best_value: float | None


class Checkpoint:
    """Save everything that training needs to go on, regularly, at the end, and when training is stopped.

    Each file can be given to `Trainer.restore`. It is written while the next steps are computed, and complete before it
    gets its name. Older files are removed after a new one is complete: the newest `keep`, and that of the best epoch,
    remain. If a file cannot be written, for example because the disk is full, training goes on with a warning, and the
    next file takes its place; only the first and the last file must succeed. Put this callback last: what callbacks
    after it do in an epoch is not in the file.

    Parameters
    ----------
    folder : str or Path
        A folder, which is created. It must not contain checkpoints of another training.
    every_epochs : int, default 1
        Save after so many epochs; 0 for never.
    every_steps : int, optional
        Save after at least so many steps within an epoch.
    every_minutes : float, optional
        Save after at least so many minutes.
    sparing : bool, default False
        Whether to leave out epochs that end too early after the last file, so that writing takes at most a tenth of the
        time. The best epoch is then that of the files.
    keep : int, default 2
        How many of the newest files to keep.
    monitor : str, optional
        The log value that determines the best epoch. By default "val_loss", or "loss" without a validation.
    mode : {"auto", "min", "max"}, default "auto"
        Whether lower or higher is better, as in `EarlyStopping`.
    about : dict, optional
        Facts to save in each file; values that JSON can represent.

    Attributes
    ----------
    latest : Path or None
        The newest complete file.

    Raises
    ------
    InputError
        If an argument cannot be used; at the start of `fit`, if the folder contains later checkpoints than the state
        of the trainer.
    SaveError
        If the first or the last file cannot be written, or if the folder has too little space for the files. The
        earlier files remain.

    Warns
    -----
    UserWarning
        If another file cannot be written: at first, and then every ten minutes.

    See Also
    --------
    newest_checkpoint : Find the newest file that is not damaged.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from xpnn import Checkpoint, Trainer, nn, optim
    >>> from xpnn.training import newest_checkpoint
    >>> x, y = np.eye(4, dtype=np.float32), np.arange(4)
    >>> trainer = Trainer(nn.Linear(4, 4), nn.CrossEntropyLoss(), optim.Adam(0.1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = trainer.fit(x, y, epochs=3, batch_size=2, callbacks=[Checkpoint(folder)])
    ...     resumed = Trainer.restore(newest_checkpoint(folder).path)
    ...     history = resumed.fit(x, y, epochs=2, batch_size=2, callbacks=[Checkpoint(folder)])
    >>> resumed.epoch, len(history)
    (5, 5)
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        every_epochs: int = 1,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        sparing: bool = False,
        keep: int = 2,
        monitor: str | None = None,
        mode: str = "auto",
        about: dict[str, Any] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.every_epochs = as_nonnegative_count("Checkpoint: every_epochs", every_epochs)
        self.every_steps = None if every_steps is None else as_count("Checkpoint: every_steps", every_steps)
        self.every_seconds = math.inf
        if every_minutes is not None:
            self.every_seconds = 60 * as_float("Checkpoint: every_minutes", every_minutes)
            if not self.every_seconds > 0:
                raise InputError(f"Checkpoint: every_minutes is {every_minutes!r}; expected a number above 0")
        self.keep, self.sparing = as_count("Checkpoint: keep", keep), bool(sparing)
        self.monitor, self.about = monitor, dict(about or {})
        self._monitor = None if monitor is None else Monitor("Checkpoint", monitor, mode)
        self._mode = mode
        self._best: str | None = None  # the name of the file of the best epoch
        self._files: list[str] = []  # those of this training, oldest first
        self._saved_steps, self._saved_time = -1, 0.0
        self._before = _Saved([], None, -1, None)  # what is saved if the file in progress fails
        self._warned = -math.inf  # when the latest warning was, until a file succeeds
        self._writing: Future[float] | None = None
        self._write_seconds = 0.0  # what the latest file took
        self._writes = True  # False on the ranks after the first

    @property
    def latest(self) -> Path | None:
        """The newest complete file."""
        self._finish()
        return self.folder / self._files[-1] if self._files else None

    def on_train_begin(self, trainer: TrainerLike) -> None:
        """Prepare the folder, and save the state before the first step, which shows that saving works."""
        self._writes = writes(trainer)
        if not self._writes:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_temporary_files(self.folder)
        later = [file.name for _, steps, file in _checkpoints(self.folder) if steps > trainer.steps]
        if later:
            raise InputError(
                f"{str(self.folder)!r} contains a checkpoint of a later step ({later[-1]}); continue from it, or name "
                "another folder"
            )
        self._files, self._best, self._saved_steps, self._warned = [], None, -1, -math.inf
        if self._monitor is not None:
            self._monitor.reset()
        self._saved_time = time.monotonic()
        if trainer.steps == 0:
            self._save(trainer)
            self._finish(must=True)
            size = (self.folder / self._files[-1]).stat().st_size
            check_space(self.folder, (self.keep + 2) * 3 * size // 2)  # callbacks may keep copies of the weights

    def on_train_batch_end(self, trainer: TrainerLike) -> None:
        """Save within an epoch, if it is time to, or if training is being stopped."""
        steps = trainer.steps - self._saved_steps
        waited = time.monotonic() - self._saved_time
        due = self.every_steps is not None and steps >= self.every_steps
        if due or waited >= self.every_seconds or trainer.is_stopping:
            self._save(trainer)

    def __call__(self, trainer: TrainerLike, logs: Logs) -> None:
        if self._monitor is None:
            name = self.monitor or ("val_loss" if "val_loss" in logs else "loss")
            self._monitor = Monitor("Checkpoint", name, self._mode)
        if self.sparing and not trainer.is_stopping and self._is_too_early():
            return
        due = trainer.is_stopping or (self.every_epochs and trainer.epoch % self.every_epochs == 0)
        self._finish(wait=bool(due))
        before, best = self._monitor.best, self._monitor.improves(logs)
        if best and not self._finish():  # the best so far has no file
            before, best = self._monitor.best, self._monitor.improves(logs)
        if best or due:
            self._save(trainer, best=best, best_before=before)

    def on_train_end(self, trainer: TrainerLike) -> None:
        """Save what no file has yet, so that a longer training can follow, and wait until the file is complete."""
        self._finish(warn=False)
        if trainer.steps != self._saved_steps:
            self._save(trainer)
            self._finish(must=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the state: plain values."""
        best = None if self._monitor is None else (self._monitor.name, self._monitor.best)
        return {"best": best, "best_file": self._best, "files": tuple(self._files)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        check_state(self, state, best=tuple[str, float] | None, files=tuple[str, ...], best_file=str | None)
        # Only names of checkpoints: a path from a file is not followed.
        self._files = [name for name in state["files"] if _PATTERN.fullmatch(name)]
        self._best = state["best_file"] if state["best_file"] in self._files else None
        if state["best"] is not None:
            name, value = state["best"]
            if self._monitor is None:
                self._monitor = Monitor("Checkpoint", name, self._mode)
            if self._monitor.name == name:
                self._monitor.best = value

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_writing": None}

    def _save(self, trainer: TrainerLike, *, best: bool = False, best_before: float | None = None) -> None:
        """Copy the state to the host, and write it while training goes on."""
        if not self._writes:
            return
        self._finish()
        self._before = _Saved(list(self._files), self._best, self._saved_steps, best_before)
        name = _NAME.format(epoch=trainer.epoch, steps=trainer.steps)
        if name not in self._files:
            self._files.append(name)
        if best:
            self._best = name
        kept = {*self._files[-self.keep :], self._best}
        old = [file for file in self._files if file not in kept]
        self._files = [file for file in self._files if file in kept]
        self._saved_steps, self._saved_time = trainer.steps, time.monotonic()
        content = trainer.checkpoint()
        self._writing = _writer().submit(_write, self.folder, name, old, content, self.about)

    def _is_too_early(self) -> bool:
        """Whether the latest file is still being written, or took more than a tenth of the time since its start."""
        if self._writing is not None:
            if not self._writing.done():
                return True
            self._finish()
        return time.monotonic() - self._saved_time < 10 * self._write_seconds

    def _finish(self, *, wait: bool = True, must: bool = False, warn: bool = True) -> bool:
        """Wait until the file in progress is complete; return False if it failed, or raise SaveError if it must not."""
        if self._writing is None or not (wait or self._writing.done()):
            return True
        writing, self._writing = self._writing, None
        try:
            self._write_seconds = writing.result()
        except SaveError as error:
            self._files, self._best, self._saved_steps, best = self._before
            if best is not None and self._monitor is not None:
                self._monitor.best = best
            if must:
                raise
            if warn and time.monotonic() - self._warned > _WARN_AGAIN:
                self._warned = time.monotonic()
                newest = f"the newest checkpoint is {self._files[-1]}" if self._files else "there is no checkpoint yet"
                warnings.warn(
                    f"{error}; training goes on, and the next checkpoint is tried when it is due; until then, {newest}",
                    stacklevel=2,
                )
            return False
        self._warned = -math.inf
        return True


@functools.cache
def _writer() -> ThreadPoolExecutor:
    """The thread that writes the files; at its end, the interpreter waits for it."""
    return ThreadPoolExecutor(1, "xpnn-checkpoint")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_writer.cache_clear)  # a forked process does not have the thread


def _write(folder: Path, name: str, old: list[str], content: dict[str, Any], about: dict[str, Any]) -> float:
    """Write a file, then remove the old ones; return the seconds that it took."""
    start = time.monotonic()
    write_checkpoint(folder / name, content, about)
    for file in old:
        with contextlib.suppress(OSError):
            (folder / file).unlink(missing_ok=True)
    return time.monotonic() - start


def _checkpoints(folder: Path) -> Iterator[tuple[int, int, Path]]:
    """The files of a folder, oldest first, with their epochs and steps."""
    found = [(match, file) for file in folder.iterdir() if (match := _PATTERN.fullmatch(file.name))]
    yield from sorted((int(match[1]), int(match[2]), file) for match, file in found)


def newest_checkpoint(folder: str | Path) -> SavedTraining | None:
    """Read the newest file of a folder that is not damaged.

    A damaged file is renamed to end in ".corrupt", with a warning, and the one before it is read.

    Parameters
    ----------
    folder : str or Path
        The folder of the callback `Checkpoint`.

    Returns
    -------
    SavedTraining or None
        None if there is no such file.
    """
    folder = Path(folder)
    files = [file for _, _, file in _checkpoints(folder)] if folder.is_dir() else []
    while files:
        file = files.pop()
        try:
            return read_checkpoint(file)
        except DataFormatError as error:
            before = ", and the one before it is used" if files else "; no other is left"
            warnings.warn(f"{error}; renamed to {file.name}.corrupt{before}", stacklevel=2)
            file.rename(file.with_name(f"{file.name}.corrupt"))
    return None
