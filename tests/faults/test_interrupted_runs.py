"""Faults during `xpnn train`, caused for real: killed processes, full disks, damaged files, two runs in one folder."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

OPTIONS = ("--epochs", "12", "--hidden", "24", "--batch-size", "64", "--checkpoint-steps", "5", "--quiet")


#: Runs the command with the usual handlers of signals, and with no file larger than the first argument.
LAUNCHER = """
import resource, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
from xpnn.cli import main
sys.exit(main(sys.argv[2:]))
"""


def start(*arguments: object, largest: int = 10**9) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LAUNCHER, str(largest), "train", *map(str, arguments)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(*arguments: object, largest: int = 10**9) -> tuple[int, str, str]:
    process = start(*arguments, largest=largest)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(6000):
        if condition() or process.poll() is not None:
            return
        time.sleep(0.005)


def lines(folder: Path) -> int:
    history = folder / "history.jsonl"
    return history.read_bytes().count(b"\n") if history.exists() else 0


def records(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if name != "seconds"} for record in found]


def assert_same_run(one: Path, other: Path) -> None:
    assert records(one) == records(other)
    a, b = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    status, _, err = finish("digits", *OPTIONS, "--output", folder)
    assert status == 0, err
    return folder


@pytest.mark.parametrize("after", [1, 4, 9])
def test_killed_run_is_resumed_with_the_same_bits(after: int, whole: Path, tmp_path: Path) -> None:
    process = start("digits", *OPTIONS, "--output", tmp_path / "run")
    wait_for(lambda: lines(tmp_path / "run") >= after, process)
    process.kill()
    process.communicate()
    status, _, err = finish("--resume", tmp_path / "run", "--quiet")
    assert status == 0, err
    assert err == ""
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_first_signal_saves_and_says_how_to_continue(
    number: signal.Signals, status: int, whole: Path, tmp_path: Path
) -> None:
    options = ("--epochs", "4000", *OPTIONS[2:])
    process = start("digits", *options, "--output", tmp_path / "a run")
    wait_for(lambda: lines(tmp_path / "a run") >= 2, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert f"to continue: xpnn train --resume '{tmp_path}/a run'" in err
    saved = json.loads((tmp_path / "a run" / "run.json").read_text())
    assert saved["status"] == "interrupted"
    epochs = saved["epochs"] + 2
    status, _, err = finish("--resume", tmp_path / "a run", "--epochs", epochs, "--quiet")
    assert status == 0, err
    assert len(records(tmp_path / "a run")) == epochs


def test_resume_auto_begins_and_continues(whole: Path, tmp_path: Path) -> None:
    command = ("digits", *OPTIONS, "--output", tmp_path / "run", "--resume", "auto")
    process = start(*command)
    wait_for(lambda: lines(tmp_path / "run") >= 3, process)
    process.kill()
    process.communicate()
    status, _, err = finish(*command)
    assert (status, err) == (0, "")
    assert_same_run(tmp_path / "run", whole)
    status, _, err = finish(*command)  # nothing is left to do
    assert (status, err) == (0, "")
    assert_same_run(tmp_path / "run", whole)


def test_damaged_checkpoint_is_set_aside(whole: Path, tmp_path: Path) -> None:
    process = start("digits", *OPTIONS, "--output", tmp_path / "run")
    wait_for(lambda: lines(tmp_path / "run") >= 5, process)
    process.kill()
    process.communicate()
    newest = sorted((tmp_path / "run" / "checkpoints").glob("epoch-*.safetensors"))[-1]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    status, _, err = finish("--resume", tmp_path / "run", "--quiet")
    assert status == 0 and "is damaged" in err and "the one before it is used" in err
    assert_same_run(tmp_path / "run", whole)


def test_second_process_in_the_folder_is_refused(tmp_path: Path) -> None:
    process = start("digits", "--epochs", "5000", *OPTIONS[2:], "--output", tmp_path / "run")
    wait_for(lambda: lines(tmp_path / "run") >= 1, process)
    for arguments in (("--resume", tmp_path / "run"), ("digits", "--output", tmp_path / "run")):
        status, _, err = finish(*arguments)
        assert status == 2 and "another process is training in" in err and err.count("\n") == 1
    process.kill()
    process.communicate()


def test_other_settings_and_data_are_refused(whole: Path, tmp_path: Path) -> None:
    before = (whole / "history.jsonl").read_bytes()
    status, _, err = finish("--resume", whole, "--lr", "0.5", "--hidden", "3")
    assert (whole / "history.jsonl").read_bytes() == before
    assert status == 2 and "--hidden is '3', it was '24'; --lr is 0.5, it was 0.001" in err
    table = tmp_path / "t.csv"
    table.write_text("a,label\n" + "".join(f"{i},{'xy'[i % 2]}\n" for i in range(60)))
    assert finish(table, "--epochs", 2, "--output", tmp_path / "run", "--quiet")[0] == 0
    table.write_text("a,label\n" + "".join(f"{i},{'xy'[i % 3 % 2]}\n" for i in range(60)))
    status, _, err = finish("--resume", tmp_path / "run", "--epochs", 4)
    assert status == 2 and "the data have changed since the run began" in err
    status, _, err = finish("--resume", tmp_path / "no such run")
    assert status == 2 and "does not exist, so there is no run to continue" in err
    (tmp_path / "empty").mkdir()
    status, _, err = finish("--resume", tmp_path / "empty")
    assert status == 2 and "contains no checkpoint" in err


def test_checkpoint_that_cannot_be_written_ends_the_run_at_once(tmp_path: Path) -> None:
    status, out, err = finish("digits", *OPTIONS, "--output", tmp_path / "run", largest=4000)
    assert status == 1 and out == ""
    assert "cannot write" in err and "needed" in err and "free" in err and err.count("\n") == 1
    assert not list((tmp_path / "run" / "checkpoints").glob("*"))  # no part of a file is left
    assert finish("digits", "--hidden", 4, "--epochs", 1, "--output", tmp_path / "run")[0] == 0  # nothing is in the way


def test_disk_that_fills_during_the_run(whole: Path, tmp_path: Path) -> None:
    process = start("digits", *OPTIONS, "--output", tmp_path / "run")
    wait_for(lambda: lines(tmp_path / "run") >= 3, process)
    resource.prlimit(
        process.pid, resource.RLIMIT_FSIZE, (4000, resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[1])
    )
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "training goes on, and the next checkpoint is tried when it is due" in err
    assert "cannot write" in err and f"continue the run in '{tmp_path}/run' with --resume" in err
    assert not list((tmp_path / "run" / "checkpoints").glob("*.tmp"))
    status, _, err = finish("--resume", tmp_path / "run", "--quiet")
    assert (status, err) == (0, "")
    assert_same_run(tmp_path / "run", whole)


def test_history_that_cannot_be_written_does_not_end_the_training(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start("digits", *OPTIONS, "--output", folder)
    wait_for(lambda: lines(folder) >= 2, process)
    process.send_signal(signal.SIGSTOP)
    (folder / "history.jsonl").rename(folder / "moved")
    (folder / "history.jsonl").mkdir()  # no line can be appended, and no file can replace it
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "training goes on" in err and err.count("cannot write") == 2
    assert (folder / "model.safetensors").is_file()


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_killed_run_on_other_libraries(library: str, tmp_path: Path) -> None:
    pytest.importorskip(library)
    options = ("digits", *OPTIONS, "--backend", library, "--device", "cpu")
    assert finish(*options, "--output", tmp_path / "whole")[0] == 0
    process = start(*options, "--output", tmp_path / "run")
    wait_for(lambda: lines(tmp_path / "run") >= 4, process)
    process.kill()
    process.communicate()
    status, _, err = finish("--resume", tmp_path / "run", "--quiet", "--backend", library, "--device", "cpu")
    assert (status, err) == (0, "")
    assert_same_run(tmp_path / "run", tmp_path / "whole")
