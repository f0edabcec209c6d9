"""Tests for signals at moments that nobody chooses: while a line is printed, as the training begins, during imports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from xpnn.cli import app
from xpnn.cli.terminal.stopping import Stopping
from xpnn.training import Trainer
from xpnn.training.callbacks import base

TRAIN = ["train", "digits", "--device", "cpu", "--backend", "numpy", "--hidden", "4", "--epochs", "3"]


def raising_after(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, when: Callable[..., bool]) -> None:
    """SIGTERM comes after the first call of this function for which `when` is true."""
    before, sent = getattr(owner, name), list[bool]()

    def called(*given: Any, **options: Any) -> Any:
        result = before(*given, **options)
        if not sent and when(*given):
            sent.append(True)
            signal.raise_signal(signal.SIGTERM)
        return result

    monkeypatch.setattr(owner, name, called)


@pytest.mark.parametrize("moment", ["a line of the plan", "the check of the data", "the warm-up"])
def test_signal_before_the_training_ends_the_command(
    moment: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from xpnn.training.engine import Engine

    if moment == "a line of the plan":
        raising_after(monkeypatch, Console, "print", lambda console, *text: bool(text) and "device" in str(text[0]))
    elif moment == "the check of the data":
        raising_after(monkeypatch, Trainer, "_enter", lambda *_: True)
    else:
        raising_after(monkeypatch, Engine, "warm_up", lambda *_: True)
    with pytest.raises(SystemExit) as ended:
        app.run([*TRAIN, "--output", str(tmp_path / "run")])
    assert ended.value.code == 128 + signal.SIGTERM
    assert "stopped before the training began" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
    monkeypatch.undo()
    assert app.run([*TRAIN, "--output", str(tmp_path / "run"), "--resume", "auto"]) == 0


def test_signal_as_the_training_begins_ends_it_before_the_first_epoch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raising_after(monkeypatch, Stopping, "on_train_begin", lambda *_: True)
    assert app.run([*TRAIN, "--output", str(tmp_path / "run")]) == 128 + signal.SIGTERM
    assert "stopped by a signal after 0 whole epochs; to continue: xpnn train --resume" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"


class Stoppable:
    """A trainer as `Stopping` sees it."""

    stops = 0

    def stop(self, *, resumable: bool = False) -> None:
        self.stops += resumable


def test_signal_between_two_trainings_stops_the_second() -> None:
    one, other = Stoppable(), Stoppable()
    with Stopping() as stopping:
        stopping.on_train_begin(one)  # type: ignore[arg-type]
        signal.raise_signal(signal.SIGTERM)
        stopping.on_train_begin(other)  # type: ignore[arg-type]
    assert (one.stops, other.stops, stopping.status) == (1, 1, 128 + signal.SIGTERM)
    assert isinstance(stopping, base.AtStart)


def test_signal_whose_exception_was_lost_stops_the_training(capsys: pytest.CaptureFixture[str]) -> None:
    """Python prints and forgets an exception in a callback of its garbage collector, of which JAX has one."""
    trainer = Stoppable()
    with Stopping() as stopping:
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)
        stopping.on_train_begin(trainer)  # type: ignore[arg-type]
    assert (trainer.stops, stopping.status) == (1, 128 + signal.SIGTERM)
    assert capsys.readouterr().err == ""


def test_second_signal_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    with Stopping() as stopping:
        stopping.on_train_begin(Stoppable())  # type: ignore[arg-type]
        signal.raise_signal(signal.SIGTERM)
        for _ in range(2):
            with pytest.raises(SystemExit):
                signal.raise_signal(signal.SIGTERM)
    assert capsys.readouterr().err.count("a second signal") == 1


def test_stop_while_fit_checks_its_data() -> None:
    """`stop` ends the `fit` that has begun, and not the next one."""
    from problem import X, Y, trainer

    one = trainer()
    outputs = one._check.outputs

    def stopped(*given: Any) -> Any:
        one.stop()
        return outputs(*given)

    one._check.outputs = stopped  # type: ignore[method-assign]
    assert len(one.fit(X, Y, epochs=3, batch_size=8)) == 0
    one._check.outputs = outputs  # type: ignore[method-assign]
    assert len(one.fit(X, Y, epochs=3, batch_size=8)) == 3


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_ctrl_c_during_imports_ends_the_process() -> None:
    code = (
        "import signal\nfrom xpnn.cli.terminal.imports import ended_by_ctrl_c\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with ended_by_ctrl_c():\n    pass\nassert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "with ended_by_ctrl_c():\n    signal.raise_signal(signal.SIGINT)\nprint('goes on')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
