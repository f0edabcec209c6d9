"""The callback that saves the model after each epoch, or after each best one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xpnn.errors import InputError
from xpnn.training.callbacks.base import TrainerLike, check_state, writes
from xpnn.training.callbacks.monitor import Monitor
from xpnn.training.history import Logs, to_json
from xpnn.training.saving.model_file import save_model


class ModelCheckpoint:
    """Save the model after each epoch, by `save_model`, together with the epoch's record.

    Parameters
    ----------
    filepath : str or Path
        The file. It may contain log values, as in ``"runs/{epoch:02d}-{val_loss:.4f}.safetensors"``. Folders are
        created. An existing file is replaced when the new one is complete.
    monitor : str, default "val_loss"
        The log value to watch; only for `save_best_only`.
    save_best_only : bool, default False
        Whether to save only if `monitor` has improved. The best value is remembered from one `fit` to the next.
    mode : {"auto", "min", "max"}, default "auto"
        Whether lower or higher is better, as in `EarlyStopping`; only for `save_best_only`.

    Raises
    ------
    InputError
        If an argument cannot be used; after an epoch, if `filepath` or `monitor` names a value that is not in the logs,
        or if a layer cannot be saved.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from xpnn import ModelCheckpoint, Trainer, load_model, nn, optim
    >>> x, y = np.eye(4, dtype=np.float32), np.arange(4)
    >>> trainer = Trainer(nn.Linear(4, 4), nn.CrossEntropyLoss(), optim.SGD(0.1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint = ModelCheckpoint(f"{folder}/{{epoch:02d}}.safetensors")
    ...     _ = trainer.fit(x, y, epochs=2, batch_size=2, callbacks=[checkpoint])
    ...     model, params, about = load_model(f"{folder}/02.safetensors")
    >>> model, about["epoch"]
    (Linear(in_features=4, out_features=4, ...), 2)
    """

    def __init__(
        self, filepath: str | Path, monitor: str = "val_loss", save_best_only: bool = False, mode: str = "auto"
    ) -> None:
        self.filepath = str(filepath)
        self._monitor = Monitor("ModelCheckpoint", monitor, mode) if save_best_only else None

    def __call__(self, trainer: TrainerLike, logs: Logs) -> None:
        path = self._path(logs)
        if (self._monitor is None or self._monitor.improves(logs)) and writes(trainer):
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
        """Return the state: plain values."""
        return {"best": None if self._monitor is None else self._monitor.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        check_state(self, state, best=float | None)
        if self._monitor is not None and state["best"] is not None:
            self._monitor.best = state["best"]
