"""The run folder: what `train --output` writes, and `evaluate` and `predict` read.

model.safetensors  the network, its weights, and all that using it again takes: see `SavedRun`
history.jsonl      one record an epoch, written as the epochs end
run.json           the options and the results, for people and scripts; never read back
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from xpnn.errors import InputError
from xpnn.training.history import to_json
from xpnn.training.saving.atomic_write import write_whole

SCHEMA_VERSION = 1  # of run.json and of what --json prints
MODEL, HISTORY, RUN = "model.safetensors", "history.jsonl", "run.json"


class RunFolder:
    """A folder of one run: claimed before the training, so that what cannot be written fails in the first second."""

    def __init__(self, path: Path) -> None:
        """Make the folder and write into it. Raises InputError where that fails, or where it already holds a run."""
        self.path = path
        self._made: list[Path] = []
        try:
            taken = [name for name in (MODEL, HISTORY, RUN) if (path / name).exists()]
            if taken:
                raise InputError(
                    f"{str(path)!r} already holds a run ({', '.join(taken)}); name another --output, or delete it"
                )
            self._made = [folder for folder in (path, *path.parents) if not folder.exists()]
            path.mkdir(parents=True, exist_ok=True)
            # "x": of two runs that start together in one folder, the second fails here.
            with (path / HISTORY).open("x", encoding="utf-8"):
                pass
        except OSError as error:
            raise InputError(f"cannot write the --output folder {str(path)!r}: {error.strerror or error}") from error

    def release(self) -> None:
        """Undo the claim where the run never began, so that the same command can be given again."""
        with contextlib.suppress(OSError):
            (self.path / HISTORY).unlink()
            for folder in self._made:
                folder.rmdir()

    def write_run(self, facts: dict[str, Any]) -> None:
        """Write run.json, whole or not at all."""
        write_whole(self.path / RUN, (json.dumps(to_json(facts), indent=2) + "\n").encode())
