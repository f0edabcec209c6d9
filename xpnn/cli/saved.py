"""A saved run, opened: the network ready to be evaluated or to predict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpnn import nn, optim
from xpnn.arrays.device import Place
from xpnn.cli import run_folder
from xpnn.cli.settings import DTYPES, choose_place
from xpnn.errors import DataFormatError, one_of
from xpnn.training import Trainer, load_model


@dataclass(frozen=True)
class SavedRun:
    """What a run folder holds."""

    model: nn.Sequential
    params: Any
    options: dict[str, Any]  # of `xpnn train`, completed
    classes: tuple[str, ...]
    features: tuple[str, ...]
    input_shape: tuple[int, ...]  # of one sample

    @classmethod
    def open(cls, folder: Path) -> SavedRun:
        """Read a run folder. Raises InputError where it is none, DataFormatError where a file is damaged."""
        options = run_folder.read_run(folder)["options"]
        model, params, about = load_model(folder / run_folder.MODEL)
        try:
            classes, features, shape = (tuple(about[name]) for name in ("classes", "features", "input_shape"))
            one_of("precision", options["precision"], DTYPES)
        except (KeyError, TypeError) as error:
            raise DataFormatError(f"{str(folder)!r} was not written by xpnn train: {error} is missing") from error
        return cls(model, params, options, classes, features, shape)  # type: ignore[arg-type]

    def trainer(self, device: str, backend: str, fallback: bool) -> tuple[Trainer, Place]:
        """The network on a device, with its weights."""
        precision = self.options["precision"]
        where = choose_place(device, backend, fallback, precision)
        trainer = Trainer(self.model, nn.CrossEntropyLoss(), optim.SGD(), device=where, dtype=DTYPES[precision])
        trainer.load(self.params)
        return trainer, where
