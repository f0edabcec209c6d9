"""The folder of a run, as `run(…, output=FOLDER)` and `xpnn train --output FOLDER` write it.

model.safetensors  the network, its weights, and all that using it again requires: see `SavedRun`
history.jsonl      one record per epoch, written as the epochs end
run.json           the settings and the results, for users and scripts; only a sweep reads it, to find what is finished
checkpoints/       what is needed to continue the training: see `xpnn.training.Checkpoint`
tensorboard/       event files, if they are wanted: see `xpnn.training.TensorBoard`
.lock              held by the process that trains, so that no second one writes to the folder
"""

from __future__ import annotations

import contextlib
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from xpnn.errors import DataFormatError, InputError, XpnnError
from xpnn.training.callbacks import Checkpoint, newest_checkpoint
from xpnn.training.history import Logs, parse_record, to_json
from xpnn.training.saving.atomic_write import remove_temporary_files, write_whole
from xpnn.training.saving.checkpoint import SavedTraining

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SCHEMA_VERSION = 1  # of run.json and of what --json prints
MODEL, HISTORY, RUN, CHECKPOINTS, LOCK = "model.safetensors", "history.jsonl", "run.json", "checkpoints", ".lock"
TENSORBOARD = "tensorboard"


@dataclass(frozen=True)
class CheckpointPlan:
    """When a run with an output folder saves what is needed to continue it.

    Parameters
    ----------
    every : int
        Save after so many epochs; 0 for never. Very short epochs are left out: see `sparing` of
        `xpnn.training.Checkpoint`.
    steps : int, optional
        Save after at least so many steps within an epoch.
    minutes : float, optional
        Save after at least so many minutes.
    keep : int
        How many of the newest checkpoints to keep, in addition to that of the best epoch.
    """

    every: int = 1
    steps: int | None = None
    minutes: float | None = None
    keep: int = 2

    def callback(self, folder: Path, about: dict[str, Any]) -> Checkpoint:
        """The callback that saves into the folder of a run."""
        return Checkpoint(
            folder / CHECKPOINTS,
            every_epochs=self.every,
            every_steps=self.steps,
            every_minutes=self.minutes,
            sparing=True,
            keep=self.keep,
            about=about,
        )


CHECKPOINTS_BY_DEFAULT = CheckpointPlan()


class RunFolder:
    """The folder of one run, created before the training, so that a folder that cannot be written fails at once.

    Parameters
    ----------
    path : Path
        A folder that does not exist, or that contains no run; with `resume`, one that contains a run.
    resume : bool or "auto", default False
        Whether to continue the run in the folder; "auto" continues it if there is one.

    Attributes
    ----------
    saved : SavedTraining or None
        The newest checkpoint, if the run is continued.

    Raises
    ------
    InputError
        If the folder cannot be written, already contains a run, contains none that can be continued, or if another
        process trains in it.
    """

    def __init__(self, path: Path, resume: bool | str = False) -> None:
        self.path = path
        self.saved: SavedTraining | None = None
        self._made: list[Path] = []
        self._lock: IO[str] | None = None
        self._incomplete = False  # whether a line of the history is missing in the file
        if resume is True and not path.is_dir():
            raise InputError(f"{str(path)!r} does not exist, so there is no run to continue")
        try:
            self._made = [folder for folder in (path, *path.parents) if not folder.exists()]
            path.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(path)
            if resume:
                self.saved = newest_checkpoint(path / CHECKPOINTS)
            if self.saved is not None:
                remove_temporary_files(path)
            elif resume is True:
                raise InputError(
                    f"{str(path)!r} contains no checkpoint, so its run cannot be continued; begin a new one elsewhere"
                )
            else:
                self._begin(resume == "auto")
        except InputError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise InputError(
                f"cannot write the `output` folder {str(path)!r}: {getattr(error, 'strerror', None) or error}"
            ) from error

    def _begin(self, again: bool) -> None:
        taken = [name for name in (MODEL, HISTORY, RUN) if (self.path / name).exists()]
        killed, failed = again and taken == [HISTORY], taken == [HISTORY, RUN]
        if (killed or failed) and self._is_empty():
            for name in taken:
                (self.path / name).unlink()
        elif taken:
            raise InputError(
                f"{str(self.path)!r} already contains a run ({', '.join(taken)}); name another `output`, or delete it"
            )
        # "x": of two runs that start at the same time in one folder, the second fails here.
        with (self.path / HISTORY).open("x", encoding="utf-8"):
            pass

    def _is_empty(self) -> bool:
        """Whether the run in the folder ended before its first checkpoint, for example because the disk was full."""
        return not (self.path / HISTORY).stat().st_size and not any((self.path / CHECKPOINTS).glob("*"))

    def start(self) -> None:
        """Remove from the history what is trained again after the checkpoint; a run that is refused keeps it."""
        if self.saved is not None:
            self._write_history(self.saved.training["history"])

    def log(self, trainer: Any, logs: Logs) -> None:
        """Append the record of an epoch: a callback. A failure is reported once, and made up for later."""
        try:
            if self._incomplete:
                self._write_history(list(trainer.history))
                self._incomplete = False
            else:
                with (self.path / HISTORY).open("a", encoding="utf-8") as file:
                    file.write(_line(logs))
        except OSError as error:
            if not self._incomplete:
                reason = getattr(error, "strerror", None) or error
                warnings.warn(f"cannot write {str(self.path / HISTORY)!r}: {reason}; training goes on", stacklevel=2)
            self._incomplete = True

    def complete_history(self, records: list[Logs]) -> None:
        """Write what `log` could not. Raises SaveError."""
        if self._incomplete:
            self._write_history(records)

    def _write_history(self, records: list[Logs]) -> None:
        write_whole(self.path / HISTORY, "".join(map(_line, records)).encode())

    def release(self) -> None:
        """Remove what the constructor created, if the run never started: the same folder can be used again."""
        if self.saved is not None:
            return
        self.close()
        with contextlib.suppress(OSError):
            (self.path / HISTORY).unlink()
            for folder in self._made:
                folder.rmdir()

    def close(self) -> None:
        """Let other processes use the folder."""
        if self._lock is not None:
            (self.path / LOCK).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def write_run(self, facts: dict[str, Any]) -> None:
        """Write run.json, atomically."""
        write_whole(self.path / RUN, (json.dumps(to_json(facts), indent=2) + "\n").encode())

    def hint(self) -> str:
        """How a run that failed to write a file can be continued; empty if it has no checkpoint."""
        found = any((self.path / CHECKPOINTS).glob("epoch-*.safetensors"))
        return f"; make room, and continue the run in {str(self.path)!r} with `resume`" if found else ""

    def record_failure(self, facts: dict[str, Any], error: BaseException) -> None:
        """Write run.json for a run that failed or was stopped; one that has no facts yet leaves nothing behind."""
        if not facts:
            self.release()
            return
        text = str(error) if isinstance(error, XpnnError) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):  # the error that is being raised is more important
            status = "interrupted" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "failed"
            self.write_run({**facts, "status": status, "error": text})


def _line(logs: Logs) -> str:
    return json.dumps(to_json(logs)) + "\n"


def _locked(path: Path) -> IO[str] | None:
    """Return the open lock file of a folder: the lock ends with the process. Raises InputError if another has it."""
    if fcntl is None:
        return None
    file = (path / LOCK).open("w", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise InputError(f"another process is training in {str(path)!r}; name another `output`") from error
    except OSError:  # a file system without locks
        pass
    return file


def read_history(folder: str | Path) -> list[Logs]:
    """Read the history of a run, which may still be training.

    Parameters
    ----------
    folder : str or Path
        The folder of the run.

    Returns
    -------
    list of dict
        One record per epoch: see `xpnn.training.History`.

    Raises
    ------
    InputError
        If the folder contains no run, or no epoch of it has ended.
    DataFormatError
        If a line of the file is damaged.
    """
    path = file_of_run(folder, HISTORY)
    lines = path.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()  # it is being written at this moment, or a crash cut it off
    if not lines:
        raise InputError(f"{str(folder)!r}: no epoch of this run has ended yet, so there is nothing to draw")
    return [_record(path, number, line) for number, line in enumerate(lines, 1)]


def file_of_run(folder: str | Path, name: str) -> Path:
    """Return the path of a file of a run. Raises InputError, with what the folder is instead, if there is none."""
    path, best = Path(folder) / name, Path(folder) / "best"
    if path.is_file():
        return path
    hint = "which train --output writes"
    if (best / name).is_file():
        hint = f"but {str(best)!r} has one, the best run of a sweep"
    elif (Path(folder) / MODEL).is_file():
        hint = "because imported weights have none"
    raise InputError(f"{str(folder)!r} does not contain a run: it has no {name}, {hint}")


def _record(path: Path, number: int, line: bytes) -> Logs:
    try:
        return parse_record(line)
    except ValueError as error:
        reason = str(error)[:200]
        raise DataFormatError(f"{str(path)!r}, line {number}: {reason}; each line is a record in JSON") from error
