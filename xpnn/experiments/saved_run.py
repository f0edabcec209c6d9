"""A saved run, opened: the network ready to be evaluated or to predict."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from xpnn import nn
from xpnn.data.datasets import is_table
from xpnn.devices.place import Place
from xpnn.errors import DataFormatError, InputError
from xpnn.experiments.run import trainer_of
from xpnn.experiments.run_folder import MODEL
from xpnn.experiments.settings import Settings, choose_place
from xpnn.nn.protocols import Params
from xpnn.training import Trainer, load_model, save_model


@dataclass(frozen=True)
class SavedRun:
    """What using a network again takes. All of it is in the model's file, under its digest: nothing can be mixed up."""

    settings: Settings  # of `xpnn train`, completed; paths are absolute
    classes: tuple[str, ...]
    features: tuple[str, ...]  # column names of a table; () for images
    input_shape: tuple[int, ...]  # of one sample
    data_sha256: str | None  # of a CSV file: its held-back rows can be found again only in the same file

    def save(self, folder: Path, model: nn.Layer, params: Params) -> None:
        """Write the model's file into the run folder."""
        folder.mkdir(parents=True, exist_ok=True)  # someone may have tidied up during a long training
        save_model(folder / MODEL, model, params, asdict(self))

    @classmethod
    def open(cls, folder: Path) -> tuple[SavedRun, nn.Layer, Params]:
        """(run, model, params). Raises InputError where `folder` is no run, DataFormatError for a damaged file."""
        path = folder / MODEL
        if not path.is_file():
            raise InputError(f"{str(folder)!r} holds no run: no {MODEL}, as train --output writes it, is there")
        model, params, about = load_model(path)
        try:
            settings = Settings(**about.pop("settings"))
            lists = {name: tuple(about[name]) for name in ("classes", "features", "input_shape")}
            return cls(settings, **lists, data_sha256=about["data_sha256"]), model, params
        except (KeyError, TypeError) as error:
            raise DataFormatError(f"{str(path)!r} was not written by xpnn train: {error}") from error

    def trainer(
        self, model: nn.Layer, params: Params, device: str, backend: str, fallback: bool
    ) -> tuple[Trainer, Place]:
        """The network on a device, with its weights."""
        precision = "fp64" if self.settings.precision == "fp64" else "fp32"  # also where no tensor cores are
        place = choose_place(device, backend, fallback, precision)
        trainer = trainer_of(dataclasses.replace(self.settings, precision=precision), model, place)
        trainer.load(params)
        return trainer, place


def sha256_of(dataset: str) -> str | None:
    """The digest of a CSV file; None for the data sets that have a name."""
    if not is_table(dataset):
        return None
    with Path(dataset).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
