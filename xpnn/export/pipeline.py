"""A network with what turns rows of a file into its input, and its outputs into predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnn.data.tables.schema import Schema
from xpnn.errors import InputError
from xpnn.nn.layers.containers import Sequential
from xpnn.nn.protocols import Params

OUTPUTS = ("logits", "probability", "scores", "numbers")


@dataclass(frozen=True, eq=False)
class Pipeline:
    """A network, the encoding of its input, and the meaning of its outputs.

    Parameters
    ----------
    model : nn.Sequential
        The network.
    params : Params
        Its parameters.
    input_shape : tuple of int
        The shape of one sample.
    outputs : {"logits", "probability", "scores", "numbers"}
        What the network gives: logits of the classes, the probability of the second of two classes, scores of the
        classes, or numbers that become predictions by `scale` and `shift`.
    classes : tuple of str
        The labels in the order of the outputs; empty for numbers.
    targets : tuple of str
        The columns that are predicted; may be empty for classes.
    shift, scale : tuple of float
        Of numbers, for each output: the prediction is output · scale + shift.
    schema : Schema, optional
        How the columns of a table become the input; None for images.
    ids : tuple of str
        The columns of a table that name its rows.
    decimal : {".", ","}
        The decimal sign of a table in text.
    are_probabilities : bool
        Whether the scores of the classes add up to 1.

    Raises
    ------
    InputError
        If `outputs` has another value, or does not suit `classes` and `scale`.

    Examples
    --------
    >>> from xpnn import export, nn
    >>> from xpnn.arrays import random
    >>> model = nn.Sequential(nn.Linear(2, 2))
    >>> params = model.init(random.key(0, "init"))
    >>> export.Pipeline(model, params, (2,), "logits", classes=("no", "yes")).are_probabilities
    True
    """

    model: Sequential
    params: Params
    input_shape: tuple[int, ...]
    outputs: str
    classes: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    shift: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    schema: Schema | None = None
    ids: tuple[str, ...] = ()
    decimal: str = "."
    are_probabilities: bool = True

    def __post_init__(self) -> None:
        if self.outputs not in OUTPUTS:
            raise InputError(f"Pipeline: outputs is {self.outputs!r}; expected one of {', '.join(OUTPUTS)}")
        if (self.outputs == "numbers") != bool(self.scale) or bool(self.classes) == bool(self.scale):
            raise InputError(
                f"Pipeline: outputs is {self.outputs!r}, with {len(self.classes)} classes and {len(self.scale)} "
                "scales; expected classes, or for numbers a shift and a scale for each output"
            )

    @classmethod
    def of(cls, saved: Any) -> Pipeline:
        """Return the pipeline of a saved run.

        Parameters
        ----------
        saved : xpnn.experiments.SavedRun

        Returns
        -------
        Pipeline
        """
        goal, settings = saved.goal, saved.settings
        if not goal.classes:
            outputs = "numbers"
        elif settings.loss in (None, "cross-entropy"):
            outputs = "logits"
        else:
            outputs = "probability" if goal.has_one_output(settings) else "scores"
        return cls(
            saved.model,
            saved.params,
            saved.input_shape,
            outputs,
            goal.classes,
            goal.targets,
            goal.shift,
            goal.scale,
            saved.schema,
            tuple(settings.table.id),
            settings.table.decimal,
            goal.gives_probabilities(settings),
        )


def precise_mean(mean: Any, values: tuple[float, ...]) -> np.ndarray:
    """Return the means that `Standardize` subtracts, in float64.

    Parameters
    ----------
    mean : array, (features,)
        The parameter, which may have the rounding of float32.
    values : tuple of float
        The means that are a field of the layer.

    Returns
    -------
    ndarray, (features,)
        The field where the parameter is its rounding, and the parameter elsewhere.
    """
    stored, exact = np.asarray(mean), np.asarray(values)
    return np.where(exact.astype(stored.dtype) == stored, exact, stored.astype(np.float64))
