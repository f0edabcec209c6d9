"""Tests for the CPU benchmark: rows, the check that all contestants train the same network, figures and tables."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import networks, reference, report, rounds, scaling
from bench.conductor import Worker, WorkerError, environment
from bench.contestants import ENTRIES, Entry, entries_named
from bench.cpu_table import figures, row_table, who_table
from bench.gpu_entries import entries as gpu_entries
from bench.gpu_entries import images_entry
from bench.networks import ROWS, Row, check_batches, data, first_weights, rows_named

SMALL = Row((12, 7, 5, 3), 8, 3, "adam", 1e-2, (0.5, 0.0))


def build(name: str, row: Row) -> Any:
    return ENTRIES[name].build(row, *data(row), first_weights(row))


def test_rows_are_well_formed() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS) == 5
    for row in ROWS:
        assert len(row.dropout) == len(row.sizes) - 2
        assert row.optimizer in ("adam", "sgd")
        assert not row.norm and not row.max_norm
        assert rows_named([row.name]) == [row]
        assert row.without_dropout().name == row.name
        assert not any(row.without_dropout().dropout)
    with pytest.raises(ValueError, match="784-10-10"):
        rows_named(["10-784"])
    with pytest.raises(ValueError, match="xpnn-numpy"):
        entries_named(["tensorflow"])


def test_data_and_initial_weights_fit_the_network() -> None:
    x, y = data(SMALL)
    assert (x.dtype, x.shape, y.shape) == (np.float32, (24, 12), (24,))
    assert 0 <= x.min() < x.max() < 1 + 1e-6
    assert {0, 1, 2} == set(y)
    shapes = [(w.shape, b.shape, w.dtype, b.dtype) for w, b in first_weights(SMALL)]
    assert shapes == [((a, b), (b,), np.float32, np.float32) for a, b in itertools.pairwise(SMALL.sizes)]
    assert (first_weights(SMALL)[1][0] == first_weights(SMALL.without_dropout())[1][0]).all()
    assert len(check_batches(SMALL, 5)) == 5


@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 1e-2), ("sgd", 0.1)])
def test_xpnn_trains_the_reference_network(optimizer: str, lr: float) -> None:
    row = replace(SMALL.without_dropout(), optimizer=optimizer, lr=lr)
    batches = check_batches(row)
    wanted = reference.losses(row, first_weights(row), batches)
    assert sum(wanted[15:18]) < sum(wanted[:3]) - 0.01, "the loss did not decrease, so the comparison is meaningless"
    assert reference.difference(build("xpnn-numpy", row).losses(batches), wanted) <= 1e-6


FURTHER = [
    replace(SMALL.without_dropout(), norm="batch"),
    replace(SMALL.without_dropout(), norm="layer"),
    replace(SMALL.without_dropout(), activation="gelu"),
    replace(SMALL.without_dropout(), optimizer="sgd", lr=0.1, max_norm=0.3),
    replace(SMALL.without_dropout(), optimizer="amsgrad"),
]


@pytest.mark.parametrize("row", FURTHER, ids=lambda row: row.name)
def test_contestants_train_the_further_networks(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Row(row.sizes, row.batch, row.steps, row.optimizer.replace("amsgrad", "adam"), row.lr, row.dropout)
    batches, weights = check_batches(row), first_weights(row)
    wanted = reference.losses(row, weights, batches)
    assert reference.difference(reference.losses(plain, weights, batches), wanted) > 1e-5
    for name in ("xpnn-numpy", "torch", "jax-optax", "keras-jax"):
        entry = ENTRIES[name]
        if entry.missing() or set(row.features) & set(entry.lacks):
            continue
        for variable, value in entry.environment.items():
            monkeypatch.setenv(variable, value)
        wanted = reference.losses(row, weights, batches, late_eps=entry.late_eps)
        assert reference.difference(build(name, row).losses(batches), wanted) <= reference.TOLERANCE, name


def test_a_contestant_is_left_out_of_what_it_lacks() -> None:
    assert [row.features for row in FURTHER] == [
        ("batchnorm",), ("layernorm",), ("gelu",), ("clipping",), ("amsgrad",)
    ]  # fmt: skip
    assert SMALL.features == ("dropout",)
    assert SMALL.name == "12-7-5-3"
    assert all(set(row.features) <= set(ENTRIES["scikit-learn"].lacks) for row in (SMALL, *FURTHER))
    assert len({row.name for row in (*ROWS, *networks.OTHERS)}) == len(ROWS) + len(networks.OTHERS) == 15


def test_reference_has_both_forms_of_adam() -> None:
    row, batches = SMALL.without_dropout(), check_batches(SMALL)
    late, early = (reference.losses(row, first_weights(row), batches, late_eps=late) for late in (True, False))
    assert 0 < reference.difference(early, late) < 1e-3


@pytest.mark.parametrize("spoil", ["weights", "rate", "nan", "short"])
def test_check_detects_a_contestant_with_a_different_network(
    spoil: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = SMALL.without_dropout()
    other, weights = row, first_weights(row)
    if spoil == "weights":
        weights[0][0][3, 2] += 0.01
    if spoil == "rate":
        other = replace(row, lr=row.lr * 1.01)

    class FakeWorker:
        entry = ENTRIES["xpnn-numpy"]

        def ask(self, do: str, **question: Any) -> dict[str, Any]:
            found = ENTRIES["xpnn-numpy"].build(other, *data(row), weights).losses(check_batches(row))
            return {"losses": {"nan": [*found[:-1], float("nan")], "short": found[:-1]}.get(spoil, found)}

    pretenders: Any = {"pretender": FakeWorker()}
    wanted = {True: reference.losses(row, first_weights(row), check_batches(row))}
    differences = {row.name: rounds.checked(row, pretenders, wanted, {}, timeout=60)}
    assert rounds.complain(differences, reference.TOLERANCE) == 1
    assert f"pretender does not train the same network as the reference on {row.name}" in capsys.readouterr().err
    assert rounds.complain({row.name: {"xpnn-numpy": reference.TOLERANCE}}, reference.TOLERANCE) == 0


@pytest.mark.parametrize("way", ["", "bare"])
def test_xpnn_epoch_takes_all_steps(way: str) -> None:
    contestant = build("xpnn-numpy", SMALL)
    contestant.ways[""](1)
    stepped = {"": contestant.trainer, "bare": contestant.engine}[way]
    before = int(np.asarray(stepped.state.step)[0])
    assert contestant.ways[way](2) > 0
    assert int(np.asarray(stepped.state.step)[0]) == before + 2 * SMALL.steps


def test_products_have_the_shapes_of_a_step() -> None:
    products = build("products", SMALL).products
    counted = sum(a.shape[0] * a.shape[1] * b.shape[1] for a, b, _ in products)
    assert counted == scaling.multiplications(SMALL.sizes, SMALL.batch)
    assert all(a.dtype == b.dtype == out.dtype == np.float32 for a, b, out in products)


def test_figures_are_compared_within_a_round() -> None:
    samples = {
        "products": {"": [1.0, 2.0, 4.0]},
        "torch": {"": [2.0, 4.0, 8.0]},
        "jax-optax": {"": [3.0, 6.0, 12.0]},
        "xpnn-numpy": {"": [1.1, 2.2, 4.4], "bare": [1.0, 2.0, 4.0]},
    }
    found = figures(samples)
    assert found["peer"] == "torch", "the fastest contestant except xpnn and the bare products"
    figure = found["contestants"]["xpnn-numpy"]
    assert figure["median"] == 2.2
    assert (figure["to_peer"], figure["to_products"], figure["trainer"]) == pytest.approx((0.55, 1.1, 0.1))
    lines = row_table(SMALL, found, {"keras-jax": "not installed: keras"})
    assert lines[0] == "**12-7-5-3, Adam, batch 8, dropout 0.5 and 0**"
    assert "| xpnn-numpy | 2,200,000 | 1,650,000 to 3,300,000 | 0.55 | 1.10 | +10.0% |" in lines
    assert "| **torch** | 4,000,000 | 3,000,000 to 6,000,000 | 1.00 | 2.00 |  |" in lines
    assert "| keras-jax | not installed: keras | | | | |" in lines
    assert figures({"xpnn-numpy": {"": [1.0]}})["peer"] is None
    is_there = {"torch": {"versions": "torch 3", "pools": ["p (2)"]}}
    who = who_table(is_there, ENTRIES, {"losses differ by": {"a": {"torch": 1e-7}, "b": {}}})
    assert "| torch | eager, default optimizer | torch 3 | p (2) | 1e-07 |" in who


def test_missing_packages_are_detected_without_import() -> None:
    assert Entry("nobody", ("json", "no_such_library_xyz"), "").missing() == ["no_such_library_xyz"]
    assert ENTRIES["products"].missing() == []


def test_worker_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert environment(3, "as-is", {})["OPENBLAS_CORETYPE"] == "Haswell"
    free = environment(3, "best", {"XPNN_FAST": "0"})
    assert "OPENBLAS_CORETYPE" not in free
    assert (free["OPENBLAS_NUM_THREADS"], free["OMP_NUM_THREADS"], free["XPNN_FAST"]) == ("3", "3", "0")


def test_worker_replies_and_reports_failures_in_one_line() -> None:
    worker = Worker("products", ENTRIES["products"], threads=1, blas="as-is")
    try:
        assert "numpy" in worker.ask("hello")["versions"]
        with pytest.raises(WorkerError, match=r"^TypeError: .*missing 6 required"):
            worker.ask("build", row={})
        worker.close()
        with pytest.raises(WorkerError, match="no answer within 0 s"):
            worker.ask("hello", timeout=0)  # a process that still has to start cannot reply in time
        assert "numpy" in worker.ask("hello")["versions"], "a new process replaces the terminated one"
    finally:
        worker.close()


def test_report_names_the_kernels_that_ran(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.write("cpu", ["| a |"], {"b": 1}, kernels=["openblas 1 SkylakeX (2)"], folder=tmp_path)
    (json_file,) = tmp_path.glob("cpu-*.json")
    written = json.loads(json_file.read_text())
    assert written["results"] == {"b": 1}
    assert written["machine"].endswith("kernels (threads): openblas 1 SkylakeX (2)")
    assert json_file.with_suffix(".md").read_text() == capsys.readouterr().out
    report.write("cpu", ["| a |"], {}, folder=None)
    assert len(list(tmp_path.iterdir())) == 2


def test_growth_is_judged_by_exponent() -> None:
    assert scaling.exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
    base = [{"value": n, "seconds": n**1.0, "multiplications": n, "bytes": n, "array_bytes": n} for n in (1, 2, 4, 8)]
    assert scaling.growth(base)["time_grows_as_arithmetic"]
    assert scaling.growth(base)["memory_grows_as_arrays"]
    slower = scaling.growth([point | {"seconds": point["value"] ** 1.3} for point in base])
    assert (slower["time_grows_as_arithmetic"], slower["memory_grows_as_arrays"]) == (False, True)
    larger = scaling.growth([point | {"bytes": point["value"] ** 1.3} for point in base])
    assert (larger["time_grows_as_arithmetic"], larger["memory_grows_as_arrays"]) == (True, False)


@pytest.mark.parametrize(("a_step", "stays"), [(0, True), (5, False)])
def test_leaked_memory_is_counted(a_step: int, stays: bool) -> None:
    flat = [[200 * i, 50_000] for i in range(1, 51)]
    sloping = [[200 * i, 50_000 + a_step * 200 * i] for i in range(1, 51)]
    found = scaling.left_behind({"steps": 10_000, "epochs": 1, "traced": sloping, "resident": flat})
    assert found["each"] == pytest.approx(a_step, abs=1e-9)
    assert found["stays"] is stays
    leaping = [[200 * i, 50_000 + (i > 30) * a_step * 2**19] for i in range(1, 51)]
    assert scaling.left_behind({"steps": 10_000, "epochs": 1, "traced": flat, "resident": leaping})["stays"] is stays


def test_every_contestant_has_a_file() -> None:
    folder = Path(networks.__file__).parent / "contestants"
    entries = (*ENTRIES.values(), *gpu_entries().values(), images_entry())
    assert {entry.module for entry in entries} == {path.stem for path in folder.glob("[a-z]*.py")}


def test_files_are_named_by_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "cpu_model", lambda: "Intel(R) Xeon(R) Processor")
    monkeypatch.setattr(report, "cpu_number", {"cpu family": "6", "model": "207"}.__getitem__)
    report.write("cpu", ["a"], {}, folder=tmp_path, say=False, by_cpu=True)
    assert {file.name for file in tmp_path.iterdir()} == {
        "cpu-intel-xeon-processor-6-207.json",
        "cpu-intel-xeon-processor-6-207.md",
    }
    assert "(family 6, model 207), " in (tmp_path / "cpu-intel-xeon-processor-6-207.md").read_text()
    monkeypatch.setattr(report, "cpu_number", lambda name: "")
    assert report.processor() == "Intel(R) Xeon(R) Processor"


def test_busy_takes_the_slower_of_two_trainings(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.busy", "--rows", "784-10-10", "--only", "xpnn-numpy", "jax-missing"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2
    quick = ("--rounds", "1", "--burst", "0.01", "--threads", "1", "--output", str(tmp_path))
    done = subprocess.run([*command[:-1], *quick], capture_output=True, text=True, check=True)
    (file,) = tmp_path.glob("busy-*.json")
    found = json.loads(file.read_text())["results"]["rows"]["784-10-10"]["xpnn-numpy"]
    assert {state: len(taken) for state, taken in found.items()} == {"alone": 1, "busy": 1, "two": 1}
    assert done.stdout.count("(× ") == 2 and "| xpnn-numpy | " in done.stdout  # noqa: RUF001 - the sign ×


def test_many_compares_in_turns(tmp_path: Path) -> None:
    quick = ("--libraries", "numpy", "--batches", "512", "--models", "2", "--epochs", "1", "--rounds", "2")
    command = [sys.executable, "-m", "bench.many", *quick, "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (file,) = tmp_path.glob("many-*.json")
    (row,) = json.loads(file.read_text())["results"]["rows"]
    assert len(row["ratio"]) == 2 and row["ratio"][0] == row["many"][0] / row["alone"][0]
    assert "| numpy | 512 | " in done.stdout
