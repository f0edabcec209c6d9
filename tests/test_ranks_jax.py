"""Tests of training on all devices of JAX, in one process and in two: the numbers are those of NumPy."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from xpnn.cli import app
from xpnn.errors import InputError
from xpnn.ranks import jax as jax_ranks

ROOT = Path(__file__).parents[1]
needs_jax = pytest.mark.skipif(util.find_spec("jax") is None, reason="JAX is not installed")


def start(devices: int, **more: str) -> subprocess.Popen[str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    fast = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"  # to compile
    flags = f"--xla_force_host_platform_device_count={devices} {fast}"
    env = {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, **more}
    command = [sys.executable, str(ROOT / "tests/helpers/jax_ranks.py")]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    found: dict[str, Any] = json.loads(out)  # nothing else is on standard output
    return found


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What one device, four devices, and two processes of two devices have computed; all at the same time."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    common = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    processes = {
        "four": start(4),
        "first": start(2, **common, JAX_PROCESS_ID="0"),
        "second": start(2, **common, JAX_PROCESS_ID="1"),
    }
    try:
        return {name: result(process) for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()  # closes its pipes


@needs_jax
@pytest.mark.parametrize("where", ["four", "first"])
def test_the_numbers_are_those_of_one_process_with_numpy(found: dict[str, Any], where: str) -> None:
    one, many = found["four"]["one"], found[where]["many"]
    assert found[where]["devices"] == 4
    for a, b in zip(many["records"], one["records"], strict=True):
        assert a == pytest.approx(b, rel=0, abs=1e-12)
    for a, b in zip(many["outputs"], one["outputs"], strict=True):
        assert a == pytest.approx(b, rel=0, abs=1e-11)


@needs_jax
def test_each_device_computes_its_rows_only(found: dict[str, Any]) -> None:
    assert all(found[where]["work"] == ["f64[6,9]", "pred[6,9]"] for where in ("four", "first"))


@needs_jax
def test_processes_stay_equal_and_agree(found: dict[str, Any]) -> None:
    first, second = found["first"], found["second"]
    assert (first["rank"], second["rank"], first["size"]) == (0, 1, 2)
    assert all(second[name] == first[name] for name in second if name != "rank")
    texts = [{"rank": rank, "text": "x" * (1500 * rank)} for rank in (0, 1)]
    assert first["decisions"] == {"gathered": texts, "sum": [1.2000000000000002, 2e-17], "agreed": 5}
    assert found["four"]["decisions"]["gathered"] == texts[:1] and found["four"]["size"] == 1


@needs_jax
def test_a_batch_that_cannot_be_divided_is_warned_of(found: dict[str, Any]) -> None:
    (warning,) = found["four"]["warnings"]
    assert "a batch of 33 rows cannot be divided among 4 devices" in warning


def test_a_wrong_timeout_is_refused() -> None:
    with pytest.raises(InputError, match="timeout is 0; expected seconds, at least 1"):
        jax_ranks(timeout=0)


def test_without_jax_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xpnn.ranks.with_jax._opened", None)
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(InputError, match=r'pip install "xpnn\[jax\]"'):
        jax_ranks()


@needs_jax
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", "digits", "--hidden", "8", "--epochs", "1", "--ranks", "jax", "--device", "cpu"]
    train += ["--batch-size", "1293", "--optimizer", "sgd", "--dropout", "0"]  # little to compile
    assert app.run([*train, "--rank-blocks", "2"]) == 2
    assert "add --ranks mpi or --ranks torch in place of --ranks jax" in capsys.readouterr().err
    assert app.run([*train, "--backend", "numpy"]) == 2
    assert "--ranks jax trains with --backend jax; got numpy" in capsys.readouterr().err
    assert app.run([*train, "--output", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert "device   cpu with jax" in printed and "ranks    1, by JAX on 1 device\n" in printed
    assert json.loads((tmp_path / "run/run.json").read_bytes())["ranks"] == 1
