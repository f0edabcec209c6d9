"""The promises of SECURITY.md, each tested through the command with a file that tries to break it."""

from __future__ import annotations

import ast
import csv
import io
import os
import pickle
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xpnn.errors import DataFormatError
from xpnn.nn.registry import from_config

ROOT = Path(__file__).parents[1]
RED = "\x1b[31m\x1b]0;owned\x07\r\x9b2J"  # colours, the title of the window, back to the start of the line, C1
FAST = ("--epochs", "1", "--hidden", "4", "--quiet", "--device", "cpu")


class Payload:
    """Unpickled, it creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "the payload ran"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_text("a,b,label\n" + "".join(f"{i},{i % 7},{'xy'[i % 2]}\n" for i in range(40)))
    return path


@pytest.fixture
def folder(table: Path, tmp_path: Path, run: Any) -> Path:
    """The folder of a run on `table`."""
    assert run("train", table, *FAST, "--output", tmp_path / "run")[0] == 0
    return tmp_path / "run"


def payload_as(kind: str, marker: Path) -> bytes:
    """A file that runs the payload when it is unpickled."""
    if kind.endswith((".npy", ".npz")):
        file = io.BytesIO()
        array = np.array([Payload(marker)] * 8, dtype=object)
        np.save(file, array, allow_pickle=True) if kind.endswith(".npy") else np.savez(file, x=array, y=array)
        return file.getvalue()
    return pickle.dumps(Payload(marker))


KINDS = ("x.pkl", "x.pt", "x.joblib", "x.csv", "x.npy", "x.npz", "x.parquet", "x-idx3-ubyte", "x")


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_unpickled(kind: str, folder: Path, marker: Path, tmp_path: Path, run: Any) -> None:
    file = tmp_path / kind
    file.write_bytes(payload_as(kind, marker))
    for command in (("train", file, *FAST), ("predict", folder, file), ("evaluate", folder, file)):
        status, out, err = run(*command)
        assert (status, out) == (2, "") and err.count("\n") == 1 and not marker.exists(), command


@pytest.mark.parametrize("name", ["model.safetensors", "history.jsonl"])
def test_nothing_in_the_folder_of_a_run_is_unpickled(
    name: str, folder: Path, table: Path, marker: Path, run: Any
) -> None:
    pytest.importorskip("matplotlib")
    (folder / name).write_bytes(pickle.dumps(Payload(marker)))
    command = ("plot", folder) if name == "history.jsonl" else ("predict", folder, table)
    status, out, err = run(*command)
    assert (status, out) == (2, "") and err.count("\n") == 1 and not marker.exists()


def test_the_payload_is_a_real_one(marker: Path) -> None:
    pickle.loads(payload_as("x.pkl", marker))
    assert marker.exists()
    marker.unlink()
    np.load(io.BytesIO(payload_as("x.npy", marker)), allow_pickle=True)
    assert marker.exists()


def calls_and_imports() -> Iterator[tuple[str, str]]:
    """(module, name) of everything that xpnn imports or calls, for example ("xpnn.data.files", "numpy.load")."""
    for path in sorted((ROOT / "xpnn").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((module, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from ((module, f"{node.module}.{alias.name}") for alias in node.names)
            elif isinstance(node, ast.Call):
                yield module, ast.unparse(node.func)
                yield from ((module, f"{word.arg}={ast.unparse(word.value)}") for word in node.keywords if word.arg)


def test_the_code_has_no_means_to_do_it() -> None:
    """No unpickler, no evaluation of text, no extraction; modules are imported by name only where no file is read."""
    used = {(module, name) for module, name in calls_and_imports()}
    forbidden = (
        r"(pickle|cPickle|_pickle|marshal|shelve|dill|cloudpickle|tarfile)(\..*)?|allow_pickle=(?!False).*|"
        r"(.*\.)?joblib\.(load|dump|Memory|numpy_pickle.*)|"  # it starts the workers of a sweep, and could read pickles
        r"(.*\.)?(load_pickle|read_pickle|extract|extractall|unpack_archive)|eval|exec|__import__|compile"
    )
    between_ranks = {("xpnn.ranks.with_jax", name) for name in ("pickle", "pickle.dumps", "pickle.loads")}
    assert [one for one in sorted(used - between_ranks) if re.fullmatch(forbidden, one[1])] == []
    importers = {module for module, name in used if re.fullmatch(r"(importlib\.)?import_module", name)}
    assert importers == {
        "xpnn.arrays.dispatch",  # kernels, by the library of an array
        "xpnn.arrays.frames",
        "xpnn.arrays.namespace",
        "xpnn.data.readers.extra",
        "xpnn.deprecated",
        "xpnn.kernels.numpy.compiled",
        "xpnn.training.callbacks.trackers.outbox",  # the library of a tracker
    }


@pytest.mark.parametrize("name", ["os.system", "subprocess.Popen", "builtins.eval", "xpnn.nn.Linear", "Trainer"])
def test_no_class_is_resolved_from_a_file(name: str) -> None:
    for config in ({"type": name, "command": "touch x"}, {"type": "Sequential", "layers": [{"type": name}]}):
        with pytest.raises(DataFormatError, match="names the layer"):
            from_config(config)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_no_archive_is_extracted(tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "a" / "b" / "work"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    arrays = {"x": np.arange(80.0).reshape(40, 2), "y": np.arange(40) % 2}
    for name in ("../../x", "/tmp/xpnn-escaped/x", "x/../../y"):
        np.savez(work / "data.npz", **arrays)
        with zipfile.ZipFile(work / "data.npz", "a") as archive:
            archive.writestr(f"{name}.npy", b"\x93NUMPY")
        np.savez(work / "good.npz", **arrays)
        with tarfile.open(work / "data.tar.gz", "w:gz") as packed:
            packed.add(work / "good.npz", f"{name}.npz")
        before = files(tmp_path)
        assert run("train", "data.npz", *FAST)[0] in (0, 2)
        assert run("train", "data.tar.gz", *FAST)[0] == 2
        assert files(tmp_path) == before and not Path("/tmp/xpnn-escaped").exists()
    assert run("train", "good.npz", *FAST)[0] == 0


def test_no_path_from_a_file_is_followed(folder: Path, table: Path, tmp_path: Path, run: Any) -> None:
    """The run names the data that it was trained on. They are read again only if they are still the same."""
    secret = "root:x:0:0"
    table.write_text(f"a,b,label\n{secret},1,x\n{secret},2,y\n")
    status, out, err = run("evaluate", folder)
    assert (status, out) == (2, "") and "has changed since the training" in err and secret not in err
    other = tmp_path / "paths.csv"  # cells that are paths are texts
    other.write_text(f"a,label\n{table},x\nfile://{table},y\n" * 10)
    status, out, err = run("train", other, *FAST)
    assert status == 0 and secret not in out + err


def test_terminal_escapes_are_printed_escaped(tmp_path: Path, run: Any) -> None:
    names, label = [f"{RED}a", "b"], f"{RED}label"
    path = tmp_path / f"{RED.replace('/', '')}.csv"
    rows = [[str(i), str(i % 7), f"{RED}{'xy'[i % 2]}"] for i in range(40)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([[*names, label], *rows])
    folder = tmp_path / "run"
    said = "".join(run("train", path, "--target", label, *FAST[:-3], "--device", "cpu", "--output", folder)[1:])
    said += "".join(run("evaluate", folder, path)[1:])
    assert "\\x1b" in said
    missing = tmp_path / "missing.csv"
    with missing.open("w", newline="") as file:
        csv.writer(file).writerows([[f"{RED}c", "d"], ["1", f"{RED}2"]])
    for wrong in (
        ("predict", folder, missing),
        ("train", path, "--target", f"{RED}no"),
        ("train", f"{RED}no.csv"),
        ("train", path, "--target", label, "--activation", f"{RED}relu"),
    ):
        status, out, err = run(*wrong)
        assert status == 2 and "\\x1b" in err
        said += out + err
    assert re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", said) == []
    assert re.findall(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", in_a_terminal("predict", folder, path)) == []


def in_a_terminal(*arguments: object) -> bytes:
    """What the command writes to standard output if that is a terminal."""
    pty = pytest.importorskip("pty")  # Windows has none
    ours, theirs = pty.openpty()
    program = [sys.executable, "-m", "xpnn", *map(str, arguments)]
    process = subprocess.Popen(program, stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    said = b""
    while chunk := _read(ours):
        said += chunk
    os.close(ours)
    assert process.wait() == 0, process.communicate()[1]
    assert process.stderr is not None
    process.stderr.close()
    assert said.count(b"\n") > 40
    return said


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux reports the end as an error
        return b""


@pytest.mark.parametrize("where", ["standard output", "a file"])
def test_csv_holds_no_formula(tmp_path: Path, run: Any, where: str) -> None:
    formulas = ["=1+1", "+A1", "-A1", "@SUM(A1)", "\tx", '=HYPERLINK("http://x","y")', "=cmd|' /C calc'!A0", "-3.5"]
    path, out_file = tmp_path / "table.csv", tmp_path / "out.csv"
    rows = [[formulas[i % 8], str(i), str(i % 7), formulas[i % 2]] for i in range(40)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["=id", "a", "b", "label"], *rows])
    folder = tmp_path / "run"
    assert run("train", path, "--id", "=id", *FAST, "--output", folder)[0] == 0
    options = () if where == "standard output" else ("--output", out_file)
    status, out, _ = run("predict", folder, path, "--probabilities", "all", *options)
    assert status == 0
    found = list(csv.reader(io.StringIO(out_file.read_text() if options else out)))
    assert found[0][0] == "'=id" and len(found) == 41
    assert {cell for row in found for cell in row if cell[:1] in tuple("=+-@\t\r") and cell != "-3.5"} == set()
    assert [row[0].removeprefix("'") for row in found[1:9]] == [text.strip() for text in formulas]


def test_importing_and_training_open_no_connection() -> None:
    """Only the name mnist leads to a download; nothing reports anything to anyone."""
    program = """
import socket, subprocess, os
def refuse(*_, **__): raise SystemExit("opened a connection or started a process")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
subprocess.Popen.__init__ = os.system = refuse
import numpy as np, xpnn
from xpnn import Trainer, nn, optim
from xpnn.experiments import Settings, run
Trainer(nn.Linear(2, 1), nn.MSELoss(), optim.SGD()).fit(np.ones((8, 2)), np.ones((8, 1)), epochs=1, batch_size=4)
run(Settings(hidden="4", epochs=1), device="cpu")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_promise_names_its_tests() -> None:
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/]+\.py): (\w+)`", page))
    missing = [
        (file, test)
        for file, test in sorted(named)
        if not re.search(rf"^def {test}\b", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert len(named) >= 8 and missing == []
    promises = page.partition("## Promises")[2].partition("\n## ")[0]
    rows = [line for line in promises.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(rows) >= 7 and all("`tests/" in row for row in rows)
