"""The streams of the command: standard output that is closed, full or narrow; signals that are ignored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from xpnn.cli import main
from xpnn.cli.terminal.stopping import Stopping

XPNN = f"{sys.executable} -m xpnn"
TRAIN = f"{XPNN} train t.csv --epochs 2 --hidden 4 --quiet"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a table whose classes are not Latin, and a run on it."""
    (tmp_path / "t.csv").write_text("a,label\n" + "1,赤\n2,x\n" * 9 + "2,赤\n1,x\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "t.csv", "--epochs", "2", "--hidden", "4", "--quiet", "--output", "run"]) == 0
    return tmp_path


def bash(command: str, **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        encoding="utf-8",
        errors="replace",
    )
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_closed_stdout_is_one_line_after_the_work(folder: Path) -> None:
    status, _, err = bash(f"{TRAIN} --output other >&-")
    assert (status, err) == (1, "xpnn: error: standard output is closed; the result could not be printed\n")
    assert (folder / "other" / "model.safetensors").exists()
    assert bash(f"{XPNN} predict run t.csv --json >&-")[0] == 1
    assert bash(f"{XPNN} predict run t.csv --output p.csv >&-") == (0, "", "")
    assert (folder / "p.csv").exists()
    assert bash(f"{TRAIN} >&- 2>&-")[0] == 1
    assert bash(f"{TRAIN} 2>&-")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ("evaluate run", 0),
        ("evaluate run --json", 0),
        ("predict run many.csv", 0),
        ("predict run many.csv --json", 0),
        ("doctor", 0),
        ("doctor --json", 0),
        ("recipes", 0),
        ("explain", 0),
        ("train --help", 0),
        ("train t.csv --epochs 1", 0),
        ("evaluate absent", 2),
    ],
)
def test_reader_that_closes_the_pipe_does_not_change_the_status(arguments: str, status: int, folder: Path) -> None:
    """As `| head` does. The result of `predict` is larger than the buffer of the stream."""
    (folder / "many.csv").write_text("a\n" + "1\n" * 20_000)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*XPNN.split(), *arguments.split()], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.returncode == status
    assert "BrokenPipe" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize(
    "arguments",
    ["train t.csv --epochs 1 --quiet", "predict run t.csv", "evaluate run", "evaluate run --json", "--version"],
)
def test_full_stdout_is_one_line_and_status_1(arguments: str, folder: Path) -> None:
    status, _, err = bash(f"{XPNN} {arguments} >/dev/full")
    assert status == 1 and err.startswith("xpnn: error: standard output cannot be written (No space left")
    assert err.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_full_stderr_keeps_the_status(folder: Path) -> None:
    assert bash(f"{XPNN} train absent.csv 2>/dev/full")[0] == 2
    assert bash(f"{XPNN} train t.csv --epochs 2 2>/dev/full")[0] == 0


def test_c_locale_without_utf8(folder: Path) -> None:
    """Standard output is then in ASCII, and passes bytes of names that are no text."""
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    status, out, err = bash(f"cp t.csv $'\\xe9.csv'; {XPNN} predict run $'\\xe9.csv'", **plain)
    assert status == 0 and "\\u8d64," in out
    assert err.startswith("xpnn: warning: standard output is in ascii") or "ANSI_X3.4" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_narrow_stdout_escapes_with_a_warning(encoding: str, folder: Path) -> None:
    status, out, err = bash(f"{XPNN} predict run t.csv", PYTHONIOENCODING=encoding)
    assert status == 0 and "\\u8d64," in out and out.count("\n") == 21
    assert err.startswith(f"xpnn: warning: standard output is in {encoding}") and err.count("\n") == 1
    commands = ("train t.csv --epochs 1", "evaluate run", "explain", "recipes", "doctor", "train --help")
    for arguments in commands if encoding == "ascii" else commands[:1]:  # ASCII lacks all that cp1252 lacks
        assert bash(f"{XPNN} {arguments}", PYTHONIOENCODING=encoding)[0] == 0
    status, out, err = bash(f"{XPNN} predict run t.csv --json", PYTHONIOENCODING=encoding)
    assert status == 0 and err == ""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_ignored_signal_stays_ignored(name: str) -> None:
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with Stopping():
            assert signal.getsignal(number) is signal.SIG_IGN
            signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def started(before: str = "") -> subprocess.Popen[str]:
    command = ["bash", "-c", f"{before} exec {XPNN} train --epochs 400 --hidden 4"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 20/"):
            break
    return process


def test_nohup_survives_the_end_of_the_terminal() -> None:
    process = started("trap '' HUP;")  # as nohup does
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "test accuracy" in out


def test_suspended_training_goes_on() -> None:
    process = started()
    process.send_signal(signal.SIGTSTP)
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "test accuracy" in out and "epoch 400/400" in err
