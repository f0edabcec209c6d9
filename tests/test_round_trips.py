"""Properties of the readers: what is written is read back, for data that hypothesis makes up."""

from __future__ import annotations

import csv
import gzip
import io
import json
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xpnn import data
from xpnn.data.readers import read_arrays, read_frame
from xpnn.data.text import number_of, shortest_integer
from xpnn.errors import XpnnError, printable
from xpnn.training.history import parse_record, to_json

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra import numpy as hnp  # noqa: E402

FOLDER = Path(tempfile.mkdtemp(prefix="xpnn-round-trips-"))
quick = settings(max_examples=40, deadline=None, derandomize=True)

IDX_KINDS = [(8, "u1"), (9, "i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")]
VALUES = st.recursive(st.none() | st.floats() | st.integers(-(10**300), 10**300), st.lists)
SHAPES = hnp.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=5)
NUMBERS = st.sampled_from(["u1", "i1", "<i2", ">i4", "<i8", "<f4", ">f4", "<f8", "<f2", "?"])
FLOATS: dict[str, Any] = {"allow_nan": False, "allow_infinity": False}
ARRAYS = NUMBERS.flatmap(
    lambda dtype: hnp.arrays(dtype, SHAPES, elements=FLOATS if np.dtype(dtype).kind == "f" else None)
)
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8).filter(
    lambda name: number_of(name) is None and "sep=" not in name.lower()
)
CELLS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"]) | st.sampled_from("\t\n\"',;.0123"), max_size=12
)


@quick
@given(ARRAYS, st.booleans(), st.booleans())
def test_arrays(x: np.ndarray, packed: bool, fortran: bool) -> None:
    y = np.arange(len(x))
    path = FOLDER / "t.npz"
    given = np.asfortranarray(x) if fortran else x
    (np.savez_compressed if packed else np.savez)(path, x=given, y=y)
    np.save(FOLDER / "x.npy", given)
    np.save(FOLDER / "y.npy", y)
    for source in (path, FOLDER):
        found = read_arrays(source)
        assert found.x_train.dtype == x.dtype.newbyteorder("=") and np.array_equal(found.x_train, x)
        assert np.array_equal(found.y_train, y)


@quick
@given(st.sampled_from(IDX_KINDS), SHAPES, st.booleans())
def test_idx(kind: tuple[int, str], shape: tuple[int, ...], packed: bool) -> None:
    code, dtype = kind
    x = np.random.default_rng(0).integers(-100, 100, shape).astype(dtype)
    content = struct.pack(f">HBB{len(shape)}I", 0, code, len(shape), *shape) + x.tobytes()
    (FOLDER / "t.idx").write_bytes(gzip.compress(content) if packed else content)
    assert np.array_equal(data.read_idx(FOLDER / "t.idx"), x)


@quick
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20), st.sampled_from(",;\t|"))
def test_numbers_in_csv(values: list[float], separator: str) -> None:
    lines = [f"x{separator}n", *(f"{value!r}{separator}{i}" for i, value in enumerate(values))]
    (FOLDER / "n.csv").write_text("\n".join(lines) + "\n")
    frame = read_frame(FOLDER / "n.csv")
    assert frame.columns["x"].tolist() == values and frame.columns["n"].tolist() == list(range(len(values)))


@quick
@given(st.lists(NAMES, min_size=2, max_size=4, unique_by=str.strip), st.data())
def test_text_in_csv(names: list[str], drawn: Any) -> None:
    """Each cell is read as the text, the number or the missing value that was written; or one error says why not."""
    pytest.importorskip("polars")
    rows = drawn.draw(st.lists(st.lists(CELLS, min_size=len(names), max_size=len(names)), min_size=1, max_size=6))
    file = io.StringIO()
    writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([names, *rows])
    (FOLDER / "t.csv").write_bytes(file.getvalue().encode())
    try:
        frame = read_frame(FOLDER / "t.csv", separator=",")
    except XpnnError as error:
        assert printable(str(error)) == str(error) and "\n" not in str(error)
        return
    assert list(frame.columns) == [name.strip() for name in names]
    for name, column in zip(frame.columns, zip(*rows, strict=True), strict=True):
        for cell, value in zip(column, frame.columns[name].tolist(), strict=True):
            if value is None or value != value:
                assert cell.strip() in ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "nan", "NaN", "NAN", "null") or (
                    cell.strip() in ("NULL", "Null", "None", "?") or number_of(cell.strip()) is not None
                )
            elif isinstance(value, str):
                assert value == cell.strip()
            elif isinstance(value, bool):
                assert str(value).lower() == cell.strip().lower()
            else:
                assert number_of(cell.strip()) == value


@quick
@given(st.dictionaries(st.text(max_size=5), VALUES))
def test_records(values: dict[str, Any]) -> None:
    record = to_json({**values, "epoch": 1})
    assert parse_record(json.dumps(record)) == record


@quick
@given(st.integers(), st.integers(0, 5))
def test_integers(number: int, zeros: int) -> None:
    sign, digits = ("-" if number < 0 else ""), str(abs(number))
    assert shortest_integer(sign + "0" * zeros + digits) == str(number)


@quick
@given(st.text("0123456789.+-eEnaif", max_size=12))
def test_texts_of_numbers(text: str) -> None:
    """A number is what Python's float accepts, of these letters."""
    try:
        expected: float | None = float(text)
    except ValueError:
        expected = None
    found = number_of(text)
    assert found == expected or (found != found and expected != expected)
