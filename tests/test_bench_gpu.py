"""Tests for the GPU benchmark on a machine without a GPU: floor, figures, check, and a rehearsal of one row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from bench import gpu, gpu_table, kernel_times, reference, rounds
from bench.conductor import WorkerError
from bench.floor import floor, kernels, operations, traffic
from bench.gpu_entries import AUTOTUNED, CAPTURED, COMPILED, EAGER, entries
from bench.networks import ROWS, WIDE, Row, check_batches, data, first_weights, row_of, rows_named

SMALL = Row((12, 7, 5, 3), 8, 18, "adam", 1e-2, (0.5, 0.0))
CEILINGS = {"with": "Torch", "flops": {"fp32": 1e12}, "bandwidth": 1e12, "node": 1e-6}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.gpu", *arguments]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


def test_floor_counts_the_minimal_work_of_a_step() -> None:
    (dropout,), (sgd,) = rows_named(["784-400-100-10"]), rows_named(["784-1000-10"])
    assert kernels(dropout.without_dropout()) == 11
    assert kernels(dropout) == 13
    assert kernels(sgd) == 7
    layers, first = 784 * 400 + 400 * 100 + 100 * 10, 784 * 400
    assert operations(dropout) == 2 * 256 * (3 * layers - first)
    weights = layers + 400 + 100 + 10
    assert traffic(dropout, "fp32") == 4 * 256 * 784 + 2 * 4 * 256 * 500 + 6 * 4 * weights
    assert traffic(dropout, "fp32") - traffic(dropout, "bf16") == 2 * 2 * 256 * 500
    assert traffic(sgd, "fp32") == 4 * 100 * 784 + 2 * 4 * 100 * 1000 + 2 * 4 * (784 * 1000 + 1000 + 10000 + 10)


def test_floor_is_the_larger_of_arithmetic_and_traffic_plus_latency() -> None:
    (row,) = rows_named(["784-400-100-10"])
    found = floor(row, "fp32", CEILINGS)
    assert found is not None
    assert found["arithmetic"] > found["moving"]
    assert found["seconds"] == pytest.approx(operations(row) / 1e12 + 13e-6)
    slow = floor(row, "fp32", CEILINGS | {"bandwidth": 1e9})
    assert slow is not None
    assert slow["seconds"] == pytest.approx(traffic(row, "fp32") / 1e9 + 13e-6)
    assert floor(row, "bf16", CEILINGS) is None
    assert "13 kernels" in gpu_table.floor_line(found)


def test_figures_are_compared_with_the_best_of_each_kind() -> None:
    samples = {
        "xpnn-cupy-graph": {"": [1.0, 2.0, 4.0], "bare": [0.5, 1.0, 2.0]},
        "torch": {"": [4.0, 8.0, 16.0], "bare": [4.0, 8.0, 16.0]},
        "torch-reduce-overhead": {"": [3.0, 6.0, 12.0], "bare": [2.0, 4.0, 8.0]},
        "torch-max-autotune": {"": [2.0, 4.0, 8.0], "bare": [3.0, 6.0, 12.0]},
        "torch-graph": {"": [1.0, 2.0, 4.0], "bare": [1.0, 2.0, 4.0]},
    }
    found = gpu_table.figures(samples, {"seconds": 0.25} | zero_floor())
    assert found["best"]["compiled"] == {"": "torch-max-autotune", "bare": "torch-reduce-overhead"}
    figure = found["contestants"]["xpnn-cupy-graph"]
    assert figure["to"] == {
        "eager": {"": 0.25, "bare": 0.125},
        "compiled": {"": 0.5, "bare": 0.25},
        "captured": {"": 1.0, "bare": 0.5},
    }
    assert figure["to_floor"] == 4.0
    lines = gpu_table.row_table(SMALL, "tf32", found, {"jax-scan": "OSError: a | b"})
    assert lines[0] == "**12-7-5-3, Adam, batch 8, dropout 0.5 and 0, tf32**"
    shown = "| xpnn-cupy-graph | 2,000,000 | 1,000,000 | 0.25 / 0.12 | 0.50 / 0.25 | 1.00 / 0.50 | 4.00 |"
    assert shown in lines
    assert "| jax-scan | OSError: a / b | | | | | |" in lines
    alone = gpu_table.figures({"xpnn-jax": {"": [1.0]}}, None)
    assert alone["contestants"]["xpnn-jax"]["to"]["eager"] == {"": None, "bare": None}
    assert "| xpnn-jax | 1,000,000 |  |  |  |  |  |" in gpu_table.row_table(SMALL, "fp32", alone, {})


def zero_floor() -> dict[str, Any]:
    return dict.fromkeys(("arithmetic", "moving", "waiting", "operations", "bytes", "kernels"), 0)


def test_tables_of_ceilings_and_images() -> None:
    assert "| large matrix products, fp32 | 1.0 TFLOP/s |" in gpu_table.ceilings_table(CEILINGS)
    lines = gpu_table.images_table(SMALL, {"fp32": [0.01, 0.02, 0.03], "tf32": "why not"})
    assert "| fp32 | 20.0 | 15.0 to 25.0 |" in lines
    assert "| tf32 | why not | |" in lines


def test_rows_and_names() -> None:
    assert {*EAGER, *COMPILED, *CAPTURED, *AUTOTUNED} <= set(entries())
    assert set(entries("cpu")) == set(entries())
    small = [gpu.rehearsed(row) for row in (*ROWS, WIDE)]
    assert len({row.name for row in small}) == len(small), "each has a separate reference"
    assert row_of(json.loads(json.dumps(vars(WIDE)))) == WIDE


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("name", [name for name, entry in entries("cpu").items() if not entry.slow])
def test_entry_trains_the_reference_network(name: str, optimizer: str) -> None:
    entry = entries("cpu")[name]
    if entry.missing():
        pytest.skip(f"not installed: {', '.join(entry.missing())}")
    row = Row(SMALL.sizes, 8, 18, optimizer, {"adam": 1e-2, "sgd": 0.1}[optimizer], (0.0, 0.0))
    weights, batches = first_weights(row), check_batches(row)
    built: Any = entry.build(row, *data(row), weights, device="cpu")
    wanted = reference.losses(row, weights, batches)
    assert reference.difference(built.losses(batches), wanted) <= 2e-6
    assert set(built.ways) == {"", "bare"}
    assert all(run(2) > 0 for run in built.ways.values())


class FakeWorker:
    """A worker that replies or fails as configured, and logs its requests."""

    def __init__(self, fails: dict[str, str]) -> None:
        self.fails, self.asked, self.entry = fails, list[str](), entries()["torch"]

    def send(self, do: str, **question: Any) -> None:
        self.asked.append(do)

    def receive(self, timeout: float) -> dict[str, Any]:
        if why := self.fails.pop(self.asked[-1], ""):
            raise WorkerError(why)
        return {"losses": [1.0, 2.0], "ways": {"": 0.5, "bare": 0.25}, "seconds": 36.0}

    def ask(self, do: str, *, timeout: float, **question: Any) -> dict[str, Any]:
        self.send(do)
        return self.receive(timeout)

    def close(self) -> None:
        self.asked.append("close")


def test_failing_entry_is_left_out_and_others_continue() -> None:
    fine, broken, large, late = (
        FakeWorker(fails) for fails in ({}, {"losses": "no"}, {"build": "Out of memory"}, {"run": "it hangs"})
    )
    workers: Any = {"fine": fine, "broken": broken, "large": large, "late": late}
    asked = Namespace(device="cuda", budget=1.0, rounds=3, burst=1.0, quick=False, one_by_one=False)
    left_out: dict[str, str] = {}
    apart, samples = gpu.compared(SMALL, "fp32", [1.0, 2.0], workers, left_out, asked)
    assert left_out == {"broken": "no", "late": "it hangs"}
    assert apart == {"fine": 0.0, "large": 0.0, "late": 0.0}
    assert samples["fine"] == {"": [36 / 2 / 18] * 3, "bare": [36 / 4 / 18] * 3}
    assert set(samples) == {"fine", "large"}
    assert broken.asked == ["losses", "close", "free"]
    assert large.asked[:5] == ["losses", "build", "close", "free", "losses"], "retried alone"
    assert large.asked[-1] == "free"


def test_requests_are_sent_together_or_in_turn() -> None:
    log: list[str] = []

    class RecordingWorker(FakeWorker):
        def send(self, do: str, **question: Any) -> None:
            super().send(do)
            log.append("sent")

        def receive(self, timeout: float) -> dict[str, Any]:
            log.append("received")
            return {}

    workers: Any = {"a": RecordingWorker({}), "b": RecordingWorker({}), "c": RecordingWorker({})}
    assert set(rounds.answers(workers, {"c": "left out"}, "hello", timeout=1)) == {"a", "b"}
    rounds.answers(workers, {"c": "left out"}, "hello", timeout=1, together=True)
    assert log == ["sent", "received", "sent", "received", "sent", "sent", "received", "received"]


def test_without_gpu_the_reason_is_reported() -> None:
    done = run(CUDA_VISIBLE_DEVICES="")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("no GPU can be used: ")
    assert len(done.stderr.splitlines()) == 1
    assert run("--only", "tensorflow").returncode == 2


def test_no_measurement_is_an_error() -> None:
    names = ("--rows", "784-10-10", "--only", "xpnn-cupy-plain", "--precision", "tf32")
    done = run("--device", "cpu", "--quick", *names)
    assert done.returncode == 1
    assert "| xpnn-cupy-plain | DeviceUnavailableError: precision tf32 needs a GPU's tensor cores" in done.stdout


def test_rehearsal_of_one_row(tmp_path: Path) -> None:
    names = ("--rows", "784-10-10", "--only", "xpnn-cupy-plain", "xpnn-cupy-graph", "--precision", "fp32")
    done = run("--device", "cpu", "--quick", *names, "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("gpu-*.json")
    results = json.loads(file.read_text())["results"]
    ((row, found),) = results["rows"].items()
    assert row == "24-8-10, fp32"
    assert found["left_out"] == {}
    assert set(found["contestants"]) == {"xpnn-cupy-plain", "xpnn-cupy-graph"}
    assert all(len(taken) == 2 for taken in found["contestants"]["xpnn-cupy-graph"]["samples"].values())
    assert set(results["differences"]["fp32"]["24-8-10"]) == {"xpnn-cupy-plain", "xpnn-cupy-graph"}
    assert len(results["images"]["fp32"]) == 7
    text = file.with_suffix(".md").read_text()
    assert "**24-8-10, SGD, batch 16, dropout none, fp32**" in text
    assert "measures nothing" in text


def test_table_of_kernels_leaves_out_what_runs_once_an_epoch() -> None:
    name = "void cutlass::Kernel2<a|b>(cutlass::Params)"
    lines = kernel_times.table("xpnn", [(name, 2.0, 8.25), ("overwrite", 0.01, 0.02)])
    assert lines[4:] == ["| `cutlass::Kernel2<a/b>` | 2.00 | 8.25 |", "| all | 2.01 | 8.27 |", ""]


def test_kernels_of_a_processor_are_none() -> None:
    pytest.importorskip("torch")
    assert kernel_times.kernels_of(lambda: None, 1) == []
