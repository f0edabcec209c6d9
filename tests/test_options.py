"""Tests for options that are given wrongly, and that would otherwise be ignored."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from xpnn.cli import app

TABLE = "a,b,label\n" + "".join(f"{i * 7 % 31},{i % 7},{'yes' if i % 3 else 'no'}\n" for i in range(60))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with table.csv, x.npz and a run of the table, as the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("table.csv").write_text(TABLE)
    np.savez("x.npz", x=np.eye(40, 4), y=np.arange(40) % 2)
    return tmp_path


def train(*more: str) -> list[str]:
    return ["train", "table.csv", "--device", "cpu", "--backend", "numpy", "--epochs", "2", "--quiet", *more]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (train("--drop", "a", "--drop", "b"), "--drop is given 2 times; give it once, as COLUMN,…"),
        (train("--class-weight", "no=2", "--class-weight", "yes=1"), "give it once, as balanced|NAME=X,…"),
        (train("--output", ""), "--output: the path is empty"),
        (["train", "--resume", ""], "--resume: the path is empty"),
        (["evaluate", ""], "RUN: the path is empty"),
        (["train", ""], "DATASET: the path is empty"),
        (train("--image-size", "3x3"), "--image-size belongs to folders of images, and table.csv is none"),
        (train("--skip-broken"), "--skip-broken belongs to folders of images, and table.csv is none"),
        (["train", "x.npz", "--image-size", "2x2"], "--image-size belongs to folders of images, and x.npz is none"),
        (train("--checkpoint-every", "2"), "--checkpoint-every needs --output, the folder of the checkpoints"),
        (train("--keep-checkpoints", "2"), "--keep-checkpoints needs --output"),
        (
            train("--monitor", "val_r2_score", "--patience", "2"),
            "--monitor: 'val_r2_score' is not one of val_loss",
        ),
        (train("--epochs", "0"), "error: --epochs: 0 is not a whole number of at least 1"),
        (["train", "mnist", "--offline", "--data-dir", "."], "put them there (with or without .gz)\n"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_option_is_refused(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "problems" not in error
    assert sorted(path.name for path in folder.iterdir()) == ["table.csv", "x.npz"]


def test_nothing_piped_in(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Empty(io.StringIO):
        buffer = io.BytesIO(b"")

    monkeypatch.setattr("sys.stdin", Empty())
    assert app.run(["train", "-", *train()[2:]]) == 2
    assert "standard input is empty; pipe the data in, as in: cat FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "option", "message"),
    [
        ("m.onnx", ["--separate-weights"], "--separate-weights belongs to a file that ends with .py"),
        ("m.py", ["--opset", "19"], "--opset belongs to a file that ends with .onnx"),
        ("m.py", ["--prefix", "model."], "--prefix belongs to a file that ends with .safetensors"),
    ],
)
def test_option_of_another_export_is_refused(
    file: str, option: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(train("--output", "run")) == 0
    assert app.run(["export", "run", file, *option]) == 2
    assert message in capsys.readouterr().err and not Path(file).exists()


def test_folder_that_is_no_run_says_what_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(train("--output", "sweep/best")) == 0
    for arguments in (["evaluate", "sweep"], ["plot", "sweep", "--output", "a.png"]):
        assert app.run(arguments) == 2
        assert "sweep/best' has one, the best run of a sweep" in capsys.readouterr().err
    Path("sweep/best/history.jsonl").unlink()
    assert app.run(["plot", "sweep/best", "--output", "a.png"]) == 2
    assert "it has no history.jsonl, because imported weights have none" in capsys.readouterr().err


def test_resume_with_fewer_epochs_than_done_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(train("--output", "run")) == 0
    before = Path("run/run.json").read_text()
    assert app.run(["train", "--resume", "run", "--epochs", "1", "--quiet"]) == 2
    assert "--epochs 1: the run has already begun epoch 2; give at least 2" in capsys.readouterr().err
    assert Path("run/run.json").read_text() == before
    assert app.run(["train", "--resume", "run", "--epochs", "3", "--quiet"]) == 0
    assert json.loads(Path("run/run.json").read_text())["epochs"] == 3
