"""Tests for tables of mixed columns: CSV in all its forms, Parquet and Arrow files, and damaged ones."""

from __future__ import annotations

import gzip
import io
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import Write

from xpnn.data.readers import extra, frames, is_frame, read_frame, records
from xpnn.errors import DataFormatError, InputError


@pytest.fixture
def polars() -> Any:
    return pytest.importorskip("polars")


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "find", lambda name: None)


def shown(frame: Any) -> dict[str, tuple[str, list[object]]]:
    return {name: (x.dtype.name, x.tolist()) for name, x in frame.columns.items()}


PLAIN = [
    (b"a,label\n1,x\n300,y\n", {}),
    (b"\xef\xbb\xbfa,label\r\n1,x\r\n\r\n300,y", {}),
    (b"sep=;\r\na;label\r\n1;x\r\n300;y\r\n", {}),
    (b"a|label\n1|x\n300|y\n", {}),
    (b"a\tlabel\r1\tx\r300\ty\r", {}),
    (b'a label\n1 "x"\n300 y\n', {"separator": " "}),
    ("a,label\n1,x\n300,y\n".encode("utf-16"), {"encoding": "utf-16"}),
]


@pytest.mark.parametrize(("content", "options"), PLAIN)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("library", ["polars", "without"])
def test_forms(write: Write, content: bytes, options: dict[str, str], pack: Any, library: str, request: Any) -> None:
    request.getfixturevalue(library)
    frame = read_frame(write(pack(content), "t.csv"), **options)
    assert shown(frame) == {"a": ("int64", [1, 300]), "label": ("object", ["x", "y"])}
    number = content.count(b"\n") if content.endswith(b"\n") else content.count(b"\n") + 1
    if not options and b"\r3" not in content:
        assert frame.lines.tolist()[1] == number and frame.place(1) == f"line {number}"


def test_cells(write: Write, polars: Any) -> None:
    text = 'n,f,t,b,code,big,gap,money,none\n1,2.5,"p, ""q""\ns",true,007,9007199254740993,NA,"1,000",\n'
    text += " 2 ,?, r ,False,10,-1,3,2,\n"
    frame = read_frame(write(text, "t.csv"))
    assert shown(frame) == {
        "n": ("uint8", [1, 2]),
        "f": ("float64", [2.5, pytest.approx(np.nan, nan_ok=True)]),
        "t": ("object", ['p, "q"\ns', "r"]),
        "b": ("bool", [True, False]),
        "code": ("object", ["007", "10"]),
        "big": ("int64", [9007199254740993, -1]),
        "gap": ("float64", [pytest.approx(np.nan, nan_ok=True), 3]),
        "money": ("object", ["1,000", "2"]),
        "none": ("float64", [pytest.approx(np.nan, nan_ok=True)] * 2),
    }
    assert frame.lines.tolist() == [2, 4]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1"] * 5000 + ["x"], "object"),
        (["1.5"] * 5000 + ["x"], "object"),
        (["1.5"] * 5000 + [" 2 "], "float64"),
        (["1"] * 5000 + ["07"], "object"),
        (["9007199254740993", ""] * 100, "object"),
        (["12345678901234567890"] * 5, "object"),
        (["a", "NULL"] * 500, "object"),
        ([""] * 2000 + ["1"], "float64"),
    ],
)
def test_whole_columns_decide(write: Write, polars: Any, cells: list[str], expected: str) -> None:
    frame = read_frame(write("a,b\n" + "".join(f"{cell},1\n" for cell in cells), "t.csv"))
    x = frame.columns["a"]
    assert x.dtype == expected
    if expected == "object":
        assert x.tolist() == [None if cell in ("", "NULL") else cell for cell in cells]


def test_decimal_comma(write: Write, polars: Any) -> None:
    frame = read_frame(write("a;b;c\n1,5;1.234,5;1.5\n-2;3;2\n", "t.csv"), decimal=",")
    assert shown(frame) == {
        "a": ("float64", [1.5, -2]),
        "b": ("object", ["1.234,5", "3"]),
        "c": ("object", ["1.5", "2"]),
    }


def test_trailing_separators(write: Write, polars: Any) -> None:
    for text in ("a,b,\n1,2,\n3,4,\n", "a,b\n1,2,\n3,4,\n"):
        assert shown(read_frame(write(text, "t.csv"))) == {"a": ("uint8", [1, 3]), "b": ("uint8", [2, 4])}


def test_axis_as_header(write: Write, without: None) -> None:
    rows = "0.3,0.1,0.2,rye\n0.1,0.2,0.3,oat\n"
    frame = read_frame(write(f"1100.0,1100.5,1101.0,label\n{rows}", "t.csv"))
    assert list(frame.columns) == ["1100.0", "1100.5", "1101.0", "label"]
    for first in ("5.1,3.5,1.4,rye", "1.0,1.5,2.0,rye", "1.0,2.0,9.0,kind"):
        with pytest.raises(DataFormatError, match="the first row looks like data"):
            read_frame(write(f"{first}\n{rows}", "t.csv"))


@pytest.mark.parametrize("chunk", [2**20, 7])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found an empty file"),
        (b"\n1\n", "the first line is empty"),
        (b"a,b\n\n", "no rows follow the header"),
        (b"a,a\n1,2\n", "two columns are called 'a'"),
        (b",a\n1,2\n", "column 1 of 2 has no name.*index=False"),
        (b"1,2\n3,4\n", "the first row looks like data"),
        (b'a,b\n"x\ny",1\n\n1\n', "line 5 has 1 cells, the header has 2; each line"),
        (b"a,b\n1,2\n1,2,3\n", "line 3 has 3 cells, the header has 2"),
        (b'a,b\n1,2\n1,"x\n3,4\n', "line 3: a quotation mark is not closed"),
        (b'a,b\n1,2\n1,"x\n3,"y"\n', "line 3: a quotation mark is not closed"),
        (b'a,b\n1,2\n1,x"y\n', "line 3: a quotation mark stands inside a cell"),
        (b'a,"b\n1,2\n', "line 1: a quotation mark is not closed"),
        (b"a,b\n1,2\n1,\xe4\n", r"line 3: not UTF-8 text \(byte 0xe4\); name its encoding.*cp1252"),
        ("a\n1\n".encode("utf-16"), "found UTF-16 text.*utf-16"),
        (b"a,b\n1,2\n1,-inf\n", "line 3, column 'b': -inf is not a finite number"),
        (b"\x80\x04abc", "is a Python pickle"),
        pytest.param(gzip.compress(b"a,b\n1,2\n")[:-3], "truncated", id="half a gzip"),
        (b"PK\x03\x04", "found a zip archive"),
    ],
)
def test_faults(write: Write, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str, chunk: int) -> None:
    monkeypatch.setattr(records, "_CHUNK", chunk)
    with pytest.raises(DataFormatError, match=message) as caught:
        read_frame(write(content, "t.csv"))
    assert "\n" not in str(caught.value) and "t.csv" in str(caught.value)


def test_wrong_arguments(write: Write, tmp_path: Path) -> None:
    path = write("a,b\n1,2\n", "t.csv")
    for options in ({"separator": "::"}, {"decimal": "x"}, {"encoding": "zip"}, {"encoding": "no"}, {"separator": "."}):
        with pytest.raises(InputError, match=next(iter(options)) if options != {"separator": "."} else "decimal"):
            read_frame(path, **options)
    with pytest.raises(InputError, match="does not exist"):
        read_frame(tmp_path / "no.csv")
    with pytest.raises(InputError, match="Is a directory"):
        read_frame(tmp_path)
    with pytest.raises(DataFormatError, match="line 2: not text in cp1252"):
        read_frame(write(b"a,b\n1,\x81\n", "t.csv"), encoding="cp1252")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a,b\n1,2\n3,\n", "line 3, column 'b': the cell is empty"),
        (b"a,b\n1,2\n3,x\n", "line 3, column 'b': 'x' is not a number"),
        (b"a,b\nx,y\n", "columns 'a' and 'b' are not numbers"),
        (b"a,b\n1,2\n007,2\n", "leading zeros"),
        (b"a,b\n9007199254740993,2\n", "more than 15 digits"),
        (b"PAR1", "is a Parquet file"),
        (b"\x28\xb5\x2f\xfd", "is packed with Zstandard"),
    ],
)
def test_without_the_extra(write: Write, without: None, content: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=rf"{reason}; for this, pip install 'xpnn\[data\]'"):
        read_frame(write(content, "t.csv"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_pipes(tmp_path: Path) -> None:
    path, content = tmp_path / "pipe", gzip.compress(b"a,b\n1,2\n")
    os.mkfifo(path)
    assert is_frame(path) and is_frame("-")
    thread = threading.Thread(target=path.write_bytes, args=(content,))
    thread.start()
    assert shown(read_frame(path)) == {"a": ("uint8", [1]), "b": ("uint8", [2])}
    thread.join()
    code = "from xpnn.data.readers import read_frame; print(read_frame('-').columns['b'])"
    done = subprocess.run([sys.executable, "-c", code], input=content, capture_output=True, check=True)
    assert done.stdout.strip() == b"[2]"


def tables(polars: Any) -> Any:
    columns = {
        "i": [1, 2, 3],
        "g": [1, None, 3],
        "f": [1.5, None, 2.0],
        "t": ["a", None, "a"],
        "b": [True, False, True],
    }
    table = polars.DataFrame(columns)
    day = polars.Series("d", ["2024-01-01", None, "2024-01-03"]).str.to_date()
    return table.with_columns(day, polars.col("t").cast(polars.Categorical).alias("c"))


@pytest.mark.parametrize("kind", ["parquet", "ipc", "ipc_stream"])
def test_columnar(tmp_path: Path, polars: Any, kind: str) -> None:
    path = tmp_path / "t.parquet"
    getattr(tables(polars), f"write_{kind}")(path)
    frame = read_frame(path)
    names = ["uint8", "float64", "float64", "object", "bool", "datetime64[us]", "object"]
    assert [x.dtype.name for x in frame.columns.values()] == names and frame.place(2) == "row 3"
    assert frame.columns["c"].tolist() == frame.columns["t"].tolist() == ["a", None, "a"]
    assert str(frame.columns["d"][2])[:10] == "2024-01-03" and np.isnat(frame.columns["d"][1])
    polars.DataFrame({"a": [[1], [2]]}).write_parquet(path)
    with pytest.raises(DataFormatError, match="column 'a' holds values of type List"):
        read_frame(path)


def valid(polars: Any, kind: str) -> bytes:
    text = b'a,b,"c d",e\n1,2.5,"x, y",true\n2,,"p\nq",false\n3,NA,z,TRUE\r\n\n4,1e3,"a""b",false\n'
    if kind == "zst":
        return bytes(pytest.importorskip("zstandard").compress(text))
    if kind in ("csv", "gz"):
        return text if kind == "csv" else gzip.compress(text)
    file = io.BytesIO()
    getattr(tables(polars), f"write_{kind}")(file)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["csv", "gz", "zst", "parquet", "ipc", "ipc_stream"])
def test_flipped_bytes(write: Write, polars: Any, kind: str) -> None:
    content, rng = valid(polars, kind), random.Random(3)
    read_frame(write(content, "t.csv"))
    for _ in range(150):
        bad = bytearray(content)
        for _ in range(rng.choice((1, 2, 8))):
            bad[rng.randrange(len(bad))] = rng.choice((rng.randrange(256), 0, 255, 34, 44, 10))
        try:
            read_frame(write(bytes(bad[: rng.choice((len(bad), rng.randrange(len(bad))))]), "t.csv"))
        except InputError as error:
            assert "\n" not in str(error)


def random_table(draw: random.Random) -> str:
    """A table with every kind of cell; now and then a line has a fault, is empty or lacks cells."""
    kinds = draw.choices(("number", "integer", "text", "quoted", "flag", "code"), k=draw.choice((1, 2, 3, 5)))
    missing, faults = draw.choice((0, 0, 0.1, 0.5)), draw.choice((0, 0, 0, 0.02))
    separator, end = draw.choice((",", ",", ";", "\t")), draw.choice(("\n", "\n", "\r\n"))
    lines = [separator.join(f"c{i}" for i in range(len(kinds)))]
    cells = {
        "number": lambda: f"{draw.uniform(-9, 9):.3f}",
        "integer": lambda: str(draw.randrange(-999, 999)),
        "text": lambda: draw.choice(("ab", "x y", " padded ", "NAN", "true")),
        "quoted": lambda: draw.choice(('"a"', f'"a{separator}b"', '"say ""hi"""', "plain", '"two\nlines"')),
        "flag": lambda: draw.choice(("true", "False")),
        "code": lambda: draw.choice(("7", "12", "12", "007")),
    }
    for _ in range(draw.choice((3, 30, 300))):
        row = [draw.choice(("", "NA", "?", "nan")) if draw.random() < missing else cells[kind]() for kind in kinds]
        if draw.random() < faults:
            fault = draw.choice(("short", "long", "quote", "pair", "after", "open", "word", "blank"))
            at = draw.randrange(len(row))
            row = {"short": row[:-1], "long": [*row, "1"], "blank": []}.get(fault, row)
            wrong = {"quote": 'a"b', "pair": 'a"b"c', "after": '"a"b', "open": '"a', "word": "word"}
            row[at:] = [wrong.get(fault, cell) for cell in row[at : at + 1]] + row[at + 1 :]
        lines.append(separator.join(row))
    return end.join(lines) + draw.choice((end, end, ""))


@pytest.mark.parametrize("number", range(12))
def test_fast_and_careful_readers_agree(number: int, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same columns, lines and errors, whether each line is looked at or not."""
    pytest.importorskip("polars")
    ways = list[bool]()
    counted = frames.tally

    def careful(*_: Any) -> None:
        return None

    def fast(*arguments: Any) -> Any:
        ways.append(counted(*arguments) is not None)
        return counted(*arguments)

    for seed in range(40):
        path = write(random_table(random.Random(1000 * number + seed)).encode(), "t.csv")
        found = list[str]()
        for way in (fast, careful):
            monkeypatch.setattr(frames, "tally", way)
            try:
                frame = read_frame(path)
            except InputError as error:
                found.append(str(error))
            else:
                columns = {name: (str(x.dtype), x.tolist()) for name, x in frame.columns.items()}
                found.append(repr((columns, frame.lines.tolist())))
        assert found[0] == found[1], path.read_text()
    assert any(ways) and not all(ways)


@pytest.mark.parametrize("cell", ['a"b"c', '"a" "b"', 'x"y""z"', '"a"b', '"a"b"', '"a'])
@pytest.mark.parametrize("line", [2, 700, 1001])
def test_quotation_marks_that_polars_accepts_are_found(cell: str, line: int, write: Write, polars: Any) -> None:
    rows = ['1,"u",v'] * 1000
    rows[line - 2] = f"1,u,{cell}"
    with pytest.raises(DataFormatError, match=rf"line {line}: a quotation mark (stands inside|is not closed)"):
        read_frame(write(("a,b,c\n" + "\n".join(rows) + "\n").encode(), "t.csv"))
