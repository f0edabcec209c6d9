"""The folder of a run, as `run(…, output=FOLDER)` and `xpnn train --output FOLDER` write it.

model.safetensors  the network, its weights, and all that using it again requires: see `SavedRun`
history.jsonl      one record per epoch, written as the epochs end
run.json           the settings and the results, for users and scripts; xpnn does not read it
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from xpnn.errors import DataFormatError, InputError, XpnnError
from xpnn.training.history import Logs, parse_record, to_json
from xpnn.training.saving.atomic_write import write_whole

SCHEMA_VERSION = 1  # of run.json and of what --json prints
MODEL, HISTORY, RUN = "model.safetensors", "history.jsonl", "run.json"


class RunFolder:
    """The folder of one run, created before the training, so that a folder that cannot be written fails at once.

    Parameters
    ----------
    path : Path
        A folder that does not exist, or that contains no run.

    Raises
    ------
    InputError
        If the folder cannot be written, or already contains a run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made: list[Path] = []
        try:
            taken = [name for name in (MODEL, HISTORY, RUN) if (path / name).exists()]
            if taken:
                raise InputError(
                    f"{str(path)!r} already contains a run ({', '.join(taken)}); name another `output`, or delete it"
                )
            self._made = [folder for folder in (path, *path.parents) if not folder.exists()]
            path.mkdir(parents=True, exist_ok=True)
            # "x": of two runs that start at the same time in one folder, the second fails here.
            with (path / HISTORY).open("x", encoding="utf-8"):
                pass
        except OSError as error:
            raise InputError(f"cannot write the `output` folder {str(path)!r}: {error.strerror or error}") from error

    def release(self) -> None:
        """Remove what the constructor created, if the run never started: the same folder can be used again."""
        with contextlib.suppress(OSError):
            (self.path / HISTORY).unlink()
            for folder in self._made:
                folder.rmdir()

    def write_run(self, facts: dict[str, Any]) -> None:
        """Write run.json, atomically."""
        write_whole(self.path / RUN, (json.dumps(to_json(facts), indent=2) + "\n").encode())

    def record_failure(self, facts: dict[str, Any], error: BaseException) -> None:
        """Write run.json for a run that failed; a run that has no facts yet leaves nothing behind."""
        if not facts:
            self.release()
            return
        text = str(error) if isinstance(error, XpnnError) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):  # the error that is being raised is more important
            self.write_run({**facts, "status": "failed", "error": text})


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
    path = Path(folder) / HISTORY
    if not path.is_file():
        raise InputError(f"{str(folder)!r} does not contain a run: it has no {HISTORY}, which train --output writes")
    lines = path.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()  # it is being written at this moment, or a crash cut it off
    if not lines:
        raise InputError(f"{str(folder)!r}: no epoch of this run has ended yet, so there is nothing to draw")
    return [_record(path, number, line) for number, line in enumerate(lines, 1)]


def _record(path: Path, number: int, line: bytes) -> Logs:
    try:
        return parse_record(line)
    except ValueError as error:
        reason = str(error)[:200]
        raise DataFormatError(f"{str(path)!r}, line {number}: {reason}; each line is a record in JSON") from error
