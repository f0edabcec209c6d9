"""Tests for `train --plot` and `plot`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")
FAST = ("--epochs", "2", "--hidden", "8", "--quiet")
SIGNATURES = {".png": b"\x89PNG\r\n\x1a\n", ".svg": b"<?xml", ".pdf": b"%PDF-"}


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a run folder with a history, without training."""

    def make(name: str, losses: list[float | None] = [2.0, 1.0, 0.5], **more: Any) -> Path:  # noqa: B006
        folder = tmp_path / name
        folder.mkdir(parents=True)
        records = [{"epoch": i, "loss": loss, **more} for i, loss in enumerate(losses, 1)]
        (folder / "history.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return folder

    return make


def test_train_plots_into_the_run_folder(run: Any, tmp_path: Path) -> None:
    status, out, _ = run("train", *FAST[:-1], "--output", tmp_path / "run", "--plot")
    assert status == 0 and out.splitlines()[-1] == "drawn    history.png, history.svg, samples.png"
    pictures = {path.name for path in (tmp_path / "run").iterdir()} - {
        "checkpoints", "history.jsonl", "model.safetensors", "run.json"
    }  # fmt: skip
    assert pictures == {"history.png", "history.svg", "samples.png"}
    for name in pictures:
        assert (tmp_path / "run" / name).read_bytes().startswith(SIGNATURES[Path(name).suffix])
    one = (tmp_path / "run" / "history.png").read_bytes()
    assert run("plot", tmp_path / "run")[:2] == (0, f"drawn    {tmp_path}/run/history.png: 1 run, 2 epochs\n")
    assert (tmp_path / "run" / "history.png").read_bytes() == one  # the plot from the file is the same


def test_train_plots_test_images_with_predictions(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("xpnn.cli.plot.plot_samples", lambda *a, **k: seen.append((a, k)))
    status, out, _ = run("train", *FAST, "--output", tmp_path / "run", "--plot", "--json")
    (images, labels, predictions, _), names = seen[0]
    assert status == 0 and images.shape == (360, 8, 8) and names["classes"] == tuple("0123456789")
    assert np.mean(labels == predictions) == json.loads(out)["test_accuracy"]


def test_no_image_plot_for_a_table(run: Any, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("y,a\n" + "".join(f"{i % 2},{i % 2}.5\n" for i in range(40)))
    assert run("train", table, *FAST, "--output", tmp_path / "run", "--plot")[0] == 0
    files = [path for path in (tmp_path / "run").iterdir() if path.is_file()]
    assert sorted(path.suffix for path in files) == [
        ".json", ".jsonl", ".png", ".safetensors", ".svg"
    ]  # fmt: skip


def test_several_runs_in_one_plot(run: Any, make_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_run("x/seed0"), make_run("y/seed0", accuracy=0.5), make_run("y/other")
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr("xpnn.cli.plot.plot_history", lambda runs, path: seen.append(runs))
    assert run("plot", "x/seed0", "y/seed0", "y/other", "y/../x/seed0")[1] == "drawn    runs.png: 3 runs, 9 epochs\n"
    assert list(seen[0]) == ["x/seed0", "y/seed0", "other"]
    assert [record["loss"] for record in seen[0]["other"]] == [2.0, 1.0, 0.5]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    for name in ("runs.png", "mine.svg"):
        output = () if name == "runs.png" else ("--output", name)
        assert run("plot", "x/seed0", "y/seed0", *output)[0] == 0
        assert (tmp_path / name).read_bytes().startswith(SIGNATURES[Path(name).suffix])


def test_plot_of_an_unfinished_run(run: Any, make_run: Any) -> None:
    folder = make_run("a")
    with (folder / "history.jsonl").open("a") as file:
        file.write('{"epoch": 4, "lo')  # an incomplete line
    assert run("plot", folder)[1].endswith("1 run, 3 epochs\n")


def test_plot_without_a_run_raises(run: Any, make_run: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in ("nowhere", "empty"):
        status, out, err = run("plot", make_run(f"run of {folder}"), tmp_path / folder)
        assert (status, out) == (2, "") and f"{folder}' does not contain a run" in err and len(err.splitlines()) == 1
    assert not (tmp_path / "runs.png").exists()
    status, _, err = run("plot", make_run("young", []))
    assert status == 2 and "no epoch of this run has ended yet" in err
    for line in ("nonsense", "[1]", '{"epoch": "x"}'):
        (tmp_path / "young" / "history.jsonl").write_text(f'{{"epoch": 1, "loss": 1}}\n{line}\n')
        status, _, err = run("plot", tmp_path / "young")
        assert status == 2 and "line 2" in err and len(err.splitlines()) == 1


def test_unsupported_format_raises(run: Any, make_run: Any, tmp_path: Path) -> None:
    status, _, err = run("plot", make_run("a"), "--output", tmp_path / "a.jpg")
    assert status == 2 and "ends in .png, .svg, .pdf" in err and len(err.splitlines()) == 1


def test_existing_plot_is_not_overwritten(run: Any, make_run: Any, tmp_path: Path) -> None:
    folder, taken = make_run("a"), tmp_path / "mine.png"
    taken.write_text("mine")
    status, _, err = run("plot", folder, "--output", taken)
    assert status == 2 and "already exists" in err and taken.read_text() == "mine"
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "samples.png").write_text("mine")
    status, _, err = run("train", *FAST, "--output", tmp_path / "new", "--plot")
    assert status == 2 and "already contains samples.png" in err
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["samples.png"]


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def fit(*_: Any, **__: Any) -> None:
        raise AssertionError("the mistake was found too late")

    monkeypatch.setattr("xpnn.training.Trainer.fit", fit)
    yield


def test_plot_without_output_raises_before_training(run: Any, no_training: None) -> None:
    status, out, err = run("train", "--plot")
    assert (status, out) == (2, "") and "--plot" in err and "--output" in err and len(err.splitlines()) == 1


def test_missing_matplotlib_raises_with_a_hint_before_training(
    run: Any, make_run: Any, no_training: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for command in (("train", "--output", tmp_path / "run", "--plot"), ("plot", make_run("a"))):
        status, out, err = run(*command)
        assert (status, out) == (2, "") and 'pip install ".[plot]"' in err and len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_matplotlib_is_imported_lazily(tmp_path: Path) -> None:
    code = f"""
import sys
from xpnn.cli import main
assert main(["train", "--epochs", "1", "--quiet", "--output", {str(tmp_path / "run")!r}]) == 0
import xpnn.report
print([name for name in ("matplotlib", "PIL") if name in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help(run: Any) -> None:
    status, out, _ = run("plot", "--help")
    assert status == 0 and "./runs.png" in out
    assert "--plot" in run("train", "--help")[1]
