"""Columns and targets with a large offset, such as a time in seconds since 1970, keep their differences in float32."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Backend

from xpnn import load_model, nn, optim, save_model
from xpnn.arrays import random
from xpnn.nn import traits
from xpnn.training import Trainer, data_feed

RNG = np.random.default_rng(0)
SMALL = RNG.normal(size=(300, 1))
TIME = 1.7e9 + RNG.uniform(-50, 50, size=(300, 1))
X = np.concatenate([SMALL, TIME, 1e6 + 0.5 * SMALL], axis=1)
Y = (TIME[:, 0] > 1.7e9).astype(np.int64)
CENTRED = X - [0, 1.7e9, 1e6]


def trainer(x: Any, **options: Any) -> Trainer:
    model = nn.Sequential(nn.Standardize.fit(x), *nn.MLP(3, 2, (8,)).layers)
    return Trainer(model, nn.CrossEntropyLoss(), optim.Adam(0.01), dtype="float32", **options)


@pytest.mark.parametrize("streamed", [False, True])
def test_large_offset_is_learned(streamed: bool, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    if streamed:
        monkeypatch.setattr(data_feed, "free_bytes", lambda place: 1)
    run, plain = (trainer(x, device=backend.place) for x in (X, CENTRED))
    given = [backend.array(x) for x in (X, CENTRED)]
    for each, x in zip((run, plain), given, strict=True):
        each.fit(x, Y, epochs=40, validation_data=(x, Y))
    assert run.evaluate(given[0], Y)["accuracy"] > 0.97
    np.testing.assert_allclose(run.predict(X), plain.predict(CENTRED), atol=0.02)
    assert all("float32" in str(leaf.dtype) for leaf in (run.state.params[1].weight, run.state.params[0].mean.value))


def test_integers_with_a_large_offset_are_learned(backend: Backend) -> None:
    x = np.round(1000 * X).astype(np.int64)
    if backend.library != "jax":
        x = backend.array(x)
    run = trainer(np.round(1000 * X), device=backend.place)
    run.fit(x, Y, epochs=40)
    assert run.evaluate(x, Y)["accuracy"] > 0.97


def test_saved_model_computes_the_same_function(tmp_path: Path) -> None:
    run = trainer(X)
    run.fit(X, Y, epochs=20)
    save_model(tmp_path / "m.safetensors", run.model, run.snapshot())
    model, params, _ = load_model(tmp_path / "m.safetensors")
    assert model == run.model
    np.testing.assert_allclose(model.forward(params, X)[0], run.predict(X), atol=1e-5)
    again = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(), dtype="float32", params=params)
    np.testing.assert_array_equal(again.predict(X), run.predict(X))


def test_columns_without_a_large_offset_keep_their_bits(backend: Backend) -> None:
    layer = nn.Standardize.fit(CENTRED)
    assert traits.centred(layer) is None and traits.centred(nn.Sequential(layer)) is None
    offset, _ = traits.centred(nn.Sequential(nn.Standardize.fit(X), nn.Linear(3, 2)))  # type: ignore[misc]
    assert offset[0] == 0 and abs(offset[1] - 1.7e9) < 10 and abs(offset[2] - 1e6) < 1


def test_layer_by_itself_subtracts_in_float64(backend: Backend) -> None:
    layer = nn.Standardize.fit(X)
    params = backend.tree(layer.init(random.key(0, "init")), "float32")
    y = backend.check(layer.forward(params, backend.array(X))[0], X.astype(np.float32))
    np.testing.assert_allclose(y, (X - X.mean(axis=0)) / X.std(axis=0), atol=1e-4)


@pytest.mark.parametrize("dtype", ["float64", "int64"])
def test_lost_column_warns_once(dtype: str, backend: Backend) -> None:
    x = (X if dtype == "float64" else np.round(1000 * X)).astype(dtype)
    if dtype == "int64" and backend.library == "jax":
        pytest.skip("JAX converts it before the trainer sees it")
    run = Trainer(nn.Linear(3, 2), nn.CrossEntropyLoss(), optim.SGD(1e-20), dtype="float32", device=backend.place)
    given = backend.array(x)
    with pytest.warns(
        UserWarning, match=r"^column 1 of x has values of 1.*float32 rounds.*nn\.Standardize\.fit\(x\)"
    ) as caught:
        run.fit(given, Y)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.fit(given, Y)
        run.predict(given)


def test_lost_targets_warn() -> None:
    run = Trainer(nn.Linear(1, 1), nn.MSELoss(), optim.SGD(1e-30), dtype="float32")
    with pytest.warns(UserWarning, match=r"^y has values of 1.*float32 rounds by up to 50; subtract an offset"):
        run.fit(SMALL, TIME)


@pytest.mark.parametrize("x", [SMALL, np.full((300, 1), 1.7e9), 128.0 * np.round(TIME / 128), np.arange(300)[:, None]])
def test_columns_that_float32_holds_do_not_warn(x: np.ndarray) -> None:
    Trainer(nn.Linear(1, 2), nn.CrossEntropyLoss(), optim.SGD(1e-30), dtype="float32").fit(x, Y)


def test_float64_training_does_not_warn() -> None:
    Trainer(nn.Linear(3, 2), nn.CrossEntropyLoss(), optim.SGD(1e-30)).fit(X, Y)
