"""Targets: those outside the domain of a loss are refused with a hint, and every dtype of a library is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import Backend
from problem import X, Y

from xpnn import nn, optim
from xpnn.errors import InputError
from xpnn.training import (
    Accuracy,
    ConfusionMatrix,
    ErrorRate,
    F1Score,
    MeanAbsoluteError,
    R2Score,
    TopKAccuracy,
    Trainer,
)

SIGNS = np.where(X[:, 0] > 0, 1, -1)
ONE_HOT = np.eye(3)[Y]
BINARY, CLASSES, COUNTS = nn.BCEWithLogitsLoss(), nn.CrossEntropyLoss(), nn.PoissonNLLLoss()

OUTSIDE = [
    (BINARY, SIGNS, r"y\[\d+\] = -1, .*\(y \+ 1\) / 2"),
    (BINARY, (SIGNS + 3) / 2, r"= 2.*y == 2"),
    (BINARY, np.linspace(0, 255, 40), r"scale them: y / 255"),
    (BINARY, np.linspace(0, 100, 40), r"scale them: y / 100"),
    (BINARY, np.linspace(-3, 9, 40), r"MSELoss"),
    (CLASSES, 100 * ONE_HOT, r"y\[0\] adds up to 100, .*divide them by their sums"),
    (CLASSES, np.maximum(ONE_HOT, ONE_HOT[::-1]), r"adds up to 2, .*BCEWithLogitsLoss"),
    (CLASSES, ONE_HOT * (np.arange(40) > 3)[:, None], r"y\[0\] adds up to 0, .*sample_weight 0"),
    (CLASSES, 2 * ONE_HOT - 1, r"y\[0\] holds negative values, .*\(y \+ 1\) / 2"),
    (nn.NLLLoss(), 2 * ONE_HOT, r"adds up to 2"),
    (CLASSES, Y + 1, r"numpy\.unique\(y, return_inverse=True\)"),
    (nn.NLLLoss(), SIGNS, r"ignore_index=-1; to number the classes"),
    (COUNTS, SIGNS, r"must not be negative; shift them"),
]


@pytest.mark.parametrize(("loss", "y", "message"), OUTSIDE)
def test_targets_outside_the_domain_are_refused(loss: Any, y: np.ndarray, message: str, backend: Backend) -> None:
    outputs = 1 if loss in (BINARY, COUNTS) else 3
    run = Trainer(nn.Linear(6, outputs), loss, optim.SGD(0.1), device=backend.place)
    given = backend.array(y)
    for call in (lambda: run.fit(X, given, batch_size=8), lambda: run.evaluate(X, given)):
        with pytest.raises(InputError, match=message):
            call()
    inside = np.zeros((40, outputs)) if outputs == 1 else ONE_HOT
    with pytest.raises(InputError, match=r"^validation_y\["):
        run.fit(X, inside, batch_size=8, validation_data=(X, given))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rounded_probabilities_are_accepted(dtype: str) -> None:
    soft = np.random.default_rng(0).dirichlet(np.ones(3), 40).round(3).astype(dtype)
    Trainer(nn.Linear(6, 3), CLASSES, optim.SGD(0.1)).fit(X, soft, batch_size=8)


DTYPES = ("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int32", "int64", "float32")
LOSSES = [
    CLASSES,
    nn.CrossEntropyLoss(class_weight=(1, 2, 3), label_smoothing=0.1),
    nn.MSELoss(),
    nn.L1Loss(),
    nn.HuberLoss(),
    BINARY,
    COUNTS,
    nn.QuantileLoss(0.3),
]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_targets_of_every_dtype_give_the_same(loss: Any, backend: Backend) -> None:
    """One-hot rows with all losses and metrics of classes; columns of 0 and 1 with the metrics of regression."""
    metrics = [Accuracy(), ErrorRate(), TopKAccuracy(2), ConfusionMatrix(3), F1Score(3)]
    one = [MeanAbsoluteError(), R2Score()]
    x = backend.array(X, "float32")
    for y, outputs, reported in ((ONE_HOT, 3, metrics), ((Y > 0)[:, None], 1, one)):
        if outputs == 1 and loss in LOSSES[:2]:
            continue
        run = Trainer(nn.Linear(6, outputs), loss, optim.SGD(0.1), metrics=reported)
        expected = run.evaluate(x, backend.array(y, "float32"))
        for dtype in DTYPES:
            try:
                given = backend.array(y.astype(dtype))
            except TypeError:
                continue  # the library has no such dtype
            assert run.evaluate(x, given) == expected, dtype
            run.fit(x, given, batch_size=8, epochs=1)
            expected = run.evaluate(x, backend.array(y, "float32"))
