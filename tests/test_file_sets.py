"""Tests for training on arrays in files, idx files and folders of images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import idx

from xpnn import find_place
from xpnn.data import TableOptions, load
from xpnn.errors import DataFormatError, InputError
from xpnn.experiments import SavedRun, Settings, run

CPU = find_place("cpu", "numpy")
QUICK: dict[str, Any] = {"hidden": "8", "epochs": 2, "dropout": "0"}
RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.integers(0, 256, (60, 4, 5), np.uint8), np.arange(60) % 3


def test_archive_with_a_test_set(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=IMAGES[:40], y=LABELS[:40], x_test=IMAGES[40:], y_test=LABELS[40:])
    data = load(str(tmp_path / "d.npz"), validation_fraction=0.25)
    assert data.x_train.shape == (40, 4, 5) and data.x_test.shape == (20, 4, 5) and data.classes == ("0", "1", "2")
    assert len(data.train_rows) == 30 and len(data.validation_rows) == 10 and data.scale == 1 / 255
    with pytest.raises(InputError, match=r"`test_fraction`: .* already has a test set"):
        load(str(tmp_path / "d.npz"), test_fraction=0.5)
    with pytest.raises(InputError, match=r"`drop`: got \('a',\), but .*d.npz is no table; omit `drop`"):
        load(str(tmp_path / "d.npz"), table=TableOptions(drop=("a",)))


def test_pair_of_arrays_in_regression(tmp_path: Path) -> None:
    x = RNG.normal(size=(200, 3))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", x @ np.ones((3, 2)) + [5, 1e4])
    path = f"{tmp_path / 'x.npy'},{tmp_path / 'y.npy'}"
    result = run(Settings(dataset=path, **QUICK | {"epochs": 60, "lr": 1e-2}), device=CPU, output=tmp_path / "r")
    assert result.facts["targets"] == ["y0", "y1"] and result.test_r2_score is not None and result.test_r2_score > 0.9
    saved = SavedRun.open(tmp_path / "r")
    assert saved.evaluate()["loss"] == result.test_loss
    assert np.abs(saved.predict(tmp_path / "x.npy").scores.mean(axis=0) - [5, 1e4]).max() < 2


def test_idx_files_under_the_names_of_mnist(tmp_path: Path) -> None:
    """Other data sets come under the same names; they are not compared with MNIST."""
    for part, rows in (("train", slice(0, 40)), ("t10k", slice(40, 60))):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(IMAGES[rows]))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(LABELS[rows]))
    data = load(str(tmp_path))
    assert np.array_equal(data.x_test, IMAGES[40:]) and np.array_equal(data.y_test, LABELS[40:])
    run(Settings(dataset=str(tmp_path), **QUICK), device=CPU, output=tmp_path / "r")
    assert SavedRun.open(tmp_path / "r").samples().which == "held back from training"


def test_another_file_is_evaluated_with_the_classes_of_the_training(tmp_path: Path) -> None:
    names = np.array(["ape", "bee", "cat"])[LABELS]
    np.savez(tmp_path / "a.npz", x=IMAGES, y=names)
    np.savez(tmp_path / "b.npz", x=IMAGES[:20], y=np.array(["cat", "bee"] * 10))
    np.savez(tmp_path / "c.npz", x=IMAGES[:20], y=np.array(["cat", "dog"] * 10))
    run(Settings(dataset=str(tmp_path / "a.npz"), **QUICK), device=CPU, output=tmp_path / "r")
    saved = SavedRun.open(tmp_path / "r")
    assert saved.samples(str(tmp_path / "b.npz")).labels.tolist() == [2, 1] * 10
    with pytest.raises(InputError, match="row 2: the model has no class 'dog'; its classes are 'ape', 'bee', 'cat'"):
        saved.samples(str(tmp_path / "c.npz"))


@pytest.mark.parametrize("shape", [(4, 6), (5, 4), (2, 10), (8, 5), (4, 5, 3), (19,)], ids=str)
def test_samples_of_another_shape_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    """Also those that hold as many values, or several times as many."""
    np.savez(tmp_path / "a.npz", x=IMAGES, y=LABELS)
    run(Settings(dataset=str(tmp_path / "a.npz"), **QUICK), device=CPU, output=tmp_path / "r")
    np.save(tmp_path / "x.npy", np.zeros((12, *shape), np.uint8))
    np.save(tmp_path / "y.npy", np.arange(12) % 3)
    saved, pair = SavedRun.open(tmp_path / "r"), f"{tmp_path / 'x.npy'},{tmp_path / 'y.npy'}"
    found = re.escape(f"has shape {(12, *shape)}; the model takes 20 values per sample: (rows, 4, 5)")
    with pytest.raises(InputError, match=f"{re.escape(pair)}': {found}"):
        saved.samples(pair)
    with pytest.raises(InputError, match=f"x.npy': {found}"):
        saved.predict(tmp_path / "x.npy")
    with pytest.raises(InputError, match=found):
        saved.predict(np.zeros((12, *shape)))


@pytest.mark.parametrize("shape", [(20,), (4, 5, 1), (1, 4, 5)], ids=str)
def test_samples_may_be_flat_or_have_axes_of_length_one(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=IMAGES, y=LABELS)
    run(Settings(dataset=str(tmp_path / "a.npz"), **QUICK), device=CPU, output=tmp_path / "r")
    np.savez(tmp_path / "b.npz", x=IMAGES.reshape(60, *shape), y=LABELS)
    saved = SavedRun.open(tmp_path / "r")
    assert np.array_equal(saved.samples(str(tmp_path / "b.npz")).x, IMAGES)
    one = saved.predict(IMAGES[0]).scores
    assert np.array_equal(one, saved.predict(IMAGES[:1].reshape(1, *shape)).scores) and len(one) == 1


def test_folder_of_images(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    for i, image in enumerate(IMAGES):
        folder = tmp_path / "pictures" / f"kind {LABELS[i]}"
        folder.mkdir(parents=True, exist_ok=True)
        pillow.fromarray(image).save(folder / f"{i}.png")
    path = str(tmp_path / "pictures")
    data = load(path)
    assert data.x_train.shape == (48, 4, 5) and data.classes == ("kind 0", "kind 1", "kind 2")
    (tmp_path / "pictures" / "kind 1" / "broken.png").write_bytes(b"")
    with pytest.raises(DataFormatError, match=r"broken\.png"):
        load(path)
    with pytest.warns(UserWarning, match="1 broken images are left out"):
        result = run(Settings(dataset=path, skip_broken=True, image_size="8x10", **QUICK), device=CPU)
    assert result.experiment.data.x_train.shape[1:] == (8, 10)
    with pytest.raises(InputError, match="`image_size`: '8' is not height and width, as 28x28"):
        load(path, table=Settings(dataset=path, image_size="8").table)
    (tmp_path / "pictures" / "kind 1" / "broken.png").unlink()
    with pytest.raises(InputError, match="folders of images are classes"):
        load(path, table=TableOptions(task="regression"))
