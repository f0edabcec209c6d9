"""Tests for custom layers and losses."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import Backend, assert_close
from problem import X, Y

from xpnn import nn, optim
from xpnn.arrays import random
from xpnn.arrays.namespace import array_namespace, device_of
from xpnn.errors import InputError
from xpnn.training import Trainer


class CenterParams(NamedTuple):
    mean: nn.Carried
    seen: nn.Carried


@dataclass(frozen=True)
class Center:
    """A custom layer that subtracts the mean of all training rows so far, which it carries."""

    features: int

    def init(self, key: nn.Key) -> CenterParams:
        return CenterParams(nn.Carried(np.zeros(self.features)), nn.Carried(np.zeros(())))

    def forward(self, params: CenterParams, x: Any, *, key: nn.Key | None = None) -> Any:
        mean, seen = params.mean.value, params.seen.value
        if key is not None:
            xp = array_namespace(x)
            rows = x.shape[0]
            mean = (mean * seen + xp.sum(x, axis=0)) / (seen + rows)
            seen = seen + rows
        return x - mean, CenterParams(nn.Carried(mean), nn.Carried(seen))

    def backward(self, params: CenterParams, residuals: CenterParams, dy: Any, *, need_dx: bool = True) -> Any:
        return (dy if need_dx else None), residuals


@pytest.mark.parametrize("place_of_layer", ["below", "nested", "above"])
def test_custom_layer_with_carried_values(place_of_layer: str, backend: Backend) -> None:
    layers = {
        "below": nn.Sequential(nn.Flatten(), Center(6), nn.Linear(6, 3)),
        "nested": nn.Sequential(nn.Sequential(nn.Flatten()), nn.Sequential(Center(6)), nn.Linear(6, 3)),
        "above": nn.Sequential(nn.Linear(6, 6), Center(6), nn.Linear(6, 3)),
    }
    run = Trainer(layers[place_of_layer], nn.CrossEntropyLoss(), optim.Adam(), device=backend.place)
    run.fit(X, Y, epochs=2, batch_size=16)
    (center,) = (leaf for leaf in _layers(run.snapshot()) if isinstance(leaf, CenterParams))
    assert float(center.seen.value) == 80
    if place_of_layer != "above":
        assert_close(center.mean.value, X.mean(axis=0))


def test_equal_batch_shapes_are_rehearsed_once() -> None:
    rehearsed = []

    class Counted(nn.Identity):
        def forward(self, params: Any, x: Any, *, key: nn.Key | None = None) -> Any:
            if x.shape[0] == 1:
                rehearsed.append(key is not None)
            return super().forward(params, x, key=key)

    run = Trainer(nn.Sequential(nn.Flatten(), Counted(), nn.Linear(6, 3)), nn.CrossEntropyLoss(), optim.Adam())
    for again in (X, X, X.reshape(40, 2, 3)):
        run.fit(again, Y, batch_size=20)
        run.predict(again[:2])
    assert rehearsed == [False, True] * 2
    with pytest.raises(InputError, match=r"x of shape \(40, 7\) does not fit the model"):
        run.fit(np.ones((40, 7)), Y)


def _layers(params: Any) -> Iterator[Any]:
    for part in params:
        if isinstance(part, CenterParams):
            yield part
        elif isinstance(part, tuple) and part and not hasattr(part, "_fields"):
            yield from _layers(part)


def test_model_without_parameters() -> None:
    run = Trainer(nn.Sequential(nn.Sequential(nn.ReLU()), nn.Tanh()), nn.CrossEntropyLoss(), optim.Adam())
    assert len(run.fit(X[:, :3], Y, epochs=2, batch_size=8)) == 2


class Costs(NamedTuple):
    of_class: Any


@dataclass(frozen=True)
class Expected:
    """A custom loss with constants: the mean expected cost given the labels."""

    def init(self) -> Costs:
        return Costs(np.array([1.0, 2.0, 4.0]))

    def forward(self, constants: Costs, prediction: Any, target: Any, sample_weight: Any = None) -> Any:
        xp = array_namespace(prediction)
        cost = xp.take(constants.of_class, target)[:, None]
        return xp.sum((prediction - cost) ** 2) / prediction.shape[0], (prediction, cost)

    def backward(self, constants: Costs, residuals: Any) -> Any:
        prediction, cost = residuals
        return 2 * (prediction - cost) / prediction.shape[0]


def test_custom_loss(backend: Backend) -> None:
    run = Trainer(nn.Linear(6, 1), Expected(), optim.Adam(0.05), device=backend.place, dtype="float64")
    history = run.fit(X, Y, epochs=60, batch_size=16)
    assert set(history.records[0]) == {"epoch", "loss", "lr", "seconds"}
    assert history.records[-1]["loss"] < 0.5 * history.records[0]["loss"]


@dataclass(frozen=True)
class Lookup:
    """A custom layer on integers: row i of a table for index i."""

    rows: int
    width: int

    def init(self, key: nn.Key) -> Costs:
        return Costs(random.normal(key, (self.rows, self.width)))

    def forward(self, params: Costs, x: Any, *, key: nn.Key | None = None) -> Any:
        xp = array_namespace(x)
        return xp.take(params.of_class, x[:, 0], axis=0), x

    def backward(self, params: Costs, x: Any, dy: Any, *, need_dx: bool = True) -> Any:
        xp = array_namespace(dy)
        hit = x == xp.arange(self.rows, dtype=x.dtype, device=device_of(x))
        return None, Costs(xp.astype(hit, dy.dtype).T @ dy)


def test_custom_layer_on_integers(backend: Backend) -> None:
    x = np.arange(40)[:, None] % 5
    run = Trainer(nn.Sequential(Lookup(5, 3)), nn.CrossEntropyLoss(), optim.Adam(0.1), device=backend.place)
    with warnings.catch_warnings():
        if backend.library == "cupy":  # whose own products cannot be captured
            warnings.filterwarnings("ignore", message="training runs step by step")
        run.fit(backend.array(x, "int32"), x[:, 0] % 3, epochs=20, batch_size=10)
    assert run.evaluate(backend.array(x, "int32"), x[:, 0] % 3)["accuracy"] == 1
