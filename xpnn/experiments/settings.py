"""The settings of an experiment, each written once; `xpnn.experiments.factory` builds the parts from them.

Messages put the name of a setting between backticks: `batch_size`. The command shows it as its option, --batch-size.
"""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xpnn import optim
from xpnn.data.datasets import is_file
from xpnn.data.readers import is_pipe
from xpnn.data.tables.schema import MISSING
from xpnn.data.tables.tabular import TableOptions, largest_of
from xpnn.data.tables.target import TASKS
from xpnn.errors import InputError
from xpnn.experiments import options, recipes
from xpnn.experiments.options import (
    ONLY_REGRESSION,
    REGRESSION_LOSSES,
    check_settings,
    option,
    parameters_section,
    parse_names,
    parse_size,
)
from xpnn.nn.initializers import INITIALIZERS
from xpnn.nn.layers.activations import ACTIVATIONS
from xpnn.nn.layers.containers import NORMS

#: (dtype, precision of the matrix products) by the value of `precision`.
NUMBER_FORMATS = {
    "fp32": ("float32", "fp32"),
    "tf32": ("float32", "tf32"),
    "bf16": ("float32", "bf16"),
    "fp64": ("float64", "fp32"),
}
#: By the value of `optimizer`.
OPTIMIZERS_BY_NAME: dict[str, Any] = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "nadam": optim.NAdam,
    "lion": optim.Lion,
    "muon": optim.Muon,
    "sgd": optim.SGD,
    "rmsprop": optim.RMSprop,
    "adagrad": optim.Adagrad,
}
#: Defaults by the number of training rows, chosen on half of the tables of `bench.tables` and shown on the others.
#: Fewer rows need more regularization; more rows allow larger batches and need fewer epochs.
_BY_ROWS = (  # rows below, batch size, dropout, weight decay of adamw, epochs at least
    (2_000, 32, 0.3, 1.0, 40),
    (5_000, 64, 0.15, 1.0, 40),
    (10_000, 64, 0.15, 0.3, 40),
    (30_000, 128, 0.1, 0.3, 25),
    (math.inf, 256, 0.1, 0.3, 20),
)
_IMAGES_DECAY = 0.3  # whatever the number of rows
_STEPS = 2_500  # at least, so that a small table is trained for long enough
_SCHEDULES = ("constant", "step", "exponential", "inverse-time", "polynomial", "cosine", "one-cycle")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that determines an experiment, except the device: data, network, loss, optimizer, epochs, seed.

    A setting is the option of `xpnn train` with the same name and ``_`` for ``-``. None means a default that depends
    on the data or on other settings, see `complete`. `recipe` only records a name: `from_recipe` reads the recipe.

    {parameters}

    Raises
    ------
    InputError
        If a value is not allowed, or two settings contradict each other.

    Examples
    --------
    >>> from xpnn.experiments import Settings
    >>> Settings(hidden="32,16", optimizer="sgd", lr=0.1).complete(rows=1000).batch_size
    32
    """

    dataset: str = option(
        "digits", "digits, mnist, xor; a table (.csv, .parquet, …), .npz, or a folder of images.", is_argument=True
    )
    recipe: str | None = option(None, "Start from a recipe (see xpnn recipes).")
    hidden: str = option(
        "256,128", "Widths of the hidden layers, as 256,128; '' for none.", range=options.WIDTH, numbers=int
    )
    activation: str = option("relu", "Activation of the hidden layers.", choices=ACTIVATIONS)
    output_activation: str = option(
        "none",
        "Activation of the last layer; cross-entropy includes a softmax.",
        choices=("none", "sigmoid", "softmax"),
    )
    norm: str = option("none", "Normalization before each activation.", choices=("none", *NORMS))
    weight_init: str | None = option(
        None,
        "he_normal, glorot_uniform, … [default: by activation; fan_in_uniform for tables of 5,000 rows or more]",
        choices=INITIALIZERS,
        metavar="NAME",
    )
    dropout: str | None = option(
        None,
        "Probability of dropping; one for all hidden layers, or one for each. [default: by rows, 0.3 to 0.1]",
        metavar="P,…",
        range=options.BELOW_1,
        numbers=float,
    )
    scale: float | None = option(
        None,
        "Factor for the features. [default: images to 0…1; tables are standardized]",
        range=options.SCALE,
    )
    augment: str = option("", "Distort training images: degrees=10,translate=0.05,alpha=8,…", metavar="NAME=X,…")
    loss: str | None = option(
        None, "The loss. [default: cross-entropy, of regression mse]", choices=("cross-entropy", *REGRESSION_LOSSES)
    )
    quantile: float | None = option(None, "The quantile of loss quantile. [default: 0.5]", range=options.INSIDE_0_1)
    reduction: str = option("mean", "Reduction of the loss over a batch.", choices=("mean", "sum"))
    label_smoothing: float | None = option(
        None,
        "Share of each label that is spread over all classes. [default: 0.05 for cross-entropy]",
        range=options.SHARE,
    )
    calibrate: bool = option(True, "Scale the outputs so that the probabilities fit the validation rows.")
    class_weight: str | None = option(
        None, "Weights of the classes in the loss: balanced, or as yes=2,no=1.", metavar="balanced|NAME=X,…"
    )
    optimizer: str = option("adamw", "The optimizer.", choices=OPTIMIZERS_BY_NAME)
    lr: float | None = option(None, "Learning rate. [default: the optimizer's own]", range=options.LEARNING_RATE)
    momentum: float | None = option(
        None, "Momentum of sgd, rmsprop and muon. [default: 0.9 for sgd]", range=options.BELOW_1
    )
    betas: str | None = option(
        None,
        "Decay rates of adam, adamw, nadam and lion, as 0.9,0.999. [default: the optimizer's own]",
        range=options.BELOW_1,
        numbers=float,
    )
    weight_decay: float | None = option(
        None, "Weight decay. [default: of adamw by rows, 1 or 0.3; of others their own]", range=options.NOT_NEGATIVE
    )
    clip_norm: float | None = option(None, "Largest norm of the gradient.", range=options.POSITIVE)
    schedule: str = option("cosine", "Schedule of the learning rate, over all epochs.", choices=_SCHEDULES)
    decay: float | None = option(
        None,
        "Parameter of the schedule step (factor), exponential, inverse-time (per epoch) or polynomial (power).",
        range=options.NOT_NEGATIVE,
    )
    warmup: float = option(
        0.0, "Epochs in which the learning rate rises. [one-cycle: 30% of all]", range=options.NOT_NEGATIVE
    )
    ema: float | None = option(None, "Decay of a moving average of the weights, as 0.999.", range=options.DECAY)
    epochs: int | None = option(
        None, "Passes over the data. [default: by rows, at least 20 to 40, and 2,500 steps]", range=options.EPOCHS
    )
    batch_size: int | None = option(
        None, "Rows in a step; 0 for all. [default: by rows, 32 to 256]", range=options.ROWS
    )
    patience: int | None = option(
        None,
        "Stop after this many epochs without a better monitor; keep the best weights.",
        range=options.COUNT_OR_0,
    )
    monitor: str = option(
        "val_loss",
        "What patience watches: val_loss, val_accuracy, val_balanced_accuracy, val_f1_score, val_r2_score, …",
        choices=(
            "val_loss",
            "val_accuracy",
            "val_balanced_accuracy",
            "val_f1_score",
            "val_r2_score",
            "val_mean_absolute_error",
            "val_root_mean_squared_error",
        ),
        metavar="NAME",
    )
    validation_fraction: float = option(
        0.1, "Share of the training rows used for validation instead; 0 for none.", range=options.FRACTION
    )
    seed: int = option(0, "Determines the initial weights, batches, dropout and splits.", range=options.SEED)
    split_seed: int | None = option(None, "Determines the splits instead. [default: seed]", range=options.SEED)
    data_dir: str | None = option(None, "Folder with the MNIST files.")
    task: str = option("auto", "What is predicted of a table; auto: by the target.", choices=TASKS)
    target: str | None = option(None, "Column to predict, or several with commas. [default: label, target, class or y]")
    features: str = option("", "Columns to use, with commas between them. [default: all others]", metavar="COLUMN,…")
    drop: str = option("", "Columns to leave out.", metavar="COLUMN,…")
    id: str = option("", "Columns that name the rows; predict writes them beside the predictions.", metavar="COLUMN,…")
    date: str = option("", "Columns that hold dates.", metavar="COLUMN,…")
    missing: str = option("error", "What to do with missing values.", choices=MISSING)
    embedding_above: int | None = option(
        None,
        "Learn a vector for each text of a column with more different texts. [default: all are one-hot]",
        range=options.COUNT_OR_0,
    )
    decimal: str = option(".", "Decimal point of a text file.", choices=(".", ","))
    encoding: str = option("utf-8", "Encoding of a text file.")
    image_size: str | None = option(
        None, "Height and width to which the images of a folder are resized.", metavar="HxW"
    )
    skip_broken: bool = option(False, "Leave out the images of a folder that cannot be read.")
    test_fraction: float | None = option(
        None, "Share of the table's rows used for the test instead. [default: 0.2]", range=options.POSITIVE_FRACTION
    )
    precision: str = option(
        "fp32", "Precision; tf32 and bf16 apply to matrix products on a GPU.", choices=NUMBER_FORMATS
    )

    def __post_init__(self) -> None:
        check_settings(self)

    @classmethod
    def from_recipe(cls, name: str, **changes: Any) -> Settings:
        """The settings of a recipe, with changes.

        Parameters
        ----------
        name : str
            One of `recipes.names`.
        **changes
            Settings that replace those of the recipe.

        Returns
        -------
        Settings

        Examples
        --------
        >>> Settings.from_recipe("tiny-relu", dataset="digits", epochs=20).hidden
        '10'
        """
        return cls(**{**recipes.read(name).train, **changes, "recipe": name})

    @property
    def rows_seed(self) -> int:
        """The seed that determines which rows are for validation and test."""
        return self.seed if self.split_seed is None else self.split_seed

    @property
    def table(self) -> TableOptions:
        """How a table is read."""
        task = "regression" if self.task == "auto" and self.loss in ONLY_REGRESSION else self.task
        options: dict[str, Any] = {
            name: parse_names(getattr(self, name)) for name in ("features", "drop", "id", "date")
        }
        options |= {
            name: getattr(self, name) for name in ("target", "missing", "embedding_above", "decimal", "encoding")
        }
        options |= {"image_size": parse_size(self.image_size), "largest": largest_of(self.precision)}
        return TableOptions(task=task, skip_broken=self.skip_broken, **options)

    def complete(self, rows: int, task: str = "classification", *, is_table: bool = True) -> Settings:
        """Fill in the defaults that depend on the data.

        Parameters
        ----------
        rows : int
            Rows to train on.
        task : {"classification", "regression"}
            What is predicted.
        is_table : bool
            Whether the features are the columns of a table, not pixels.

        Returns
        -------
        Settings
            With a batch size, epochs, dropout, weight decay and initial weights by the number of rows, the optimizer's
            own learning rate and the loss of the task, each where the setting is None.
        """
        if self.batch_size is not None and self.batch_size > rows:
            warnings.warn(
                f"`batch_size` {self.batch_size} is larger than the data; using {rows}, all rows", stacklevel=2
            )
        _, usual, dropout, decay, epochs = next(line for line in _BY_ROWS if rows < line[0])
        decay = decay if is_table else _IMAGES_DECAY
        batch_size = min(rows if self.batch_size == 0 else self.batch_size or usual, rows)
        loss = self.loss or ("mse" if task == "regression" else "cross-entropy")
        smoothing = 0.05 if loss == "cross-entropy" else 0.0
        return dataclasses.replace(
            self,
            batch_size=batch_size,
            epochs=self.epochs or max(round(_STEPS / math.ceil(rows / batch_size)), epochs),
            dropout=f"{dropout:g}" if self.dropout is None else self.dropout,
            weight_decay=decay if self.optimizer == "adamw" and self.weight_decay is None else self.weight_decay,
            weight_init=self.weight_init or ("fan_in_uniform" if is_table and rows >= 5_000 else None),
            label_smoothing=smoothing if self.label_smoothing is None else self.label_smoothing,
            lr=self.lr or default_lr(self.optimizer),
            task=task,
            loss=loss,
            momentum=0.9 if self.optimizer == "sgd" and self.momentum is None else self.momentum,
        )

    def with_absolute_paths(self) -> Settings:
        """The same settings with absolute paths, so that a saved run can be evaluated from another folder."""
        data_dir = None if self.data_dir is None else os.path.abspath(self.data_dir)
        dataset = self.dataset
        if is_file(dataset) and not is_pipe(dataset):
            dataset = ",".join(os.path.abspath(part.strip()) for part in dataset.split(","))
        return dataclasses.replace(self, data_dir=data_dir, dataset=dataset)


Settings.__doc__ = (Settings.__doc__ or "").replace(
    "    {parameters}\n", parameters_section(Settings, Settings.__annotations__)
)


def resumed_settings(about: Mapping[str, Any], wanted: Settings) -> Settings:
    """The settings of a run that is continued.

    Parameters
    ----------
    about : dict
        What its checkpoint keeps: the completed "settings", and those that were "given".
    wanted : Settings
        Settings that are not the default must be those of the run, except `epochs`.

    Returns
    -------
    Settings

    Raises
    ------
    InputError
        If settings differ; all are named.
    """
    settings, given = Settings(**about["settings"]), Settings(**about["given"])
    wanted_paths, differences = wanted.with_absolute_paths(), []
    for name, field in Settings.__dataclass_fields__.items():
        value = getattr(wanted, name)
        known = (field.default, getattr(settings, name), getattr(given, name))
        if name == "epochs" or value in known or getattr(wanted_paths, name) == getattr(settings, name):
            continue
        differences.append(f"`{name}` is {value!r}, it was {getattr(settings, name)!r}")
    if differences:
        raise InputError(
            f"the run cannot continue with other settings: {'; '.join(differences)}; leave them out, or start a new run"
        )
    # The task is completed by the data, of which only a table takes it as a setting.
    return dataclasses.replace(settings, task=given.task, epochs=wanted.epochs or settings.epochs)


def default_lr(optimizer: str) -> float:
    """The optimizer's own learning rate."""
    return OPTIMIZERS_BY_NAME[optimizer]().lr
