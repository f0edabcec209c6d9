"""Tests for the command line interface: output, files and exit statuses."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import threadpoolctl

import xpnn
from xpnn.cli import main
from xpnn.data.datasets import load

MNIST = Path(__file__).parents[2] / "shared" / "data" / "mnist"
FAST = ("--epochs", "2", "--hidden", "16", "--schedule", "constant")


@pytest.fixture
def result(run: Any) -> Callable[..., dict[str, Any]]:
    """Run `xpnn train … --json --quiet` and return the JSON object."""

    def call(*arguments: object) -> dict[str, Any]:
        status, out, _ = run("train", *arguments, "--json", "--quiet")
        assert status == 0
        return json.loads(out)

    return call


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """60 rows, two columns of very different scales, and three named classes."""
    rng = np.random.default_rng(0)
    rows = [
        f"{kind},{rng.normal(i, 0.4):.4f},{rng.normal(3e4 * i, 1e4):.1f}"
        for _ in range(20)
        for i, kind in enumerate("abc")
    ]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["class,small,large", *rows]) + "\n")
    return path


def test_train_prints_progress_and_result(run: Any) -> None:
    status, out, err = run("train", *FAST, "--device", "cpu")
    assert status == 0
    assert "digits: 1,293 to train, 144 to validate, 360 to test" in out
    assert "64-16-10, relu, dropout 0.3: 1,210 parameters" in out
    assert "device   cpu with numpy, fp32" in out and "test accuracy" in out
    assert err.splitlines()[1].startswith("epoch 2/2  loss ") and "samples/s" in err and "\x1b" not in err


def test_quiet_prints_only_the_result(run: Any) -> None:
    status, out, err = run("train", *FAST, "--quiet")
    assert (status, err) == (0, "") and out.startswith("result") and len(out.splitlines()) == 1


def test_json_is_one_object_with_all_keys(run: Any) -> None:
    status, out, err = run("train", *FAST, "--json", "--seed", 5, "--precision", "fp64", "--device", "cpu")
    facts = json.loads(out)
    assert status == 0 and len(out.splitlines()) == 1 and "epoch 2/2" in err
    assert {key: facts[key] for key in ("schema_version", "version", "dataset", "backend", "device", "output")} == {
        "schema_version": 1,
        "version": xpnn.__version__,
        "dataset": "digits",
        "backend": "numpy",
        "device": "cpu",
        "output": None,
    }
    assert (facts["precision"], facts["seed"], facts["n_parameters"], facts["epochs"]) == ("fp64", 5, 1210, 2)
    assert facts["device_reason"] and facts["seconds"] > 0 and facts["samples_per_second"] > 0
    names = ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds"]
    assert [list(log) for log in facts["history"]] == [names] * 2
    assert 0 < facts["test_loss"] < 3 and 0.1 < facts["test_accuracy"] <= 1


def test_validation_values_are_null_without_validation(result: Any) -> None:
    facts = result(*FAST, "--validation-fraction", 0)
    assert facts["history"][0]["val_loss"] is None and facts["history"][0]["val_accuracy"] is None


@pytest.mark.parametrize("library", ["strict", "torch", "jax"])
def test_same_seed_gives_same_experiment_on_every_library(library: str, result: Any) -> None:
    pytest.importorskip({"strict": "array_api_strict"}.get(library, library))
    options = ("--epochs", 3, "--hidden", "32,16", "--dropout", "0.3,0.1", "--precision", "fp64", "--device", "cpu")
    ours, theirs = result(*options), result(*options, "--backend", library)
    assert theirs["backend"] == library
    for one, other in zip(ours["history"], theirs["history"], strict=True):
        for name in ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr"):
            assert abs(one[name] - other[name]) <= 1e-9, name
    assert abs(ours["test_loss"] - theirs["test_loss"]) <= 1e-9


@pytest.mark.parametrize(
    "options",
    [
        ("--optimizer", "sgd", "--lr", "0.05", "--momentum", "0.5", "--weight-decay", "1e-4"),
        ("--activation", "sigmoid", "--lr", "0.02", "--batch-size", "100"),
        ("--activation", "tanh", "--dropout", "0.1", "--hidden", "16,8"),
        ("--hidden", ""),
    ],
)
def test_options_change_training(options: tuple[str, ...], result: Any) -> None:
    plain, changed = result(*FAST), result(*FAST, *options)
    assert changed["history"] != plain["history"] and changed["test_accuracy"] > 0.3


def test_small_network_uses_one_blas_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only while training, and unless the user has set the number of threads."""
    from xpnn.devices import threads
    from xpnn.devices.place import find_place

    def blas() -> int:
        return max(pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas")

    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    numpy = find_place("cpu")
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        many = blas()
        with threads.one_thread_if_small(numpy, 32, 50_000):
            assert blas() == 1
        assert blas() == many
        with threads.one_thread_if_small(numpy, 128, 235_000):
            assert blas() == many
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        with threads.one_thread_if_small(numpy, 32, 50_000):
            assert blas() == many


def test_small_network_uses_one_torch_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from xpnn.devices import threads
    from xpnn.devices.place import find_place

    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threads.one_thread_if_small(find_place("cpu", "torch"), 32, 50_000):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_digits_with_defaults(result: Any) -> None:
    assert result()["test_accuracy"] >= 0.96


def test_mnist(result: Any) -> None:
    if not MNIST.is_dir():
        pytest.skip("the MNIST files are not here")
    facts = result("mnist", "--data-dir", MNIST, "--epochs", 1)
    assert facts["test_accuracy"] > 0.94
    assert facts["history"][0]["epoch"] == 1 and facts["n_parameters"] == 235_146


def test_csv_with_class_names(table: Path, run: Any, result: Any, tmp_path: Path) -> None:
    facts = result(table, "--hidden", 16, "--output", tmp_path / "run")
    assert facts["test_accuracy"] > 0.8 and facts["dataset"] == str(table)
    status, out, _ = run("predict", tmp_path / "run", table)
    lines = out.splitlines()
    assert status == 0 and lines[0] == "row,prediction,probability" and len(lines) == 61
    right = [
        line.split(",")[1] == row[0] for line, row in zip(lines[1:], table.read_text().split("\n")[1:], strict=False)
    ]
    assert np.mean(right) > 0.9
    status, out, _ = run("evaluate", tmp_path / "run", "--json")
    assert status == 0 and json.loads(out)["rows"] == 12
    assert abs(json.loads(out)["loss"] - facts["test_loss"]) < 1e-6
    other = tmp_path / "other.csv"
    other.write_text(table.read_text())
    status, out, _ = run("evaluate", tmp_path / "run", other)
    assert status == 0 and "60 rows, all of the file" in out


def test_standardization_is_fitted_on_training_rows(table: Path, run: Any, result: Any, tmp_path: Path) -> None:
    result(table, *FAST, "--output", tmp_path / "run", "--seed", 3, "--validation-fraction", 0)
    data = load(str(table), seed=3)
    layer = xpnn.load_model(tmp_path / "run" / "model.safetensors")[0].layers[0]
    np.testing.assert_allclose(layer.mean, data.x_train.mean(axis=0))
    assert not np.allclose(layer.mean, np.concat([data.x_train, data.x_test]).mean(axis=0), rtol=1e-6)


def test_run_folder(run: Any, result: Any, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a"
    facts = result(*FAST, "--output", folder, "--dropout", "0.4")
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["checkpoints", "history.jsonl", "model.safetensors", "run.json"]
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert [log["loss"] for log in history] == [log["loss"] for log in facts["history"]]
    saved = json.loads((folder / "run.json").read_text())
    assert saved["status"] == "finished" and saved["options"]["dropout"] == "0.4" and saved["options"]["lr"] == 1e-3

    status, out, _ = run("evaluate", folder, "--json")
    assert status == 0
    again = json.loads(out)
    assert again["accuracy"] == facts["test_accuracy"] and abs(again["loss"] - facts["test_loss"]) < 1e-6
    digits = load("digits")
    np.save(tmp_path / "x.npy", digits.x_test)
    status, out, _ = run("predict", folder, tmp_path / "x.npy", "--json")
    predictions = json.loads(out)["predictions"]
    assert (
        np.mean([int(p["prediction"]) == y for p, y in zip(predictions, digits.y_test, strict=True)])
        == again["accuracy"]
    )
    assert all(0.1 <= p["probability"] <= 1 for p in predictions)
    status, out, _ = run("predict", folder, tmp_path / "x.npy", "--output", tmp_path / "p.csv")
    assert status == 0 and out == "" and len((tmp_path / "p.csv").read_text().splitlines()) == 361
    for library in ("torch", "jax", "array_api_strict"):
        try:
            __import__(library)
        except ImportError:
            continue
        backend = "strict" if library == "array_api_strict" else library
        status, out, _ = run("evaluate", folder, "--json", "--backend", backend, "--device", "cpu")
        assert status == 0 and json.loads(out)["accuracy"] == facts["test_accuracy"]

    status, _, err = run("train", *FAST, "--output", folder)
    assert status == 2 and "already contains a run" in err
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-8])
    status, _, err = run("evaluate", folder)
    assert status == 2 and "not a complete safetensors file" in err


WITHOUT_GPU = "no driver here; install one"


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from xpnn.devices import probe
    from xpnn.devices.driver import Stage

    stages = (Stage("driver", False, "no driver here", "install one"),)
    monkeypatch.setattr(probe, "stages", lambda library, index=0: stages)


def test_cuda_without_gpu_falls_back_with_one_line(run: Any, no_gpu: None) -> None:
    status, out, err = run("train", *FAST, "--device", "cuda", "--quiet")
    assert status == 0 and "test accuracy" in out
    assert err == f"xpnn: no GPU can be used: {WITHOUT_GPU}. Using the CPU, with numpy.\n"
    status, out, err = run("train", *FAST, "--device", "cuda:1", "--json", "--quiet")
    facts = json.loads(out)
    assert (facts["backend"], facts["device"]) == ("numpy", "cpu") and WITHOUT_GPU in facts["device_reason"]
    status, _, err = run("train", *FAST, "--backend", "cupy", "--quiet")
    assert status == 0 and len(err.splitlines()) == 1


def test_no_fallback_raises(run: Any, no_gpu: None) -> None:
    status, out, err = run("train", *FAST, "--device", "cuda", "--no-fallback")
    assert (status, out, err) == (3, "", f"xpnn: error: no GPU can be used: {WITHOUT_GPU}\n")


def test_auto_is_silent_and_records_the_reason(result: Any, run: Any, no_gpu: None) -> None:
    status, _, err = run("train", *FAST, "--quiet")
    assert (status, err) == (0, "")
    assert WITHOUT_GPU in result(*FAST)["device_reason"]


WRONG = [
    (("train", "--backend", "numpy", "--device", "cuda"), "computes on the CPU only"),
    (("train", "--optimizer", "adm"), "did you mean 'adam'"),
    (("train", "--activation", "relux"), "did you mean 'relu'"),
    (("train", "--backend", "nump"), "did you mean 'numpy'"),
    (("train", "--device", "gpu"), "device: 'gpu' is not one of auto, cpu, cuda"),
    (("train", "--precision", "fp16"), "did you mean 'fp"),
    (("train", "--precision", "bf17"), "'bf17' is not one of fp32, tf32, bf16, fp64"),
    (("train", "digit"), "did you mean 'digits'"),
    (("train", "nowhere.csv"), "nowhere.csv"),
    (("train", "--epoch", "3"), "--epochs"),
    (("train", "--epochs", "0"), "--epochs: 0 is not a whole number of at least 1"),
    (("train", "--epochs", "many"), "'--epochs'"),
    (("train", "--batch-size", "-1"), "--batch-size: -1"),
    (("train", "--lr", "0"), "--lr: 0.0 is not a number above 0"),
    (("train", "--lr", "nan"), "--lr: nan"),
    (("train", "--hidden", "a,b"), "--hidden: 'a,b' is not a list of whole numbers"),
    (("train", "--hidden", "16,0"), "--hidden: 0 is not a whole number from 1 to 1,000,000"),
    (("train", "--dropout", "1.0"), "--dropout: 1.0 is not a number of at least 0 and below 1"),
    (("train", "--dropout", "0.1,0.2,0.3"), "--dropout: 3 probabilities for 2 hidden layers"),
    (("train", "--momentum", "0.9"), "--momentum belongs to --optimizer sgd"),
    (("train", "--optimizer", "sgd", "--momentum", "1"), "--momentum: 1.0 is not a number of at least 0 and below 1"),
    (("train", "--validation-fraction", "1"), "--validation-fraction: 1.0"),
    (("train", "--seed", "-1"), "--seed: -1"),
    (("train", "--target", "y"), "target"),
    (("train", "--data-dir", "x"), "data_dir"),
    (("train", "mnist", "--data-dir", "/nowhere"), "/nowhere"),
    (("train", "--output", "/proc/nowhere"), "cannot write the --output folder '/proc/nowhere'"),
    (("evaluate", "nowhere"), "'nowhere' does not contain a run"),
    (("predict", "nowhere", "x.csv"), "'nowhere' does not contain a run"),
    (("predict", "nowhere"), "Missing argument 'file'"),
    (("trian",), "trian"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(wrong[0][-2:]) for wrong in WRONG])
def test_usage_error_is_one_line_and_status_2(arguments: tuple[str, ...], message: str, run: Any) -> None:
    status, out, err = run(*arguments)
    assert status == 2 and out == ""
    assert err.startswith("xpnn: error: ") and message in err and len(err.splitlines()) == 1


def test_bad_file_is_one_line(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for text, message in [
        ("", "empty"),
        ("label,a\n0,1\n1,x\n0,2\n", "'x'"),
        ("label,a\n0,1\n1,nan\n0,2\n", "line 3, column 'a': the value is missing"),
        ("label,a\n0,1\n1\n", "line 3"),
    ]:
        path.write_text(text)
        status, _, err = run("train", path)
        assert status == 2 and message in err and len(err.splitlines()) == 1, err


def test_missing_named_library_is_status_3(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "array_api_strict", None)
    status, _, err = run("train", *FAST, "--backend", "strict")
    assert status == 3 and "pip install array-api-strict" in err and len(err.splitlines()) == 1


def test_nonfinite_loss_is_status_1_and_is_recorded(run: Any, tmp_path: Path) -> None:
    options = (
        "--optimizer",
        "sgd",
        "--lr",
        "1e6",
        "--scale",
        "1e30",
        "--schedule",
        "constant",
        "--output",
        tmp_path / "run",
    )
    status, out, err = run("train", *FAST, *options, "--quiet")
    assert status == 1 and out == "" and len(err.splitlines()) == 1
    assert "the loss is not finite at step 2 (epoch 1, batch 2), learning rate 1e+06" in err
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["status"] == "failed" and "step 2" in facts["error"]


def test_failed_start_leaves_no_folder(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run("train", "nowhere.csv", "--output", folder)[0] == 2
    assert not folder.exists()
    assert run("train", *FAST, "--output", folder, "--quiet")[0] == 0


def test_batch_larger_than_the_data_warns_in_one_line(run: Any) -> None:
    status, _, err = run("train", *FAST, "--batch-size", 5000, "--quiet")
    assert status == 0
    assert err == "xpnn: warning: --batch-size 5000 is larger than the data; using 1293, all rows\n"


def test_debug_shows_traceback_and_keeps_status(run: Any) -> None:
    status, _, err = run("train", "--optimizer", "adm", "--debug")
    assert status == 2 and "Traceback" in err and err.splitlines()[-1].startswith("xpnn: error: ")
    status, _, err = run("train", "--no-such-option", "--debug")
    assert status == 2 and len(err.splitlines()) == 1


def test_no_arguments_shows_help(run: Any) -> None:
    status, out, err = run()
    assert status == 0 and "train" in out and err == ""


def test_help_names_the_defaults(run: Any) -> None:
    out = " ".join(run("train", "--help")[1].split())
    for default in (
        "by rows, at least 20 to 40, and 2,500 steps",
        "the optimizer's own",
        "by rows, 32 to 256",
        "label, target, class or y",
    ):
        assert default in out


@pytest.fixture
def many_classes(tmp_path: Path, result: Any) -> tuple[Path, Path]:
    """A run with twenty classes of long names that begin alike, and the file."""
    rng, labels = np.random.default_rng(0), np.arange(60_000) % 20
    names = np.array([f"a_class_of_a_long_name_{i}" for i in range(20)])
    np.savez(tmp_path / "t.npz", x=rng.normal(size=(60_000, 2)) + labels[:, None], y=names[labels])
    result(tmp_path / "t.npz", "--epochs", 1, "--hidden", 4, "--batch-size", 5000, "--output", tmp_path / "run")
    return tmp_path / "run", tmp_path / "copy.npz"


def test_confusion_matrix_is_whole_or_left_out(
    many_classes: tuple[Path, Path], run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a file as wide as it is; on a terminal it fits, with long names in several lines, or a line says so."""
    monkeypatch.setenv("COLUMNS", "80")
    folder, file = many_classes
    (folder.parent / "t.npz").rename(file)
    facts = json.loads(run("evaluate", folder, file, "--json")[1])
    names, matrix = list(facts["classes"]), np.array(facts["confusion_matrix"])
    _, out, _ = run("evaluate", folder, file)
    head, _, *rows = out[out.index(" true ") :].splitlines()
    assert head.split() == ["true", "\\", "predicted", *names]
    read = [[int(cell.replace("·", "0").replace(",", "")) for cell in row.split()[1:]] for row in rows if row.split()]
    assert [row.split()[0] for row in rows if row.split()] == names and np.array_equal(read, matrix)

    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes this for a terminal
    _, out, _ = run("evaluate", folder, file)
    wide = int(re.findall(r"the confusion matrix needs (\d+) columns, the terminal has 80", out)[0])
    assert "see --json" in " ".join(out.split()) and " true " not in out and "…" not in out
    assert all(f"{found['support']:,}" in out for found in facts["classes"].values())
    for columns in (wide, wide - 1):
        monkeypatch.setenv("COLUMNS", str(columns))
        _, out, _ = run("evaluate", folder, file)
        assert ("the confusion matrix needs" in out) == (columns < wide) and "…" not in out


def test_more_classes_than_a_table_shows_are_named(tmp_path: Path, run: Any, result: Any) -> None:
    labels = np.arange(400) % 40
    np.savez(tmp_path / "t.npz", x=labels[:, None] + 0.5, y=labels)
    result(tmp_path / "t.npz", *FAST, "--task", "classification", "--output", tmp_path / "run")
    assert "40 classes: their scores and the confusion matrix are in the output of --json" in run(
        "evaluate", tmp_path / "run"
    )[1]  # fmt: skip


def test_existing_file_is_never_overwritten(run: Any, result: Any, tmp_path: Path) -> None:
    result(*FAST, "--output", tmp_path / "run")
    np.save(tmp_path / "x.npy", load("digits").x_test[:3])
    (tmp_path / "link.csv").symlink_to(tmp_path / "elsewhere.csv")
    for target in ("x.npy", "run", "run/model.safetensors", "link.csv", "nowhere/p.csv"):
        status, _, err = run("predict", tmp_path / "run", tmp_path / "x.npy", "--output", tmp_path / target)
        assert status == 2 and "--output" in err
    assert np.load(tmp_path / "x.npy").shape == (3, 8, 8)


def test_changed_table_is_detected(table: Path, run: Any, result: Any, tmp_path: Path) -> None:
    result(table, *FAST, "--output", tmp_path / "run")
    assert run("evaluate", tmp_path / "run", table)[0] == 0
    lines = table.read_text().splitlines()
    swapped = [",".join((kind, large, small)) for kind, small, large in (line.split(",") for line in lines)]
    table.write_text("\n".join(swapped) + "\n")
    status, _, err = run("evaluate", tmp_path / "run")
    assert status == 2 and "has changed since the training" in err
    (tmp_path / "copy.csv").write_text(table.read_text())
    assert run("evaluate", tmp_path / "run", tmp_path / "copy.csv")[0] == 0


@pytest.mark.parametrize("kind", ["table", "archive", "pair", "images"])
def test_data_that_was_moved_does_not_exist(kind: str, table: Path, run: Any, result: Any, tmp_path: Path) -> None:
    x, y, folder = np.zeros((60, 4, 4), np.uint8), np.arange(60) % 2, tmp_path / "data"
    folder.mkdir()
    if kind == "table":
        dataset = str(table.rename(folder / "t.csv"))
    elif kind == "archive":
        dataset = str(folder / "a.npz")
        np.savez(dataset, x=x, y=y)
    elif kind == "pair":
        dataset = f"{folder / 'x.npy'},{folder / 'y.npy'}"
        np.save(folder / "x.npy", x)
        np.save(folder / "y.npy", y)
    else:
        pillow, dataset = pytest.importorskip("PIL.Image"), str(folder)
        for i in range(20):
            (folder / "ab"[i % 2]).mkdir(exist_ok=True)
            pillow.fromarray(x[i]).save(folder / "ab"[i % 2] / f"{i}.png")
    result(dataset, *FAST, "--output", tmp_path / "run")
    folder.rename(tmp_path / "moved")
    status, _, err = run("evaluate", tmp_path / "run")
    assert status == 2 and f"{folder}" in err and "does not exist" in err and err.count("\n") == 1
    status, _, err = run("train", dataset, *FAST)
    assert status == 2 and "does not exist" in err


def test_hints_name_options_that_the_command_has(table: Path, run: Any, result: Any, tmp_path: Path) -> None:
    result(table, *FAST, "--output", tmp_path / "run")
    other = tmp_path / "other.csv"
    other.write_bytes(table.read_bytes().replace(b"\n", b";\xe9\n").replace(b",", b";").replace(b".", b","))
    for command in ("evaluate", "predict"):
        status, _, err = run(command, tmp_path / "run", other)
        assert status == 2 and "name its encoding by --encoding, for example cp1252" in err
        assert run(command, tmp_path / "run", other, "--encoding", "cp1252", "--decimal", ",")[0] == 0
        status, _, err = run(command, tmp_path / "run", other, "--decimal", ";")
        assert status == 2 and "--decimal: ';' is not one of" in err
    assert run("train", *FAST, "--output", tmp_path / "digits", "--quiet")[0] == 0
    other.write_text(f"y,{','.join(f'p{i}' for i in range(64))}\n1{',' * 64}\n")
    status, _, err = run("predict", tmp_path / "digits", other)
    assert status == 2 and "leave it out by xpnn train --drop p0" in err


def test_images_of_several_sizes_are_evaluated(run: Any, result: Any, tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    for i in range(20):
        for name, size in (("a", 4), ("b", 4 + i % 2)):
            folder = tmp_path / name / "xy"[i // 10]
            folder.mkdir(parents=True, exist_ok=True)
            pillow.fromarray(np.full((size, size), 9 * i, np.uint8)).save(folder / f"{i}.png")
    result(tmp_path / "a", *FAST, "--output", tmp_path / "run")
    (tmp_path / "b" / "x" / "broken.png").write_bytes(b"")
    status, _, err = run("evaluate", tmp_path / "run", tmp_path / "b")
    assert status == 2 and "--image-size" in err and "xpnn train" not in err
    status, _, err = run("evaluate", tmp_path / "run", tmp_path / "b", "--image-size", "4x4")
    assert status == 2 and "--skip-broken" in err and "xpnn train" not in err
    status, out, _ = run("evaluate", tmp_path / "run", tmp_path / "b", "--skip-broken", "--image-size", "4x4")
    assert status == 0 and "20 rows, all of the file" in out


def test_rows_that_training_would_drop(table: Path, run: Any, result: Any, tmp_path: Path) -> None:
    """evaluate leaves them out, too; predict refuses them, because each row needs its prediction."""
    head, *rows = table.read_text().splitlines()
    rows[4] = rows[4].rpartition(",")[0] + ","
    table.write_text("\n".join([head, *rows]) + "\n")
    result(table, *FAST, "--missing", "drop", "--output", tmp_path / "run")
    copy = tmp_path / "copy.csv"
    copy.write_text(table.read_text())
    status, out, err = run("evaluate", tmp_path / "run", copy)
    assert status == 0 and "59 rows, all complete rows of the file" in out and "1 of 60 rows" in err
    status, _, err = run("predict", tmp_path / "run", copy)
    assert status == 2 and "line 6, column 'large': the value is missing; fill it in or remove the row" in err
    assert "xpnn train --missing mean" in err
    copy.write_text("class,small\na,1\n")
    status, _, err = run("evaluate", tmp_path / "run", copy)
    assert status == 2 and "1 of 2 features missing: 'large'" in err


def test_evaluate_from_another_folder(table: Path, run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("train", table.name, *FAST, "--output", "run", "--quiet")[0] == 0
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    status, out, _ = run("evaluate", "../run", "--json")
    assert status == 0 and json.loads(out)["which"] == "held back from training"


def test_too_large_values_raise_before_training(table: Path, run: Any) -> None:
    for value, message in [("1e300", "too large"), ("1e39", "too large for float32")]:
        path = table.with_name("large.csv")
        path.write_text(re.sub(r"\na,[^,]*", f"\na,{value}", table.read_text(), count=1))
        status, out, err = run("train", path, *FAST, "--quiet")
        assert (status, out) == (2, "") and message in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("value", ["1e39", "-1e300"])
def test_too_large_number_is_named_by_file_line_and_column(value: str, table: Path, run: Any, result: Any) -> None:
    """In training, testing and predicting, as a feature and as a target; without warnings of NumPy."""
    bad, text = table.with_name("bad.csv"), table.read_text()
    bad.write_text(re.sub(r"(?m)^(a,.*),[^,]*$", rf"\1,{value}", text, count=1))
    line = 1 + next(i for i, row in enumerate(bad.read_text().splitlines()) if value in row)
    result(table, *FAST, "--output", table.with_name("run"))
    result(table, *FAST, "--target", "large", "--drop", "class", "--output", table.with_name("numbers"))
    said = f"line {line}, column 'large': {float(value):g} is too large"
    for arguments in (
        ("train", bad, *FAST),
        ("train", bad, *FAST, "--target", "large", "--drop", "class"),
        ("evaluate", table.with_name("run"), bad),
        ("predict", table.with_name("run"), bad),
        ("evaluate", table.with_name("numbers"), bad),
    ):
        status, out, err = run(*arguments)
        assert (status, out) == (2, "") and str(bad) in err and said in err and len(err.splitlines()) == 1
    status, _, err = run("train", bad, *FAST, "--precision", "fp64")
    assert (status == 0) == (value == "1e39") and "xpnn: warning: overflow" not in err


def test_too_large_number_of_an_array_is_named(run: Any, result: Any, tmp_path: Path) -> None:
    result(*FAST, "--output", tmp_path / "run")
    x = np.zeros((3, 64))
    x[1, 2] = 1e300
    np.save(tmp_path / "x.npy", x)
    status, _, err = run("predict", tmp_path / "run", tmp_path / "x.npy")
    assert status == 2 and "x.npy': x[1, 2] is 1e+300, too large for float32" in err


def test_class_without_training_rows_warns(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("y,a\n" + "".join(f"{i},{i}\n" for i in range(10)))
    status, _, err = run("train", path, *FAST, "--quiet")
    assert status == 0 and "no training row has the class" in err


def test_closed_stdout_does_not_stop_training(tmp_path: Path) -> None:
    command = f"{sys.executable} -m xpnn train --epochs 200 --hidden 8 --output {tmp_path}/run 2>&1 | head -n 2"
    subprocess.run(["bash", "-c", command], check=True, capture_output=True)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"
    np.save(tmp_path / "x.npy", load("digits").x_test)
    command = f"{sys.executable} -m xpnn predict {tmp_path}/run {tmp_path}/x.npy | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], check=True, capture_output=True, text=True)
    assert done.stdout == "0\n" and done.stderr == ""


def test_help_and_version(run: Any) -> None:
    status, out, _ = run("--version")
    assert (status, out) == (0, f"xpnn {xpnn.__version__}\n")
    for command in ((), ("train",), ("evaluate",), ("predict",), ("doctor",)):
        assert run(*command, "--help")[0] == 0


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "xpnn", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signal_ends_training_and_keeps_the_model(number: int, status: int, tmp_path: Path) -> None:
    process = start("train", "--epochs", "2000", "--hidden", "8", "--output", str(tmp_path / "run"))
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 20/"):
            break
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert "stopped by a signal after" in err and "Traceback" not in err
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["status"] == "interrupted" and 20 <= facts["epochs"] < 2000
    assert main(["evaluate", str(tmp_path / "run")]) == 0


def test_terminal_progress_is_one_live_line(tmp_path: Path) -> None:
    """In a pseudo-terminal: the epoch, loss, accuracy, speed and time left, redrawn in place."""
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    command = [sys.executable, "-m", "xpnn", "train", "--epochs", "30", "--hidden", "32"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=follower, env=environment)
    os.close(follower)
    seen = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the other end has been closed
            break
        if not part:
            break
        seen += part
    os.close(leader)
    assert process.wait() == 0
    text = seen.decode(errors="replace")
    assert "epoch 30/30" in text and "accuracy" in text and "samples/s" in text and "\r" in text
    assert text.count("\n") < 5  # redrawn in place


def test_console_script_matches_python_m() -> None:
    out = subprocess.run([sys.executable, "-m", "xpnn", "--version"], capture_output=True, text=True, check=True).stdout
    assert out == f"xpnn {xpnn.__version__}\n"
    status = subprocess.run([sys.executable, "-m", "xpnn", "train", "--lr", "0"], capture_output=True, text=True)
    assert status.returncode == 2 and math.isfinite(time.time())
