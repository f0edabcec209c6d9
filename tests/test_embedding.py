"""Tests for Embedding and integer inputs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import draw
from conftest import Backend, assert_close
from test_purity import sync_guard

from xpnn import nn, optim
from xpnn.arrays import random, tree
from xpnn.devices.place import Place, to_numpy, to_place
from xpnn.errors import InputError
from xpnn.nn.layers.embedding import add_rows
from xpnn.training import Data, Trainer, TrainingStep, load_model, save_model
from xpnn.training.runners.base import upload
from xpnn.training.state import first_state

WORDS = np.arange(80).reshape(40, 2) * 7 % 11 % 5
LABELS = (WORDS.sum(axis=1) % 3).astype(np.int32)


def model(padding: int | None = None) -> nn.Sequential:
    return nn.Sequential(nn.Sequential(nn.Identity(), nn.Embedding(5, 4, padding)), nn.Flatten(), nn.Linear(8, 3))


def trainer(padding: int | None = None, **options: Any) -> Trainer:
    return Trainer(model(padding), nn.CrossEntropyLoss(), optim.Adam(0.1), **options)


def test_initial_rows_are_normal_and_padding_is_0() -> None:
    key = random.key(0, "init")
    weight = nn.Embedding(500, 40).init(key).weight
    assert weight.shape == (500, 40) and weight.dtype == np.float64
    assert abs(weight.mean()) < 5 / weight.size**0.5 and abs(weight.var() - 1) < 5 * (2 / weight.size) ** 0.5
    padded = nn.Embedding(500, 40, padding_idx=-1)
    assert padded.padding_idx == 499
    assert not padded.init(key).weight[499].any() and np.array_equal(padded.init(key).weight[:499], weight[:499])


def test_initializer() -> None:
    unit = nn.Embedding(500, 40, 1, nn.VarianceScaling(1, "fan_out", "normal")).init(random.key(0, "init")).weight
    plain = nn.Embedding(500, 40, 1).init(random.key(0, "init")).weight
    np.testing.assert_allclose(unit, plain / np.sqrt(40), rtol=1e-12)
    assert not nn.Embedding(3, 2, weight_init="zeros").init(random.key(0, "init")).weight.any()
    with pytest.raises(InputError, match="initializer: 'zero' is not one of"):
        nn.Embedding(3, 2, weight_init="zero")


@pytest.mark.parametrize("padding", [0, 3, -1])
def test_padding_row_has_no_gradient(padding: int, backend: Backend) -> None:
    torch = pytest.importorskip("torch")
    layer, weight, x = nn.Embedding(5, 3, padding), draw("table", 5, 3), WORDS[:6]
    oracle = torch.nn.Embedding(5, 3, padding)
    oracle.weight.data = torch.tensor(weight)
    wanted = oracle(torch.tensor(x))
    dy = draw("dy", 6, 2, 3)
    wanted.backward(torch.tensor(dy))

    params = type(layer.init(random.key(0, "init")))(backend.array(weight))
    y, residuals = layer.forward(params, backend.array(x))
    assert_close(backend.check(y, dy), wanted.detach().numpy(), ulps=0)
    dx, grads = layer.backward(params, residuals, backend.array(dy))
    assert dx is None
    got = backend.check(grads.weight, weight)
    assert not got[padding].any() and got[(padding + 1) % 5].any()
    assert_close(got, oracle.weight.grad.numpy())


@pytest.mark.parametrize("n", [511, 512, 513, 1300])
def test_gradient_is_summed_in_blocks_of_512(n: int, backend: Backend) -> None:
    values, rows = draw("values", n, 2), (np.arange(n) ** 2 % 7).astype(np.int32)
    wanted = np.zeros((7, 2))
    np.add.at(wanted, rows, values)
    got = add_rows(backend.array(values), backend.array(rows), 7)
    assert_close(backend.check(got, wanted), wanted)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_training_on_integers(dtype: str, backend: Backend) -> None:
    """Integers of any library keep their dtype on the device, and every library trains the same."""
    wanted = trainer(padding=2, dtype="float64")
    losses = [log["loss"] for log in wanted.fit(WORDS, LABELS, epochs=30, batch_size=16)]
    assert losses[-1] < 0.5 * losses[0]
    assert not tree.leaves(wanted.snapshot())[0][2].any()
    run, there = trainer(padding=2, dtype="float64", device=backend.place), backend.array(WORDS, dtype)
    got = [log["loss"] for log in run.fit(there, LABELS, epochs=30, batch_size=16)]
    np.testing.assert_allclose(got, losses, rtol=0, atol=1e-9)
    for x in (there, WORDS.astype(dtype)):
        assert dtype in str(run._enter(x, LABELS).data.x.dtype)
        logits = run.predict(x, batch_size=17)
        np.testing.assert_allclose(to_numpy(logits), wanted.predict(WORDS), rtol=0, atol=1e-9)
    backend.check(run.predict(there), np.zeros((40, 3)))


def test_training_on_integers_in_jax_without_x64() -> None:
    pytest.importorskip("jax")
    code = """
import warnings; warnings.simplefilter("error")
import numpy as np
from xpnn import Trainer, find_place, nn, optim
x = np.arange(40).reshape(20, 2) % 5
for dtype in ("int64", "int32", "uint8"):
    run = Trainer(nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 3)), nn.CrossEntropyLoss(),
                  optim.Adam(), device=find_place("cpu", "jax"))
    run.fit(x.astype(dtype), x[:, 0] % 3, batch_size=8)
    print(run._enter(x.astype(dtype), x[:, 0] % 3).data.x.dtype, run.predict(x.astype(dtype)).dtype)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["int32", "float32", "int32", "float32", "uint8", "float32"]


def test_integer_step_does_not_synchronize() -> None:
    strict = pytest.importorskip("array_api_strict")
    place = Place("strict", strict.Device("device1"), "cpu", 1)
    loss, optimizer, network = nn.CrossEntropyLoss(), optim.Adam(), model(padding=1)
    state = upload(first_state(network, loss, (), 0), place, "float32")
    state = state._replace(optimizer=optimizer.init(tree.trained(state.params)))
    data = Data(to_place(WORDS, place), to_place(LABELS, place), None)
    with sync_guard():
        after = TrainingStep(network, loss, optimizer, ())(state, data, to_place(np.arange(8), place))
    assert "float32" in str(tree.leaves(after.params)[0].dtype)


BAD = [
    (
        np.where(np.arange(80).reshape(40, 2) == 7, 5, WORDS),
        r"\[3, 1\] = 5, but Embedding\(5, 4\) has rows 0…4 \(1 of",
    ),
    (WORDS - 1, r"\[0, 0\] = -1, but Embedding"),
    ((WORDS + 251).astype(np.uint8), r"\[0, 0\] = 251, but Embedding"),
    (WORDS + 2**40, r"\[0, 0\] = 1099511627776, but Embedding"),
    (
        WORDS.astype(np.float32),
        r" has dtype \S*float32, but the model begins with Embedding\(5, 4\), which expects int",
    ),
    (WORDS > 2, r" has dtype \S*bool, but the model begins with Embedding"),
]


@pytest.mark.parametrize(("x", "message"), BAD, ids=[message[:24] for _, message in BAD])
def test_out_of_range_indices_raise(x: np.ndarray, message: str, backend: Backend) -> None:
    run = trainer(device=backend.place)
    there = backend.array(x)
    with pytest.raises(InputError, match=f"^x{message}"):
        run.fit(there, LABELS, batch_size=8)
    with pytest.raises(InputError, match=f"^x{message}"):
        run.predict(there)
    with pytest.raises(InputError, match=f"^x{message}"):
        run.evaluate(x, LABELS)
    with pytest.raises(InputError, match=f"^validation_x{message}"):
        run.fit(WORDS, LABELS, batch_size=8, validation_data=(there, LABELS))


def test_uint8_is_in_range_of_a_table_of_300() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Embedding(300, 2), nn.Flatten(), nn.Linear(4, 3))
    run = Trainer(network, nn.CrossEntropyLoss(), optim.Adam())
    assert run.predict((WORDS + 251).astype(np.uint8)).shape == (40, 3)


def test_unread_features_are_not_checked() -> None:
    run = Trainer(nn.Sequential(nn.Linear(2, 3)), nn.CrossEntropyLoss(), optim.Adam())
    assert run.predict(WORDS - 100).shape == (40, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Embedding(0, 3), "Embedding: num_embeddings: 0 is not a whole number"),
        (lambda: nn.Embedding(3, 1.5), "Embedding: embedding_dim: 1.5 is not a whole number"),
        (lambda: nn.Embedding(3, 2, 3), "padding_idx is 3; expected a row of the table, 0…2, or None"),
        (lambda: nn.Embedding(3, 2, -4), "padding_idx is -4; expected a row"),
        (lambda: nn.Embedding(3, 2, True), "padding_idx is True; expected a row"),
        (lambda: nn.Embedding(3, 2, 1.0), "padding_idx is 1.0; expected a row"),
        (
            lambda: nn.Embedding(3, 2).forward(nn.Embedding(3, 2).init(random.key(0, "init")), np.ones(3)),
            r"x has dtype float64; expected integers \(row indices\); convert it: x.astype\('int32'\)",
        ),
    ],
)
def test_invalid_settings_and_inputs_raise(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def columns_model() -> nn.Sequential:
    tables = (nn.Embedding(5, 4, 0, nn.Constant(0.5)), nn.Embedding(3, 2, None, "he_normal"))
    return nn.Sequential(nn.EmbedColumns((0, 2), tables), nn.Linear(8, 3))


MIXED = np.column_stack([WORDS[:, 0], draw("mixed", 40, 2), WORDS[:, 1]])[:, [0, 1, 3, 2]]
MIXED[:, 2] %= 3


def test_columns_train_the_same_on_every_library(backend: Backend) -> None:
    """The reserved row 0 is not trained; x may be integers, in any dtype."""
    wanted = Trainer(columns_model(), nn.CrossEntropyLoss(), optim.Adam(0.1), dtype="float64")
    losses = [log["loss"] for log in wanted.fit(MIXED, LABELS, epochs=30, batch_size=16)]
    assert losses[-1] < 0.5 * losses[0] and not wanted.snapshot()[0][0].weight[0].any()
    run = Trainer(columns_model(), nn.CrossEntropyLoss(), optim.Adam(0.1), dtype="float64", device=backend.place)
    got = [log["loss"] for log in run.fit(backend.array(MIXED), LABELS, epochs=30, batch_size=16)]
    np.testing.assert_allclose(got, losses, rtol=0, atol=1e-9)
    whole = np.rint(np.abs(MIXED)).astype(np.int64)
    np.testing.assert_allclose(run.predict(whole), wanted.predict(whole.astype(float)), rtol=0, atol=1e-9)


def test_columns_are_saved_and_loaded(tmp_path: Path) -> None:
    run = Trainer(columns_model(), nn.CrossEntropyLoss(), optim.Adam())
    save_model(tmp_path / "model.safetensors", run.model, run.snapshot())
    model, params, _ = load_model(tmp_path / "model.safetensors")
    assert model == columns_model()
    again = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(), params=params)
    assert np.array_equal(again.predict(MIXED), run.predict(MIXED))


def test_columns_step_does_not_synchronize() -> None:
    strict = pytest.importorskip("array_api_strict")
    place = Place("strict", strict.Device("device1"), "cpu", 1)
    model, params = columns_model(), columns_model().init(random.key(0, "init"))
    there, x = (
        tree.map(lambda p: to_place(p.astype("float32"), place), params),
        to_place(MIXED.astype("float32"), place),
    )
    with sync_guard():
        y, residuals = model.forward(there, x)
        model.backward(there, residuals, y)


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        (0, 5, r"\[7, 0\] = 5.0, but EmbedColumns takes integers from 0 to 4 in this column \(1 of 40"),
        (2, 0.5, "0 to 2"),
        (2, -1, r"\[7, 2\] = -1.0"),
    ],
)
def test_columns_check_their_categories(column: int, value: float, told: str) -> None:
    x = MIXED.copy()
    x[7, column] = value
    run = Trainer(columns_model(), nn.CrossEntropyLoss(), optim.Adam())
    with pytest.raises(InputError, match=told):
        run.fit(x, LABELS)
    with pytest.raises(InputError, match=told):
        run.predict(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.EmbedColumns((), ()), "0 columns, but 0 embeddings; expected at least one column"),
        (lambda: nn.EmbedColumns((0, 1), (nn.Embedding(3, 2),)), "2 columns, but 1 embeddings"),
        (lambda: nn.EmbedColumns((1, 0), (nn.Embedding(3, 2),) * 2), r"columns is \(1, 0\); expected ascending"),
        (lambda: nn.EmbedColumns((1, 1), (nn.Embedding(3, 2),) * 2), "expected ascending"),
        (lambda: nn.EmbedColumns((-1,), (nn.Embedding(3, 2),)), "expected ascending"),
        (lambda: nn.EmbedColumns((0.5,), (nn.Embedding(3, 2),)), "expected ascending"),
        (lambda: nn.EmbedColumns(("a",), (nn.Embedding(3, 2),)), "EmbedColumns: columns"),
        (
            lambda: Trainer(columns_model(), nn.CrossEntropyLoss(), optim.Adam()).predict(MIXED[:, :2]),
            r"x has shape \(1, 2\); expected \(batch, features\) with at least 3 features",
        ),
    ],
)
def test_invalid_columns_raise(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
