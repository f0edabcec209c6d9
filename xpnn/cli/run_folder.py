"""The run folder: what `train --output` writes, and `evaluate` and `predict` read.

model.safetensors  the network and its weights        history.jsonl  one record an epoch
run.json           the options, the results, and how the run ended
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from xpnn.errors import DataFormatError, InputError
from xpnn.training.checkpoint import write_whole
from xpnn.training.history import to_json

SCHEMA_VERSION = 1  # of run.json and of what --json prints
MODEL, HISTORY, RUN = "model.safetensors", "history.jsonl", "run.json"


def claim(folder: Path) -> None:
    """Make the folder and write into it, so that what cannot work fails before the training. Raises InputError."""
    taken = [name for name in (MODEL, HISTORY, RUN) if (folder / name).exists()]
    if taken:
        raise InputError(f"{str(folder)!r} already holds a run ({', '.join(taken)}); name another --output folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # "x": of two runs that start together in one folder, the second fails here.
        with (folder / HISTORY).open("x", encoding="utf-8"):
            pass
    except OSError as error:
        raise InputError(f"cannot write the --output folder {str(folder)!r}: {error.strerror or error}") from error


def release(folder: Path) -> None:
    """Undo `claim` where the run never began, so that the same command can be given again."""
    if (folder / HISTORY).stat().st_size == 0:
        (folder / HISTORY).unlink()


def write_run(folder: Path, facts: dict[str, Any]) -> None:
    """Write run.json, whole or not at all."""
    write_whole(folder / RUN, (json.dumps(to_json(facts), indent=2) + "\n").encode())


def read_run(folder: Path) -> dict[str, Any]:
    """What run.json says. Raises InputError where `folder` is no run, DataFormatError where the file is damaged."""
    if not (folder / MODEL).is_file() or not (folder / RUN).is_file():
        raise InputError(
            f"{str(folder)!r} holds no run: expected {MODEL} and {RUN}, as xpnn train --output writes them"
        )
    try:
        facts = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataFormatError(f"{str(folder / RUN)!r} is not whole: {error}") from error
    if not isinstance(facts, dict) or not isinstance(facts.get("options"), dict):
        raise DataFormatError(f"{str(folder / RUN)!r} was not written by xpnn train: it has no options")
    return facts
