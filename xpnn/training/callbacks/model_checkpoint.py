"""The callback that saves the model after an epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xpnn.errors import InputError
from xpnn.training.callbacks.base import TrainerLike
from xpnn.training.callbacks.monitor import Monitor
from xpnn.training.history import Logs, to_json
from xpnn.training.saving.model_file import save_model


class ModelCheckpoint:
    """Saves the model after each epoch as `save_model` does: each file is whole, and holds the epoch's record.

    filepath        may hold logs, as in "runs/{epoch:02d}-{val_loss:.4f}.safetensors"; folders are made
    save_best_only  only where `monitor` is better than ever; the best is remembered from one fit to the next.
                    A file that is there already is replaced once the new one is whole
    monitor, mode   what is watched, see `Monitor`; only for save_best_only

    Raises InputError for a log that is not there or a layer that cannot be saved, OSError.
    """

    def __init__(
        self, filepath: str | Path, monitor: str = "val_loss", save_best_only: bool = False, mode: str = "auto"
    ) -> None:
        self.filepath = str(filepath)
        self._monitor = Monitor("ModelCheckpoint", monitor, mode) if save_best_only else None

    def __call__(self, trainer: TrainerLike, logs: Logs) -> None:
        path = self._path(logs)
        if self._monitor is None or self._monitor.improves(logs):
            path.parent.mkdir(parents=True, exist_ok=True)
            save_model(path, trainer.model, trainer.snapshot(), to_json(logs))

    def _path(self, logs: Logs) -> Path:
        try:
            return Path(self.filepath.format(**logs))
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise InputError(
                f"ModelCheckpoint: {self.filepath!r} cannot be filled in with the logs {', '.join(logs)}: {error!r}"
            ) from error

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"best": None if self._monitor is None else self._monitor.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        if self._monitor is not None and state["best"] is not None:
            self._monitor.best = state["best"]
