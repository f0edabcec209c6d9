"""The settings of `xpnn train`, checked; what is built from them is in `xpnn.experiments.factory`."""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from dataclasses import dataclass
from typing import Any

from xpnn import optim
from xpnn.cli.terminal.console import print_stderr
from xpnn.data.datasets import is_table
from xpnn.devices.place import Place, find_place
from xpnn.devices.precision import check_precision
from xpnn.errors import InputError
from xpnn.nn.initializers import INITIALIZERS
from xpnn.nn.layers.activations import ACTIVATIONS
from xpnn.nn.layers.containers import NORMS
from xpnn.validation import one_of

#: By the name that --precision takes: the dtype, and the precision of its products.
PRECISIONS = {
    "fp64": ("float64", "fp32"),
    "fp32": ("float32", "fp32"),
    "tf32": ("float32", "tf32"),
    "bf16": ("float32", "bf16"),
}
#: By the name that --optimizer takes.
OPTIMIZERS: dict[str, Any] = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "nadam": optim.NAdam,
    "lion": optim.Lion,
    "muon": optim.Muon,
    "sgd": optim.SGD,
    "rmsprop": optim.RMSprop,
    "adagrad": optim.Adagrad,
}
LOSSES = ("cross-entropy", "mse")
SCHEDULES = ("constant", "step", "exponential", "inverse-time", "polynomial", "cosine", "one-cycle")
OUTPUTS = ("none", "sigmoid", "softmax")


@dataclass(frozen=True)
class Settings:
    """What was asked for, as `xpnn train` takes it; None where the default depends on the data (see `complete`)."""

    recipe: str | None = None
    dataset: str = "digits"
    data_dir: str | None = None
    target: str | None = None
    test_fraction: float | None = None
    validation_fraction: float = 0.1
    scale: float | None = None
    augment: str = ""
    hidden: str = "256,128"
    activation: str = "relu"
    output_activation: str = "none"
    norm: str = "none"
    weight_init: str | None = None
    dropout: str = "0.3"
    loss: str = "cross-entropy"
    reduction: str = "mean"
    label_smoothing: float = 0.0
    optimizer: str = "adam"
    lr: float | None = None
    momentum: float | None = None
    betas: str | None = None
    weight_decay: float | None = None
    clip_norm: float | None = None
    schedule: str = "constant"
    decay: float | None = None
    warmup: float = 0.0
    ema: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    patience: int | None = None
    seed: int = 0
    precision: str = "fp32"

    def __post_init__(self) -> None:
        one_of("--optimizer", self.optimizer, OPTIMIZERS)
        one_of("--schedule", self.schedule, SCHEDULES)
        one_of("--activation", self.activation, ACTIVATIONS)
        one_of("--output-activation", self.output_activation, OUTPUTS)
        one_of("--norm", self.norm, ("none", *NORMS))
        one_of("--loss", self.loss, LOSSES)
        one_of("--reduction", self.reduction, ("mean", "sum"))
        if self.weight_init is not None:
            one_of("--weight-init", self.weight_init, INITIALIZERS)
        one_of("--precision", self.precision, PRECISIONS)
        self._check_loss()
        self._check_numbers()

    def _check_loss(self) -> None:
        if self.loss == "cross-entropy" and self.output_activation != "none":
            raise InputError(
                f"--output-activation {self.output_activation}: cross-entropy holds its own softmax; "
                "leave it out, or take --loss mse"
            )
        if self.loss == "mse" and self.label_smoothing:
            raise InputError("--label-smoothing belongs to --loss cross-entropy")

    def _check_numbers(self) -> None:
        for name, fits, wanted in (
            ("lr", lambda v: 0 < v < math.inf, "a number above 0"),
            ("scale", lambda v: 0 < v < math.inf, "a number above 0"),
            ("clip_norm", lambda v: 0 < v < math.inf, "a number above 0"),
            ("ema", lambda v: 0 <= v < 1, "in 0 <= ema < 1"),
            ("warmup", lambda v: 0 <= v < math.inf, "a number of at least 0"),
            ("epochs", lambda v: v >= 1, "a whole number of at least 1"),
            ("batch_size", lambda v: v >= 0, "a whole number of at least 1, or 0 for all rows"),
            ("patience", lambda v: v >= 0, "a whole number of at least 0"),
            ("validation_fraction", lambda v: 0 <= v < 1, "in 0 <= fraction < 1"),
            ("seed", lambda v: 0 <= v < 2**64, "an integer from 0 to 2**64 - 1"),
            ("test_fraction", lambda v: 0 < v < 1, "in 0 < fraction < 1"),
        ):
            value = getattr(self, name)
            if value is not None and not fits(value):
                raise InputError(f"--{name.replace('_', '-')}: {value!r} is not {wanted}")
        if not all(1 <= width <= 1_000_000 for width in numbers("--hidden", self.hidden, int)):
            raise InputError(f"--hidden: {self.hidden!r} holds a width that is not in 1 … 1,000,000")
        if self.patience is not None and not self.validation_fraction:
            raise InputError("--patience watches the validation loss; leave --validation-fraction above 0")

    def complete(self, rows: int) -> Settings:
        """The settings with the defaults for `rows` rows of training data filled in.

        Batches of 32 below 10,000 rows, else 128; epochs for 2,500 steps, at least 15.
        """
        if self.batch_size is not None and self.batch_size > rows:
            warnings.warn(
                f"--batch-size {self.batch_size} is larger than the data; using {rows}, all rows", stacklevel=2
            )
        wanted = rows if self.batch_size == 0 else self.batch_size or (32 if rows < 10_000 else 128)
        batch_size = min(wanted, rows)
        lr = self.lr or default_lr(self.optimizer)
        return dataclasses.replace(
            self,
            batch_size=batch_size,
            epochs=self.epochs or max(round(2_500 / math.ceil(rows / batch_size)), 15),
            lr=lr,
            momentum=0.9 if self.optimizer == "sgd" and self.momentum is None else self.momentum,
        )

    def with_absolute_paths(self) -> Settings:
        """The settings as a saved run keeps them: it may be evaluated from another folder."""
        data_dir = None if self.data_dir is None else os.path.abspath(self.data_dir)
        dataset = os.path.abspath(self.dataset) if is_table(self.dataset) else self.dataset
        return dataclasses.replace(self, data_dir=data_dir, dataset=dataset)


def choose_place(device: str, backend: str, fallback: bool, precision: str) -> Place:
    """The device to use; says on standard error where it is not the one asked for."""
    place = find_place(device, backend, fallback=fallback)
    if place.fell_back:
        print_stderr(f"{place.reason}. The CPU does the work, with {place.library}.")
    if precision == "fp64":
        place.lib.enable_float64()
    dtype, products = PRECISIONS[precision]
    check_precision(products, place, dtype)
    return place


def default_lr(optimizer: str) -> float:
    """The learning rate where none is given: the optimizer's own."""
    return OPTIMIZERS[optimizer]().lr


def numbers(option: str, text: str, kind: type) -> list[Any]:
    """The numbers between the commas. Raises InputError."""
    try:
        return [kind(part) for part in text.split(",")] if text.strip() else []
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise InputError(f"{option}: {text!r} is not a list of {what} with commas between them") from None
