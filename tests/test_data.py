"""Tests for loading data sets by name or path, and for splitting them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from xpnn import data
from xpnn.arrays import random
from xpnn.data import TableOptions
from xpnn.errors import InputError

MNIST = Path(__file__).parents[2] / "shared" / "data" / "mnist"
KEY = random.key(0, "test")


def test_split_is_stratified_and_keeps_every_row() -> None:
    labels = np.repeat([0, 1, 2], [70, 20, 10])
    rest, part = data.stratified_split(labels, 0.25, KEY)
    assert rest.dtype == part.dtype == np.int32
    assert np.array_equal(np.sort(np.concatenate([rest, part])), np.arange(100))
    assert np.array_equal(part, np.sort(part)) and np.array_equal(rest, np.sort(rest))
    # quotas 17.5, 5, 2.5: of classes with equal remainders, the lower one gets the remaining row
    assert np.bincount(labels[part]).tolist() == [18, 5, 2]


def test_split_uses_largest_remainders() -> None:
    labels = np.repeat([0, 1, 2], [11, 12, 17])  # quotas 2.75, 3, 4.25
    _, part = data.stratified_split(labels, 0.25, KEY)
    assert np.bincount(labels[part]).tolist() == [3, 3, 4]


def test_split_draws_by_key_and_class() -> None:
    labels = np.tile([0, 1], 50)
    first, again = (data.stratified_split(labels, 0.2, KEY)[1] for _ in range(2))
    other = data.stratified_split(labels, 0.2, random.key(1, "test"))[1]
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    drawn = np.flatnonzero(labels == 1)[random.permutation(KEY.child(1), 50)[:10]]
    assert np.array_equal(first[labels[first] == 1], np.sort(drawn))


def test_split_of_fraction_0() -> None:
    rest, part = data.stratified_split(np.array([3, 3, 5]), 0, KEY)
    assert rest.tolist() == [0, 1, 2] and part.shape == (0,)


@pytest.mark.parametrize(
    ("n", "fraction", "telling"),
    [
        (10, 1, "got 1;"),
        (10, -0.1, "got -0.1;"),
        (10, float("nan"), "got nan;"),
        (10, 0.01, "no row is held back"),
        (10, 0.99, "no row remains"),
        (0, 0, "no row remains"),
    ],
)
def test_split_invalid_arguments_raise(n: int, fraction: float, telling: str) -> None:
    with pytest.raises(InputError, match=f"fraction: .*{telling}"):
        data.stratified_split(np.zeros(n, dtype=np.int32), fraction, KEY)


@pytest.mark.parametrize(
    ("labels", "fraction", "message"),
    [
        (np.array(["a", "b", "a"]), 0.5, "labels: got <U1 of shape .* return_inverse=True"),
        (np.zeros((4, 2), np.int32), 0.5, r"labels: got int32 of shape \(4, 2\); expected class indices"),
        (np.zeros(4, np.int32), "a", "fraction: 'a' is not a number"),
    ],
)
def test_split_of_other_arguments_raises(labels: np.ndarray, fraction: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        data.stratified_split(labels, fraction, KEY)


def test_split_takes_a_list() -> None:
    rest, part = data.stratified_split([0, 0, 1, 1], 0.5, KEY)  # type: ignore[arg-type]
    assert len(rest) == len(part) == 2


def test_digits_contents() -> None:
    with np.load(Path(data.__file__).with_name("digits.npz"), allow_pickle=False) as stored:
        images, labels, test = stored["images"], stored["labels"], stored["test_rows"]
    assert images.shape == (1797, 8, 8) and images.dtype == np.uint8 and images.max() == 16
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    assert digest == "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
    _, part = data.stratified_split(labels, 360 / 1797, random.key(0, "digits test split"))
    assert np.array_equal(part, test)
    assert np.abs(np.bincount(labels[test]) - np.bincount(labels) * 360 / 1797).max() < 1


def test_load_digits() -> None:
    digits = data.load("digits")
    assert digits.x_train.shape == (1437, 8, 8) and digits.x_test.shape == (360, 8, 8)
    assert digits.x_train.dtype == np.uint8 and digits.y_train.dtype == digits.y_test.dtype == np.int32
    assert len(digits.y_train) == 1437 and len(digits.y_test) == 360
    assert digits.classes == tuple("0123456789") and digits.features == () and digits.scale == 1 / 16
    everything = np.concatenate([digits.x_train, digits.x_test]).reshape(1797, 64)
    with np.load(Path(data.__file__).with_name("digits.npz"), allow_pickle=False) as stored:
        assert np.array_equal(np.sort(everything, axis=0), np.sort(stored["images"].reshape(1797, 64), axis=0))
        train = np.delete(np.arange(1797), stored["test_rows"])
        assert np.array_equal(digits.y_train, stored["labels"][train])


@pytest.mark.skipif(not MNIST.is_dir(), reason="the MNIST files are not on this machine")
def test_load_mnist() -> None:
    loaded = data.load("mnist", data_dir=MNIST)
    assert loaded.x_train.shape == (60000, 28, 28) and loaded.x_test.shape == (10000, 28, 28)
    assert loaded.x_train.dtype == np.uint8 and loaded.scale == 1 / 255
    assert np.bincount(loaded.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert str(MNIST) in loaded.source


@pytest.mark.parametrize(
    ("name", "options", "telling"),
    [
        ("minst", {}, "did you mean 'mnist'"),
        ("tab\x1b[31m", {}, r"'tab\\x1b\[31m' is not one of digits, mnist, xor, FILE.csv"),
        ("gone.csv", {}, "'gone.csv' does not exist"),
        ("digits", {"table": TableOptions(target="y")}, "`target`: got 'y', but digits is no table; omit `target`"),
        ("mnist", {"test_fraction": 0.1}, "`test_fraction`: got 0.1, but mnist"),
        ("digits", {"data_dir": "here"}, "data_dir: got 'here'"),
        ("gone.csv", {"data_dir": "here"}, "data_dir: got 'here'"),
        (__file__, {}, "is not one of these: a table"),
    ],
)
def test_load_invalid_arguments_raise(name: str, options: dict, telling: str) -> None:
    with pytest.raises(InputError, match=telling):
        data.load(name, **options)
