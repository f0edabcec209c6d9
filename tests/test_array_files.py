"""Tests for arrays in files: .npz, pairs of .npy files and folders of idx files."""

from __future__ import annotations

import gzip
import io
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import idx

from xpnn.data.readers import is_arrays, read_arrays
from xpnn.errors import DataFormatError, InputError

X, Y = np.arange(12.0, dtype=np.float32).reshape(4, 3), np.array([0, 1, 1, 0])


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("names", [("x", "y"), ("X", "y"), ("X", "Y"), ("images", "labels"), ("arr_0", "arr_1")])
def test_npz_of_two(tmp_path: Path, names: tuple[str, str], save: Any) -> None:
    save(tmp_path / "t.npz", **dict(zip(names, (X, Y[:, None]), strict=True)))
    found = read_arrays(tmp_path / "t.npz")
    assert found.x_train.dtype == X.dtype and np.array_equal(found.x_train, X)
    assert np.array_equal(found.y_train, Y) and found.x_test is found.y_test is None
    found.x_train[0] = 1  # may be written to


def test_npz_of_four(tmp_path: Path) -> None:
    names = np.array(["rye", "oat", "oat", "rye"])
    path = saved(tmp_path / "t.npz", x_train=np.asfortranarray(X), y_train=names, x_test=X[:2], y_test=names[:2])
    found = read_arrays(path)
    assert np.array_equal(found.x_train, X) and found.y_train.tolist() == names.tolist()
    assert found.x_test is not None and found.x_test.shape == (2, 3)
    chosen = read_arrays(path, names=("x_test", "y_test"))
    assert len(chosen.x_train) == 2 and chosen.x_test is None
    with pytest.raises(InputError, match="has no 'z'; its arrays are 'x_train'"):
        read_arrays(path, names=("x_train", "z"))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": X}, "its arrays are 'a'; expected x and y"),
        ({"x": X, "y": Y[:3]}, "x has 4 samples, but y has 3"),
        ({"x": X * np.nan, "y": Y}, r"x\[0, 0\] is nan"),
        ({"x": X, "y": Y.astype(object)}, "holds Python objects.*never loads one"),
        ({"x": X.astype(complex), "y": Y}, "dtype complex128"),
        ({"x": X.astype(str), "y": Y}, "expected real numbers"),
        ({"x": X[:0], "y": Y[:0]}, "holds no samples"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :2], "y_test": Y}, "their samples must have one shape"),
    ],
)
def test_npz_faults(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_arrays(saved(tmp_path / "t.npz", **arrays))


def test_header_reserves_no_memory(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (2**40, 2**10)})
    for save in ("npz", "npy"):
        path = tmp_path / f"t.{save}"
        if save == "npz":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("x.npy", file.getvalue() + bytes(8))
                archive.writestr("y.npy", file.getvalue())
        else:
            path.write_bytes(file.getvalue() + bytes(8))
        with pytest.raises(DataFormatError, match="holds 8 bytes of values, but shape"):
            read_arrays(path if save == "npz" else f"{path},{path}")


def test_npy_pairs(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    for path in (tmp_path, f"{tmp_path}/x.npy,{tmp_path}/y.npy", f"{tmp_path}/x.npy, {tmp_path}/y.npy"):
        assert is_arrays(path)
        found = read_arrays(path)
        assert np.array_equal(found.x_train, X) and np.array_equal(found.y_train, Y)
    with pytest.raises(InputError, match="names 3 files"):
        read_arrays("x.npy,y.npy,z.npy")
    with pytest.raises(InputError, match="does not exist"):
        read_arrays(f"{tmp_path}/no.npy,{tmp_path}/y.npy")


@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("prefix", ["", "emnist-letters-"])
@pytest.mark.parametrize("test", ["t10k", "test", ""])
def test_idx_folder(tmp_path: Path, prefix: str, test: str, packed: bool, dotted: bool) -> None:
    images, labels = np.arange(24, dtype=np.uint8).reshape(4, 2, 3), np.array([3, 1, 2, 3], np.uint8)
    for part, n in (("train", 4), (test, 2)):
        for name, array in (("images-idx3", images[:n]), ("labels-idx1", labels[:n])):
            if part:
                name = (name.replace("-", ".") if dotted else name) + "-ubyte" + (".gz" if packed else "")
                (tmp_path / f"{prefix}{part}-{name}").write_bytes((gzip.compress if packed else bytes)(idx(array)))
    assert is_arrays(tmp_path)
    found = read_arrays(tmp_path)
    assert np.array_equal(found.x_train, images) and np.array_equal(found.y_train, labels)
    assert (found.x_test is not None and len(found.x_test) == 2) if test else found.x_test is None


def test_several_idx_sets(tmp_path: Path) -> None:
    for prefix, n in (("emnist-digits", 2), ("emnist-letters", 3)):
        (tmp_path / f"{prefix}-train-images-idx3-ubyte").write_bytes(idx(np.zeros((n, 2, 2))))
        (tmp_path / f"{prefix}-train-labels-idx1-ubyte").write_bytes(idx(np.zeros(n)))
    with pytest.raises(InputError, match="several data sets, 'emnist-digits', 'emnist-letters'; add one to the path"):
        read_arrays(tmp_path)
    assert is_arrays(tmp_path / "emnist-letters") and len(read_arrays(tmp_path / "emnist-letters").x_train) == 3
    (tmp_path / "emnist-letters-train-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match="lacks the train labels of 'emnist-letters'"):
        read_arrays(tmp_path / "emnist-letters")


def test_nothing_to_read(tmp_path: Path) -> None:
    assert not is_arrays(tmp_path) and not is_arrays("mnist") and not is_arrays(tmp_path / "no")
    with pytest.raises(InputError, match=r"has no files of arrays; expected x\.npy and y\.npy"):
        read_arrays(tmp_path)
    (tmp_path / "t.npz").write_bytes(b"abc")
    with pytest.raises(DataFormatError, match=r"is not an \.npz archive"):
        read_arrays(tmp_path / "t.npz")


@pytest.mark.parametrize("kind", ["stored", "packed", "npy", "idx"])
def test_flipped_bytes(tmp_path: Path, kind: str) -> None:
    names = np.array(["rye", "oat", "oat", "rye"])
    path, target = tmp_path / "x.npz", str(tmp_path / "x.npz")
    if kind in ("stored", "packed"):
        (np.savez if kind == "stored" else np.savez_compressed)(path, x=X, y=names)
    elif kind == "npy":
        np.save(tmp_path / "y.npy", Y)
        path = tmp_path / "x.npy"
        np.save(path, X)
        target = f"{path},{tmp_path / 'y.npy'}"
    else:
        path, target = tmp_path / "train-images-idx3-ubyte", str(tmp_path)
        path.write_bytes(idx(np.zeros((4, 2, 2))))
        (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(Y))
    read_arrays(target)
    content, rng = path.read_bytes(), random.Random(5)
    for _ in range(300):
        bad = bytearray(content)
        for _ in range(rng.choice((1, 2, 8))):
            bad[rng.randrange(len(bad))] = rng.choice((rng.randrange(256), 0, 255))
        path.write_bytes(bad[: rng.choice((len(bad), len(bad), rng.randrange(len(bad))))])
        try:
            read_arrays(target)
        except InputError as error:
            assert "\n" not in str(error)
