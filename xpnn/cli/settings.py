"""The settings of `xpnn train`, checked, and what is built from them: the device, the network, the optimizer."""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnn import nn, optim
from xpnn.arrays.device import Place, find_place
from xpnn.cli.console import tell
from xpnn.data.datasets import Dataset, is_table
from xpnn.errors import InputError, one_of
from xpnn.nn.activations import ACTIVATIONS

DTYPES = {"fp32": "float32", "fp64": "float64"}
OPTIMIZERS = ("adam", "sgd")


@dataclass(frozen=True)
class Settings:
    """What was asked for; None where the default depends on the data (see `complete`)."""

    dataset: str = "digits"
    data_dir: str | None = None
    target: str | None = None
    test_fraction: float | None = None
    validation_fraction: float = 0.1
    hidden: str = "256,128"
    activation: str = "relu"
    dropout: str = "0.3"
    optimizer: str = "adam"
    lr: float | None = None
    momentum: float | None = None
    weight_decay: float = 0.0
    epochs: int | None = None
    batch_size: int | None = None
    seed: int = 0
    precision: str = "fp32"

    def __post_init__(self) -> None:
        one_of("--activation", self.activation, ACTIVATIONS)
        one_of("--optimizer", self.optimizer, OPTIMIZERS)
        if self.precision in ("tf32", "bf16"):
            raise InputError(f"--precision: {self.precision} is not there yet; use one of {', '.join(DTYPES)}")
        one_of("--precision", self.precision, DTYPES)
        if self.momentum is not None and self.optimizer != "sgd":
            raise InputError(f"--momentum belongs to --optimizer sgd; {self.optimizer} has none to set")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise InputError(f"--lr: {self.lr!r} is not a number above 0")
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')}: {value} is not a whole number of at least 1")
        if not 0 <= self.validation_fraction < 1:
            raise InputError(f"--validation-fraction: {self.validation_fraction} is not in 0 <= fraction < 1")
        if not 0 <= self.seed < 2**64:
            raise InputError(f"--seed: {self.seed} is not an integer from 0 to 2**64 - 1")
        if self.test_fraction is not None and not 0 < self.test_fraction < 1:
            raise InputError(f"--test-fraction: {self.test_fraction} is not in 0 < fraction < 1")
        if not all(1 <= width <= 1_000_000 for width in _numbers("--hidden", self.hidden, int)):
            raise InputError(f"--hidden: {self.hidden!r} holds a width that is not in 1 … 1,000,000")
        self.optimizer_object()  # raises for momentum and weight decay
        self.model(1, 2, ())  # raises for dropout

    def complete(self, rows: int) -> Settings:
        """The settings with the defaults for `rows` rows of training data filled in.

        Batches of 32 below 10,000 rows, else 128; epochs for 2,500 steps, at least 15.
        """
        if self.batch_size is not None and self.batch_size > rows:
            warnings.warn(
                f"--batch-size {self.batch_size} is larger than the data; using {rows}, all rows", stacklevel=2
            )
        batch_size = min(self.batch_size or (32 if rows < 10_000 else 128), rows)
        return dataclasses.replace(
            self,
            batch_size=batch_size,
            epochs=self.epochs or max(round(2_500 / math.ceil(rows / batch_size)), 15),
            lr=self.lr or {"adam": 1e-3, "sgd": 1e-2}[self.optimizer],
            momentum=0.9 if self.optimizer == "sgd" and self.momentum is None else self.momentum,
        )

    def with_absolute_paths(self) -> Settings:
        """The settings as a saved run keeps them: it may be evaluated from another folder."""
        data_dir = None if self.data_dir is None else os.path.abspath(self.data_dir)
        dataset = os.path.abspath(self.dataset) if is_table(self.dataset) else self.dataset
        return dataclasses.replace(self, data_dir=data_dir, dataset=dataset)

    def optimizer_object(self) -> optim.Optimizer:
        """The optimizer."""
        if self.optimizer == "sgd":
            momentum = 0.9 if self.momentum is None else self.momentum
            return optim.SGD(self.lr or 1e-2, momentum=momentum, weight_decay=self.weight_decay)
        return optim.Adam(self.lr or 1e-3, weight_decay=self.weight_decay)

    def model(self, features: int, classes: int, preprocessing: tuple[nn.Layer, ...]) -> nn.Sequential:
        """The network, with the layers in front that turn raw data into its input."""
        hidden = _numbers("--hidden", self.hidden, int)
        dropout = _numbers("--dropout", self.dropout, float)
        rates = dropout * len(hidden) if len(dropout) == 1 else dropout
        mlp = nn.MLP(features, classes, hidden, activation=self.activation, dropout=rates)
        return nn.Sequential(*preprocessing, *mlp.layers)


def preprocessing(data: Dataset, x_train: np.ndarray) -> tuple[nn.Layer, ...]:
    """Images are flattened and scaled to 0 … 1; the columns of a table are standardised, by what training rows show."""
    if data.scale is not None:
        return (nn.Flatten(), nn.Scale(data.scale))
    return (nn.Standardize.fit(x_train),)


def choose_place(device: str, backend: str, fallback: bool, precision: str) -> Place:
    """The device to use; says on standard error where it is not the one asked for."""
    where = find_place(device, backend, fallback=fallback)
    if where.fell_back:
        tell(f"{where.reason}. The CPU does the work, with {where.library}.")
    if where.library == "jax" and precision == "fp64":
        import jax

        jax.config.update("jax_enable_x64", True)
    return where


def _numbers(option: str, text: str, kind: type) -> list[Any]:
    try:
        return [kind(part) for part in text.split(",")] if text.strip() else []
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise InputError(f"{option}: {text!r} is not a list of {what} with commas between them") from None
