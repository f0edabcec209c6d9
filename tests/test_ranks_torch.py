"""Tests of training in several processes with torchrun: they are the experiment of one, and they end together.

torchrun takes seconds to start, so one launch serves many checks. The faults run without torchrun: its processes are
started here, with its variables, so that their own messages and statuses are seen.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch_ranks

from xpnn import ranks
from xpnn.cli import app
from xpnn.cli.terminal.console import Output
from xpnn.errors import InputError

ROOT = Path(__file__).parents[1]
needs_torch = pytest.mark.skipif(util.find_spec("torch") is None, reason="torch is not installed")
TRAIN = ["train", "digits", "--device", "cpu", "--hidden", "16", "--precision", "fp64", "--quiet"]


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "tests" / "helpers"), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def torchrun(*arguments: str) -> subprocess.Popen[str]:
    """Start two processes by torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end_of(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """The status, standard output and standard error of a process; it fails after a minute."""
    try:
        printed, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, printed, errors


# -- without torchrun --------------------------------------------------------------------------------------------------


def test_missing_torch_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r'ranks by torchrun need torch, which is not installed; pip install "xpnn\['):
        ranks.torch()
    assert app.run([*TRAIN, "--ranks", "torch"]) == 2
    assert "need torch" in capsys.readouterr().err
    with pytest.raises(InputError, match="timeout is 0; expected seconds, above 0"):
        ranks.torch(timeout=0)


@pytest.mark.parametrize("given", [[], ["--ranks", "mpi"]])
@pytest.mark.parametrize("rank", [0, 1])
def test_torchrun_without_its_ranks_is_refused(
    given: list[str], rank: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(ranks.ENGINES, "mpi", lambda timeout: ranks.run_threads(1, lambda one: one)[0])
    monkeypatch.setattr("xpnn.cli.terminal.ranks._FIRST_PRINTS", 0.0)
    for name, value in (("TORCHELASTIC_RUN_ID", "1"), ("RANK", str(rank)), ("WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    assert app.run([*TRAIN, *given, "--output", str(tmp_path / "run")]) == 2
    printed = capsys.readouterr().err
    assert ("torchrun has started 4 processes" in printed and "--ranks torch" in printed) == (rank == 0)
    assert rank == 0 or not printed
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(Output, "is_silent", False)


# -- the experiment of one ---------------------------------------------------------------------------------------------


@needs_torch
def test_processes_are_the_experiment_of_one(tmp_path: Path) -> None:
    status, _, errors = end_of(torchrun(str(Path(torch_ranks.__file__)), str(tmp_path)))
    found: list[dict[str, Any]] = [pickle.loads((tmp_path / f"{rank}.pickle").read_bytes()) for rank in range(2)]
    assert found[0]["cases"].keys() == {*torch_ranks.CASES} and found[0]["size"] == 2
    for name in torch_ranks.CASES:
        records, leaves = torch_ranks.numbers(torch_ranks.fitted(name, None))
        for rank in range(2):
            ranked, parameters = found[rank]["cases"][name]
            np.testing.assert_allclose(ranked, records, rtol=0, atol=1e-12, err_msg=name)
            for one, other in zip(parameters, leaves, strict=True):
                np.testing.assert_allclose(one, other, rtol=0, atol=1e-11, err_msg=name)
        same = zip(found[0]["cases"][name][1], found[1]["cases"][name][1], strict=True)
        assert all(one.tobytes() == other.tobytes() for one, other in same)
    (in_blocks,) = ranks.run_threads(
        1, lambda one: torch_ranks.numbers(torch_ranks.fitted("parts, odd batches on numpy", one)), blocks=3
    )
    alone = torch_ranks.not_finite(None)
    assert alone.startswith("NonFiniteError: the loss is not finite at step 2")
    for one in found:
        assert one["odd seed"] == "InputError: ranks: rank 1 has seed: 5, but rank 0 has 0; all must have the same"
        assert one["not finite"] == alone
        assert one["stopped"] == (3, True)
        assert one["blocks"][0] == in_blocks[0]
        assert [leaf.tobytes() for leaf in one["blocks"][1]] == [leaf.tobytes() for leaf in in_blocks[1]]
        assert one["gathered"] == [{"rank": 0}, {"rank": 1}] and one["agreed"] == "of rank 0"
        assert one["again"] is True
    # In the end, rank 1 alone raises.
    assert status == 1
    assert errors.count("LookupError: only here") == 1 and "rank 1: Traceback" in errors


@needs_torch
def test_a_run_continues_without_torchrun(tmp_path: Path) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "run"
    options = [*TRAIN, "--norm", "batch", "--epochs", "15"]
    process = torchrun("-m", "xpnn", *options, "--backend", "torch", "--output", str(folder), "--ranks", "torch")
    end = time.monotonic() + 60
    while not list(folder.glob("checkpoints/epoch-00001*")) and time.monotonic() < end:
        time.sleep(0.01)
    # Only one of the processes gets the signal: both stop after the same step, and save.
    os.kill(max(children_of(process.pid)), signal.SIGTERM)
    status, _, errors = end_of(process)
    assert status != 0 and errors.count("stopped by a signal after") == 1, errors
    facts = json.loads((folder / "run.json").read_text())
    assert facts["status"] == "interrupted" and facts["ranks"] == 2
    (folder / "run.json").unlink()
    assert app.run([*options, "--backend", "numpy", "--output", str(whole)]) == 0
    assert app.run(["train", "--resume", str(folder), "--backend", "numpy", "--device", "cpu", "--quiet"]) == 0
    one, other = (json.loads((path / "run.json").read_text()) for path in (whole, folder))
    assert other["test_loss"] == pytest.approx(one["test_loss"], abs=1e-12)
    for record, expected in zip(other["history"], one["history"], strict=True):
        assert record["loss"] == pytest.approx(expected["loss"], abs=1e-12)
        assert record["val_loss"] == pytest.approx(expected["val_loss"], abs=1e-12)


def children_of(parent: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(status.parent.name))
        except OSError:
            continue
    return found


# -- faults ------------------------------------------------------------------------------------------------------------


FAULTS = {"killed": "2", "still": "2", "left": "60"}  # and the time-out


def started(fault: str, folder: Path, timeout: str) -> subprocess.Popen[bytes]:
    """Start rank 0, which starts rank 1, that has a fault; each writes its errors into a file."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, str(torch_ranks.__file__), fault, port, str(folder)]
    return subprocess.Popen(command, env=environment(TIMEOUT=timeout))


@needs_torch
@pytest.mark.skipif(os.name != "posix", reason="processes of POSIX")
def test_a_rank_that_is_gone_ends_the_others(tmp_path: Path) -> None:
    firsts = {fault: started(fault, tmp_path, timeout) for fault, timeout in FAULTS.items()}
    try:
        statuses = {fault: process.wait(60) for fault, process in firsts.items()}
    finally:
        for fault, process in firsts.items():
            process.kill()
            process.wait()
            if fault == "still" and (tmp_path / "still pid").exists():
                os.kill(int((tmp_path / "still pid").read_text()), signal.SIGKILL)
    assert statuses == dict.fromkeys(FAULTS, 1)
    killed, still, left = ((tmp_path / f"{fault} 0").read_text() for fault in firsts)
    assert killed.startswith("xpnn: error: another rank has ended without a message, ") and "step 3" in killed
    assert still.startswith("xpnn: error: rank 1 has not answered for 2 s, after step 3: it stands still")
    assert left.startswith("xpnn: error: rank 1 has ended before the others, ") and "step 3" in left
    assert killed.count("\n") == still.count("\n") == left.count("\n") == 1
