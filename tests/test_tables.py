"""Tests for CSV files: each fault raises an error with the line, the column and a hint."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from samples import GOOD, Write, idx

from xpnn import data
from xpnn.arrays import random
from xpnn.data import Schema, TableOptions, Target, files
from xpnn.errors import DataFormatError, InputError


@pytest.mark.parametrize(
    "content",
    [
        "a,label,b\n1,x,2.5\n3,y,4\n",
        "\ufeffa,label,b\n1,x,2.5\n3,y,4\n",
        "a;label;b\n1; x ;2.5\n3;y;4\n",
        "a\tlabel\tb\n1\tx\t2.5\n3\ty\t4\n",
        "a,label,b\r\n1,x,2.5\r\n\r\n3,y,4",
        '"a","label","b"\n1,"x","2.5"\n"3",y, 4 \n',
    ],
)
def test_csv_formats(write: Write, content: str) -> None:
    frame = data.read_frame(write(content))
    assert list(frame.columns) == ["a", "label", "b"] and frame.columns["label"].tolist() == ["x", "y"]
    assert frame.columns["a"].tolist() == [1, 3] and frame.columns["b"].tolist() == [2.5, 4]


def test_csv_compressed_and_quoted_separators(write: Write) -> None:
    path = write(gzip.compress(b'"a;1,2",b,class\n1,2,"no, never"\n3,4,yes\n'), "t.csv.gz")
    frame = data.read_frame(path)
    assert list(frame.columns) == ["a;1,2", "b", "class"] and frame.columns["class"].tolist() == ["no, never", "yes"]


@pytest.mark.parametrize(
    ("cells", "dtype"),
    [("0,255", np.uint8), ("0,256", float), ("-1,2", float), ("1e300,-1e300", float), ("0.5,1", float)],
)
def test_csv_keeps_uint8(write: Write, cells: str, dtype: type) -> None:
    table = data.load(str(write(f"a,b,y\n{cells},u\n1,2,v\n")), test_fraction=0)
    assert table.x_train.dtype == dtype and table.x_train[0].tolist() == [float(cell) for cell in cells.split(",")]
    assert table.y_train.tolist() == [0, 1]


def test_csv_header_of_numbered_columns(write: Write) -> None:
    table = data.load(str(write("0,1,2\n5,6,7\n5,6,8\n")), table=TableOptions(target="2"), test_fraction=0)
    assert table.features == ("0", "1")


CSV_FAULTS = {
    "empty": ("", "an empty file"),
    "a page": ("<!doctype html>\n", "an HTML page"),
    "binary": (b"\x89\x00\x01", "binary data beginning 89 00 01"),
    "a workbook": (b"PK\x03\x04....", "a zip archive"),
    "UTF-16": ("a,y\n1,u\n".encode("utf-16"), "UTF-16 text"),
    "Latin-1": ("größe,y\n1,u\n".encode("latin-1"), "not UTF-8 text"),
    "Latin-1 later": ("a,y\n1,u\n2,é\n".encode("latin-1"), "not UTF-8 text"),
    "a blank line first": ("\ufeff\na,y\n1,u\n", "the first line is empty"),
    "header only": ("a,y\n\n", "no rows follow the header"),
    "no header": ("1,2,3\n4,5,6\n", "the first row looks like data"),
    "no header, text labels": ("5.1,3.5,setosa\n", "the first row looks like data"),
    "a twin": ("a,b,\x1b[1ma,\x1b[1ma,y\n1,2,3,4,u\n", r"two columns are called '\\x1b\[1ma'"),
    "no name": (",a,y\n0,1,u\n", "column 1 of 3 has no name.*index=False"),
    "a short row": ("a,b,y\n1,2,u\n\n3,v\n", "line 4 has 2 cells, the header has 3"),
    "a long row": ("a,b,y\n1,2,u\n3,4,5,v\n", "line 3 has 4 cells, the header has 3"),
    "a long quoted row": ('a,b,y\n1,2,u\n3,4,"v",5\n', "line 3 has 4 cells"),
    "an open quotation": ('a,b,y\n1,2,"u\n3,4,v\n', "line 2: .*quot"),
    "text": ("a,b,y\n1,2,u\n\n3,\x1b[2Jfour,v\n", r"line 4, column 'b': '\\x1b\[2Jfour' is not a number"),
    "python's numbers": ("a,y\n1_000,u\n2,v\n", "line 2, column 'a': '1_000' is not a number"),
    "an empty cell": ("a,b,y\n1,2,u\n,4,v\n", "line 3, column 'a': the value is missing \\(1 of 2 are\\); fill it in"),
    "decimal commas": ("a;y\n1,5;u\n", "line 2, column 'a': '1,5' is not a number; use a decimal point"),
    "nan": ("a,b,y\n1,2,u\n\n1,NaN,v\n", "line 4, column 'b': the value is missing"),
    "infinity": ("a,b,y\n1,2,u\n1,-inf,v\n", "line 3, column 'b': -inf is not"),
    "overflow": ("a,b,y\n1,2,u\n1e999,3,v\n", "line 3, column 'a': inf is not"),
    "half a gzip": (gzip.compress(b"a,y\n" + b"1,u\n" * 99)[:-9], "truncated: the gzip stream"),
    "damaged gzip": (gzip.compress(b"a,y\n1,u\n")[:-8] + bytes(8), "damaged gzip"),
    "no label": ("a,y\n1,u\n2,\n", r"line 3: the label is missing \(column 'y'\)"),
    "label nan": ("a,y\n1,0\n2,nan\n", r"line 3: the label is missing \(column 'y'\)"),
}


@pytest.mark.parametrize("kind", CSV_FAULTS)
def test_csv_faults(write: Write, kind: str) -> None:
    content, telling = CSV_FAULTS[kind]
    with pytest.raises(DataFormatError, match=rf"bad\\x1b\.csv'.*{telling}") as caught:
        data.load(str(write(content, "bad\x1b.csv")))
    assert caught.value.__suppress_context__ or caught.value.__context__ is None  # no chained traceback


@pytest.mark.parametrize(
    ("content", "options", "telling"),
    [
        ("a,b\n1,2\n", {}, "no column is called label, target, class or y; .*'a', 'b'"),
        ("size,kind\n1,2\n", {"target": "knd"}, "target: 'knd'; its columns are 'size', 'kind'; did you mean 'kind'"),
        ("a,y\n1,0.5\n2,1\n", {"task": "classification"}, "line 2: the target is '0.5', a fraction; classes are text"),
        ("a,y\n1,u\n2,v\n", {"task": "regression"}, "line 2, column 'y': 'u' is not a number, as `task` regression"),
        ("a,y\n1,1\n2,inf\n", {}, "line 3, column 'y': inf"),
        ("y\nu\nv\n", {}, "no column is left for the features beside the target 'y'"),
        ("a,b,y\n1,2,u\n3,4,v\n", {"drop": ("c",)}, "`drop`: 'c'; its columns are 'a', 'b', 'y'"),
        ("a,b,y\n1,2,u\n3,4,v\n", {"features": ("y",)}, "`features`: 'y' is the target"),
        ("a,b,y\n1,2,u\n3,4,v\n", {"features": ("a",), "drop": ("a",)}, "'a' is also in `drop` or `id`"),
        ("a,y\n1,u\n2,u\n", {}, "every row has the label 'u'"),
        ("a,y\n1,1\n2,1.0\n", {}, "every row has the label '1'"),
        ("a,y\n1,u\n2,v\n", {"test_fraction": 1.5}, "fraction: got 1.5"),
        ("a,y\n1,u\n2,v\n", {"seed": -1}, "seed: -1"),
    ],
)
def test_csv_invalid_arguments_raise(write: Write, content: str, options: dict, telling: str) -> None:
    columns = {name: value for name, value in options.items() if name in TableOptions.__dataclass_fields__}
    others = {name: value for name, value in options.items() if name not in columns}
    with pytest.raises(InputError, match=telling):
        data.load(str(write(content)), table=TableOptions(**columns), **others)


def test_wide_table_is_abbreviated_in_messages(write: Write) -> None:
    with pytest.raises(InputError, match="'p7' and 92 more") as caught:
        data.load(str(write(",".join(f"p{i}" for i in range(100)) + "\n" + "1," * 99 + "2\n")))
    assert "'p50'" not in str(caught.value)


def test_load_csv(write: Write) -> None:
    rows = "".join(f"{i}.5,{i % 4 * 10}.0,{-i}\n" for i in range(40))
    path = write("a,Class,b\n" + rows)
    table = data.load(str(path), seed=3)
    assert table.classes == ("0", "10", "20", "30") and table.features == ("a", "b") and table.scale is None
    assert table.name == "t.csv" and table.source == str(path)
    assert table.x_train.shape == (32, 2) and np.bincount(table.y_test).tolist() == [2, 2, 2, 2]
    assert table.y_train.dtype == table.y_test.dtype == np.int32
    assert np.array_equal(table.y_train, (table.x_train[:, 0] - 0.5) % 4)
    _, part = data.stratified_split(np.arange(40) % 4, 0.2, random.key(3, "test split"))
    assert np.array_equal(table.x_test[:, 1], -part.astype(float))
    assert not np.array_equal(data.load(str(path), seed=4).x_test, table.x_test)
    assert data.load(str(path), test_fraction=0).x_test.shape == (0, 2)


@pytest.mark.parametrize(
    ("labels", "classes", "y"),
    [
        ("10 9 -1", ("-1", "9", "10"), [2, 1, 0]),
        ("10 9 b", ("10", "9", "b"), [0, 1, 2]),
        ("02 1.0 1 1e2", ("1", "2", "100"), [1, 0, 0, 2]),
        ("b a b", ("a", "b"), [1, 0, 1]),
    ],
)
def test_classes_are_sorted_numerically_or_alphabetically(write: Write, labels: str, classes: tuple, y: list) -> None:
    path = write("x,y\n" + "".join(f"{i},{label}\n" for i, label in enumerate(labels.split())))
    loaded = data.load(str(path), test_fraction=0)
    assert loaded.classes == classes and loaded.y_train.tolist() == y


def test_default_target_names_have_an_order(write: Write) -> None:
    assert data.load(str(write("x,y,Label\n1,2,u\n3,4,v\n")), test_fraction=0).features == ("x", "y")


def test_target_by_name_overrides_the_default_names(write: Write) -> None:
    table = data.load(str(write("y,kind\n1,u\n2,v\n")), table=TableOptions(target="kind"), test_fraction=0)
    assert table.classes == ("u", "v") and table.features == ("y",)


def test_labels_of_another_file(write: Write) -> None:
    frame = data.read_frame(write("id,y,b,a\nr1,2.0,1.5,3\nr2,1,4,5\n"))
    schema = Schema.fit(frame, ["a", "b"])
    y = Target(("y",), "classification", ("0", "1", "2")).encode(frame)
    assert schema.encode(frame).tolist() == [[3, 1.5], [5, 4]] and y.tolist() == [2, 1] and y.dtype == np.int32
    with pytest.raises(InputError, match="line 3: the model has no class '1'; its classes are '2', '3'"):
        Target(("y",), "classification", ("2", "3")).encode(frame)
    other = data.read_frame(write("id,y,c\nr1,2.0,1.5\nr2,1,4\n"))
    with pytest.raises(InputError, match="2 of 2 features missing: 'a', 'b'; its columns are 'id', 'y', 'c'"):
        schema.encode(other)


def test_read_samples_of_images(write: Write, tmp_path: Path) -> None:
    path = write("Label,p0,p1\n7,1,2\n")
    assert data.read_samples(path, (2,)).tolist() == [[1, 2]]
    with pytest.raises(InputError, match=r"has shape \(1, 2\); the model takes 4 values"):
        data.read_samples(path, (4,))
    images = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    x = data.read_samples(write(idx(images), "i"), (4,))
    assert x.dtype == np.uint8 and np.array_equal(x, images.reshape(3, 4))
    np.save(tmp_path / "i.npy", images)
    assert np.array_equal(data.read_samples(tmp_path / "i.npy", (4,)), x)
    np.save(tmp_path / "one.npy", np.arange(4, dtype=">i4"))
    one = data.read_samples(tmp_path / "one.npy", (4,))
    assert one.dtype == np.float64 and one.tolist() == [[0, 1, 2, 3]]


def npy(array: np.ndarray, tmp_path: Path) -> bytes:
    np.save(tmp_path / "made.npy", array)
    return (tmp_path / "made.npy").read_bytes()


FEATURE_FAULTS: dict[str, tuple[str, Callable[[Path], bytes], str]] = {
    "pickle by content": (
        "x.npy",
        lambda t: pickle.dumps([1]),
        "is a Python pickle; a pickle can execute arbitrary code",
    ),
    "pickle by name": ("x.pt", lambda t: b"PK\x03\x04", "is a Python pickle"),
    "objects": ("x.npy", lambda t: npy(np.array([{}]), t), "holds Python objects.*never loads one"),
    "complex": ("x.npy", lambda t: npy(np.ones(2, complex), t), "type complex128, expected real"),
    "text": ("x.npy", lambda t: npy(np.array(["a"]), t), "type <U1, expected real"),
    "dates": ("x.npy", lambda t: npy(np.zeros(2, "M8[s]"), t), "type datetime64"),
    "half a body": (
        "x.npy",
        lambda t: npy(np.ones((9, 2)), t)[:-1],
        "holds 143 bytes of values, but shape .* needs 144",
    ),
    "half a header": ("x.npy", lambda t: npy(np.ones((9, 2)), t)[:40], "not a .npy file, or a damaged one"),
    "an open header": (
        "x.npy",
        lambda t: b"\x93NUMPY\x01\x00\x0b\x00{'descr': (\n",
        "not a .npy file, or a damaged one",
    ),
    "no header": ("x.npy", lambda t: b"\x93NUMPY", "not a .npy file, or a damaged one"),
    "a huge shape": (
        "x.npy",
        lambda t: npy(np.ones((9, 2)), t).replace(b"(9, 2), }" + b" " * 18, b"(144115188075855872, 2), }  "),
        "holds 145 bytes of values, but shape .* needs 2305843009213693952",
    ),
    "packed": ("x.npy", lambda t: gzip.compress(npy(np.ones((9, 2)), t)), "is compressed with gzip"),
    "nan": ("x.npy", lambda t: npy(np.array([[1.0, 2], [3, np.nan]]), t), r"x\[1, 1\] is nan"),
    "no rows": ("x.npy", lambda t: npy(np.ones((0, 2)), t), r"no samples \(shape \(0, 2\)\)"),
    "a page": ("x.npy", lambda t: b"<html>", "found an HTML page"),
    "empty": ("x.idx", lambda t: b"", "found an empty file"),
    "words": ("x.dat", lambda t: b"some text", "found text; expected a table"),
    "npz": ("x.npz", lambda t: b"PK\x03\x04....", "found a zip archive"),
    "idx cut": ("x", lambda t: GOOD[:-1], "truncated at byte"),
}


@pytest.mark.parametrize("kind", FEATURE_FAULTS)
def test_read_samples_faults(write: Write, tmp_path: Path, kind: str) -> None:
    name, content, telling = FEATURE_FAULTS[kind]
    with pytest.raises(DataFormatError, match=telling) as caught:
        data.read_samples(write(content(tmp_path), name), (2,))
    assert "allow_pickle=True" not in str(caught.value) and "unsafe" not in str(caught.value)


@pytest.mark.parametrize(("shape", "n"), [((3, 4), 5), ((4,), 5), ((3,), 4), ((2, 2, 2), 8)])
def test_read_samples_of_another_shape(tmp_path: Path, shape: tuple, n: int) -> None:
    np.save(tmp_path / "x.npy", np.ones(shape))
    with pytest.raises(InputError, match="has shape"):
        data.read_samples(tmp_path / "x.npy", (n,))


def test_file_kind() -> None:
    assert files.describe(b"label,pixel0\n") == "" and files.describe(b"%PDF-1.7") == "a PDF document"
