"""Tests for the weights of classes in `Trainer.fit`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import Backend
from problem import X, Y, network

from xpnn import Trainer, nn, optim
from xpnn.arrays import tree
from xpnn.errors import InputError
from xpnn.training.checks.inputs import row_weights


def weights_after(backend: Backend, **options: Any) -> list[np.ndarray]:
    trainer = Trainer(network(0.0), nn.CrossEntropyLoss(), optim.SGD(0.1))
    trainer.fit(backend.array(X.astype("float32")), backend.array(Y), epochs=2, batch_size=7, **options)
    return tree.leaves(trainer.snapshot())


def test_classes_are_weights_of_their_rows(backend: Backend) -> None:
    by_class = weights_after(backend, class_weight={0: 3.0, 2: 0.5})
    by_row = weights_after(backend, sample_weight=backend.array(np.array([3.0, 1.0, 0.5])[Y].astype("float32")))
    assert all(np.array_equal(one, other) for one, other in zip(by_class, by_row, strict=True))
    plain = weights_after(backend)
    assert not np.array_equal(by_class[-1], plain[-1])


@pytest.mark.parametrize("form", [lambda y: y, lambda y: np.eye(3)[y], lambda y: y[:, None].astype(float)])
def test_balanced_is_that_of_scikit_learn(form: Any) -> None:
    y = np.array([0, 0, 0, 1, 2, 2])
    found = row_weights(None, "balanced", form(y))
    assert found == pytest.approx(np.array([6 / 9, 6 / 3, 6 / 6])[y])
    assert row_weights(np.arange(6.0), "balanced", y) == pytest.approx(np.arange(6) * found)
    ignored = row_weights(None, "balanced", np.array([0, -100, 1, 1]))
    assert ignored == pytest.approx([1.5, 1, 0.75, 0.75])


@pytest.mark.parametrize(
    ("weight", "y", "telling"),
    [
        ("even", Y, "class_weight is 'even'; expected a dict of weights by class index, or 'balanced'"),
        ({7: 1.0}, Y, "class_weight: 7: 1.0; expected a class of y"),
        ({0: -1.0}, Y, "class_weight: 0: -1.0; expected a class of y and a weight of at least 0"),
        ("balanced", np.array([0.5, 1.0]), "y holds other numbers; use sample_weight"),
    ],
)
def test_what_cannot_be_used(weight: Any, y: Any, telling: str) -> None:
    with pytest.raises(InputError, match=telling):
        row_weights(None, weight, y)
