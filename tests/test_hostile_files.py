"""Files that are made to do harm, or that chance has damaged: one error of xpnn's own, and no large allocation."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import json
import os
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzzing
import numpy as np
import pytest

from xpnn import DataError, data
from xpnn.cli import main
from xpnn.cli.terminal.console import print_stderr
from xpnn.data import limits
from xpnn.data.columnar import check_arrow, check_parquet
from xpnn.data.readers import read_arrays, read_frame, read_image_folder
from xpnn.data.text import number_of, shortest_integer
from xpnn.devices import memory
from xpnn.errors import DataFormatError, DeviceMemoryError, InputError, XpnnError, printable
from xpnn.experiments import read_history
from xpnn.report import curves
from xpnn.training.history import parse_record

MIB = 2**20


def peak(use: Callable[[], object]) -> int:
    """The bytes that Python and NumPy allocate at most while `use` raises an error of xpnn's own."""
    tracemalloc.start()
    try:
        with pytest.raises(XpnnError):
            use()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# -- texts -------------------------------------------------------------------------------------------------------------


def test_no_text_can_be_a_number_in_two_ways() -> None:
    """With two ways, these would take hours."""
    for text in (
        "1" * 300_000 + "x",
        "." * 300_000,
        "1." + "1" * 300_000 + "e",
        "+" * 300_000,
        "1e" + "1" * 300_000 + "x",
    ):
        assert number_of(text) is None
    numbers = {"1": 1.0, "1.": 1.0, ".5": 0.5, "-1.5e3": -1500.0, "+.5E-1": 0.05, "1e999": np.inf, "-inf": -np.inf}
    assert {text: number_of(text) for text in numbers} == numbers
    assert [number_of(text) for text in ("", ".", "e1", "1e", "1e1.5", "0x1", "1_0", "٣", "--1")] == [None] * 9


def test_integers_of_any_length() -> None:
    for text in ("0", "-0", "+7", "007", "-012", "00"):
        assert shortest_integer(text) == str(int(text))
    assert shortest_integer("+00" + "9" * 5000) == "9" * 5000


def test_labels_of_any_length(tmp_path: Path) -> None:
    long = "0" * 4300 + "7"
    path = put(tmp_path / "t.csv", f"a,label\n1,{long}\n2,{'1' * 5000}\n3,7\n4,{'1' * 5000}\n5,7\n".encode())
    assert data.load(str(path), test_fraction=0.4).classes == ("7", "1" * 5000)


def test_header_of_one_long_line(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv.gz", gzip.compress(b"a" * 20 * MIB + b"\n1\n"))
    with pytest.raises(DataError, match=r"line 1 holds 20971521 bytes, expected at most 16777216; check that the file"):
        read_frame(path)


# -- packed files ------------------------------------------------------------------------------------------------------


def bomb(size: int) -> bytes:
    """A gzip file of so many zeros, made in pieces."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(packer.compress(bytes(MIB)) for _ in range(size // MIB)), packer.flush()])


def test_gzip_that_unpacks_to_far_more(tmp_path: Path) -> None:
    path = put(tmp_path / "t.csv.gz", bomb(400 * MIB))
    assert peak(lambda: read_frame(path)) < 150 * MIB
    with pytest.raises(
        DataError, match=r"t\.csv\.gz': unpacks to more than 67108864 bytes, 100 times its size; if you"
    ):
        read_frame(path)
    assert peak(lambda: data.read_bytes(path)) < 150 * MIB


def test_zstandard_that_unpacks_to_far_more(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    packer = zstandard.ZstdCompressor().compressobj()
    content = b"".join([*(packer.compress(bytes(MIB)) for _ in range(400)), packer.flush()])
    assert peak(lambda: read_frame(put(tmp_path / "t.csv.zst", content))) < 200 * MIB


def test_packed_idx_is_refused_by_its_header(tmp_path: Path) -> None:
    content = struct.pack(">HBBI", 0, 8, 1, 400 * MIB) + bytes(MIB)
    path = put(tmp_path / "x.gz", gzip.compress(content))
    with pytest.raises(DataError, match="unpacks to more than 67108864 bytes"):
        data.read_idx(path)
    small = put(tmp_path / "y.gz", gzip.compress(fuzzing.idx(np.zeros(50))))
    with pytest.raises(DataFormatError, match=r"declares shape \(50,\), 58 bytes; expected 60008"):
        data.read_idx(small, size=60_008)


@pytest.mark.parametrize("declared", [300 * MIB, 3])
def test_npz_that_unpacks_to_far_more(tmp_path: Path, declared: int) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (declared,)})
    with zipfile.ZipFile(tmp_path / "t.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as file:
        file.write(header.getvalue())
        for _ in range(300):
            file.write(bytes(MIB))
    with zipfile.ZipFile(tmp_path / "t.npz", "a") as archive:
        archive.writestr("y.npy", fuzzing.npy(np.arange(4)))
    assert peak(lambda: read_arrays(tmp_path / "t.npz")) < 40 * MIB
    found = (
        "unpacks to more than 67108864" if declared > 3 else "holds 314572800 bytes of values, but shape .3,. needs 3"
    )
    with pytest.raises(DataError, match=found):
        read_arrays(tmp_path / "t.npz")


def test_npz_packed_in_another_way(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.npz", "w", zipfile.ZIP_LZMA) as archive:  # lzma's dictionary can take 4 GiB
        for name in "xy":
            archive.writestr(f"{name}.npy", fuzzing.npy(np.arange(4.0)))
    with pytest.raises(DataFormatError, match=r"t\.npz: x\.npy': is packed in a way that NumPy does not write"):
        read_arrays(tmp_path / "t.npz")


# -- headers -----------------------------------------------------------------------------------------------------------

_NPY = b"\x93NUMPY\x01\x00"
NPY_FAULTS = {
    "a header of 2 GiB": b"\x93NUMPY\x03\x00\x74\x00\x00\x93N",
    "parentheses": _NPY + struct.pack("<H", 9000) + b"(" * 9000,
    "minus signs": _NPY + struct.pack("<H", 9000) + b"-" * 8999 + b"1",
    "a number of 5,000 digits": _NPY
    + struct.pack("<H", 6000)
    + b"{'descr': '|u1', 'fortran_order': False, 'shape': (%s,), }".ljust(1000) % (b"9" * 5000),
    "numbers of 4,000 digits": _NPY
    + struct.pack("<H", 9000)
    + (b"{'descr': '|u1', 'fortran_order': False, 'shape': (%s, %s), }" % (b"9" * 4000, b"9" * 4000)).ljust(9000),
    "a hundred axes": fuzzing.npy(np.zeros(1, np.uint8)).replace(b"(1,), }" + b" " * 60, b"(" + b"1," * 31 + b"), }"),
    "a negative axis": fuzzing.npy(np.zeros(12, np.uint8)).replace(b"(12,)", b"(-1,)"),
    "no values": fuzzing.npy(np.zeros((0, 3))).replace(b"(0, 3), } ", b"(0, 3" + b"0" * 1 + b"), }"),
    "fields": fuzzing.npy(np.zeros(2, "u1,f4")),
    "a version of the future": b"\x93NUMPY\x09\x00" + fuzzing.npy(np.zeros(2))[8:],
}


@pytest.mark.parametrize("kind", NPY_FAULTS)
def test_npy_headers(tmp_path: Path, kind: str) -> None:
    path = put(tmp_path / "x.npy", NPY_FAULTS[kind])
    np.save(tmp_path / "y.npy", np.arange(4))
    assert peak(lambda: data.read_samples(path, (3,))) < 8 * MIB
    assert peak(lambda: read_arrays(f"{path},{tmp_path / 'y.npy'}")) < 8 * MIB


def test_images_that_are_larger_than_their_files(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for name in "ab":
        (tmp_path / name).mkdir()
        image.new("1", (8000, 6000)).save(tmp_path / name / "1.png")
    with pytest.raises(
        DataFormatError, match=r"a/1\.png': .*6000 x 8000 pixels in \d+ bytes, at most 16777216 expected"
    ):
        read_image_folder(tmp_path, (8, 8))


def test_image_of_another_kind_than_its_name_starts_no_program(tmp_path: Path) -> None:
    pytest.importorskip("PIL.Image")
    for name in "ab":
        (tmp_path / name).mkdir()
        put(tmp_path / name / "1.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(DataFormatError, match="it is not an image"):
        read_image_folder(tmp_path, (8, 8))


def test_images_that_memory_cannot_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image")
    for name in "ab":
        (tmp_path / name).mkdir()
        image.fromarray(np.random.default_rng(0).integers(0, 256, (3000, 3000), np.uint8)).save(
            tmp_path / name / "1.png"
        )
    monkeypatch.setattr(limits, "free_host_bytes", lambda: 16 * MIB)
    with pytest.raises(
        DeviceMemoryError, match=r"takes about 17\.17 MiB of memory, of which 16 MiB are free; give a smaller"
    ):
        read_image_folder(tmp_path)


# -- Parquet and Arrow -------------------------------------------------------------------------------------------------


def test_one_value_repeated(tmp_path: Path) -> None:
    pl = pytest.importorskip("polars")
    table = pl.DataFrame({"a": np.zeros(10**7, np.int8), "label": np.zeros(10**7, np.int8)})
    for name, write in (("t.parquet", table.write_parquet), ("t.arrow", table.write_ipc)):
        write(tmp_path / name, compression="zstd")
        data.read_frame(tmp_path / name)
    parquet, arrow = ((tmp_path / name).read_bytes() for name in ("t.parquet", "t.arrow"))
    check_parquet("t", parquet)
    check_arrow("t", arrow)
    with pytest.raises(
        DataError, match=r"'t': declares 20000000 values, \d+ bytes unpacked, in \d+ bytes; expected at"
    ):
        _with_less(check_parquet, parquet)
    with pytest.raises(DataError, match=r"'t': declares 20000000 values, \d+ bytes unpacked"):
        _with_less(check_arrow, arrow)


def _with_less(check: Callable[[str, bytes], None], content: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for module in ("parquet", "arrow"):
            patch.setattr(f"xpnn.data.columnar.{module}.FLOOR", MIB)
            patch.setattr(f"xpnn.data.columnar.{module}.RATIO", 1)
        check("t", content)


def test_pages_that_declare_more_than_they_hold(tmp_path: Path) -> None:
    pl = pytest.importorskip("polars")
    file = io.BytesIO()
    pl.DataFrame({"a": [1, 2, 3], "b": [1.5, 2.5, 0.0]}).write_parquet(file, compression="uncompressed")
    good, messages = file.getvalue(), set()
    check_parquet("t", good)
    for i in range(len(good) - 8):
        for value in (0, 0x7F, 0xFF):
            try:
                check_parquet("t", good[:i] + bytes([value]) + good[i + 1 :])
            except DataError as error:
                messages.add(str(error))
    assert any("row group 1, column 'a': its pages hold" in message for message in messages)
    assert all(message.startswith("'t': ") and "\n" not in message for message in messages)


# -- memory ------------------------------------------------------------------------------------------------------------


def test_table_that_memory_cannot_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    path = put(tmp_path / "t.csv", b"a,label\n" + b"1,0\n2,1\n" * 2**17)
    monkeypatch.setattr(limits, "free_host_bytes", lambda: 8 * MIB)
    assert main(["train", str(path)]) == 3
    said = capsys.readouterr().err
    assert "reading it takes about 17 MiB of memory, of which 8 MiB are free; use fewer rows or columns" in said
    assert "batch-size" not in said


def test_memory_that_runs_out_while_reading() -> None:
    message = r"'t\.csv': memory ran out while it was read \(Unable to"
    with pytest.raises(DeviceMemoryError, match=message), limits.memory_scope("t.csv"):
        np.empty(2**62, np.uint8)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_free_memory_of_the_host() -> None:
    assert (memory.free_host_bytes() or 0) > 2**20
    code = "from xpnn.devices.memory import free_host_bytes; print(free_host_bytes())"
    for option in ("-v", "-d"):
        shell = f'ulimit {option} 900000 && "{sys.executable}" -c "{code}"'
        environment = {**os.environ, "PYTHONPATH": str(Path(data.__file__).parents[2]), "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True, env=environment)
        assert 0 < int(done.stdout) < 900000 * 1024


# -- histories ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[" * 100_000, "it is nested too deeply"),
        ('{"epoch": 1, "loss": 1' + "0" * 400 + "}", "'loss' is an integer of 1329 bits, which no float holds"),
        ('{"epoch": 1, "m": [[1, -1' + "0" * 400 + "]]}", "'m' is an integer of 1329 bits"),
        ('{"epoch": 1' + "0" * 5000 + "}", "limit|digits"),
        ('{"epoch": 1' + "0" * 40 + "}", "it is not the record of an epoch"),
        ('{"epoch": true}', "it is not the record of an epoch"),
        ("{", "Expecting property name"),
        ("\x00", "Expecting value"),
    ],
)
def test_lines_that_are_no_records(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "history.jsonl").write_text('{"epoch": 1, "loss": 0.5}\n' + line + "\n")
    with pytest.raises(DataFormatError, match=rf"history\.jsonl', line 2: .*({message})"):
        read_history(tmp_path)


@pytest.mark.parametrize("value", [1e308, -1e308, 10**400, float("inf"), "a", None, [1], {}, True, 1e-320])
def test_values_that_cannot_be_drawn(value: Any) -> None:
    pytest.importorskip("matplotlib")
    records = [{"epoch": 1, "loss": 0.5, "accuracy": 0.5}, {"epoch": value, "loss": value, "accuracy": value}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curves.history_figure({"a": records}).canvas.draw()


# -- names -------------------------------------------------------------------------------------------------------------


def test_messages_have_no_control_characters(tmp_path: Path) -> None:
    assert printable("a\x1b[31m\u202e\nb") == "a\\x1b[31m\\u202e\nb" and str(InputError("\x07")) == "\\x07"
    path = put(tmp_path / "t.csv", b"\x1b]0;x\x07,label\n2026-01-01,0\n2026-01-02,1\n")
    with pytest.raises(InputError) as caught:
        data.load(str(path))
    assert str(caught.value).isprintable() and "by `date` \\x1b]0;x\\x07" in str(caught.value)


def test_warnings_of_the_command_have_none(tmp_path: Path, capsys: Any) -> None:
    rows = "".join(f"{i},{i % 2 * 3 + i % 3},{i % 2}\n" for i in range(20))
    path = put(tmp_path / "t.csv", b"\x1b[31mn,b,label\n" + rows.encode())
    assert main(["train", str(path), "--epochs", "1", "--hidden", "2"]) == 0
    said = capsys.readouterr()
    assert "numbers the rows" in said.err and "\x1b" not in said.err + said.out
    print_stderr("a\x1b[31m")
    assert capsys.readouterr().err == "xpnn: a\\x1b[31m\n"


def test_predictions_hold_no_formulas(tmp_path: Path, capsys: Any) -> None:
    classes = ["=cmd|' /C calc'!A0", "@SUM(1)", "-3", "+x", "\x1b[31mred"]
    lines = [f"{i % 5 == 0},{i % 5 == 1},{i % 5 == 2},{i % 5 == 3},r{i},{classes[i % 5]}" for i in range(60)]
    put(tmp_path / "t.csv", "\n".join(["a,b,c,d,=id,label", *lines, ""]).encode())
    run = tmp_path / "run"
    options = ["--hidden", "16", "--lr", "0.05", "--epochs", "200", "--batch-size", "8", "--quiet", "--id", "=id"]
    assert main(["train", str(tmp_path / "t.csv"), *options, "--output", str(run)]) == 0
    assert main(["predict", str(run), str(tmp_path / "t.csv"), "--output", str(tmp_path / "p.csv")]) == 0
    with (tmp_path / "p.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header[:2] == ["'=id", "prediction"]
    assert {row[1] for row in rows} == {"'=cmd|' /C calc'!A0", "'@SUM(1)", "-3", "'+x", "\x1b[31mred"}
    capsys.readouterr()
    assert main(["predict", str(run), str(tmp_path / "t.csv"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["predictions"]
    assert {row["prediction"] for row in found} == set(classes)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals")
def test_terminal_gets_no_control_characters(tmp_path: Path) -> None:
    put(tmp_path / "t.csv", b"a,label\n" + b"1,\x1b[31mred\n2,\x1b[31mblue\n" * 10)
    assert main(["train", str(tmp_path / "t.csv"), "--epochs", "1", "--quiet", "--output", str(tmp_path / "run")]) == 0
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "xpnn", "predict", str(tmp_path / "run"), str(tmp_path / "t.csv")]
    environment = {**os.environ, "PYTHONPATH": str(Path(data.__file__).parents[2])}
    process = subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # the process has closed its side
        pass
    assert process.wait() == 0
    os.close(ours)
    assert b"\\x1b[31m" in shown and b"\x1b" not in shown


# -- everything --------------------------------------------------------------------------------------------------------

GROUPS = {
    "text": ("csv", "csv.gz", "csv.zst", "history"),
    "arrays": ("npy", "npz", "idx", "idx.gz"),
    "columns": ("parquet", "arrow", "stream", "stored-parquet", "stored-arrow"),
    "own": ("model", "checkpoint", "settings"),
    "images": ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm"),
}


@pytest.mark.parametrize("group", GROUPS)
def test_damaged_files(group: str) -> None:
    """The same damaged files in each run, in a process with little memory: see `fuzzing`."""
    names = [name for name in GROUPS[group] if name in fuzzing.parsers()]
    if not names:
        pytest.skip("a library is not installed")
    environment = {**os.environ, "PYTHONPATH": str(Path(data.__file__).parents[2])}
    command = [sys.executable, fuzzing.__file__, "--cases", "60", *names]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"status": "finished", "history": [3]}', b"[]", b'"a"', b"\xff"])
def test_settings_of_a_sweep(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    assert fuzzing.failure_of("settings", tmp_path, content) == ""


def test_fuzzer_finds_faults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A reader that lets other exceptions out is found."""
    monkeypatch.setattr("xpnn.data.npy.fault", lambda *_: KeyError("other"))
    found = [fuzzing.failure_of("npy", tmp_path, fuzzing.make_case("npy", 1, number)) for number in range(20)]
    assert any("KeyError" in failure for failure in found)


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_atheris_runs() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(data.__file__).parents[2])}
    program = str(Path(fuzzing.__file__).with_name("fuzz_atheris.py"))
    command = [sys.executable, program, "all", "-runs=200", "-seed=1", "-rss_limit_mb=8192"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


def test_parse_record_is_the_inverse_of_json() -> None:
    record = {"epoch": 3, "loss": 0.1, "matrix": [[1, 2], [3, 4]], "val_loss": None}
    assert parse_record(json.dumps(record)) == record
