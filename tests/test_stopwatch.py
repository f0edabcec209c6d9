"""Tests that the time of a suspended process does not count: in records, results and on the progress line."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from xpnn import Trainer, nn, optim
from xpnn.cli.terminal.progress import EpochDisplay
from xpnn.experiments import Settings, experiment, prepare
from xpnn.training import epoch as epoch_module
from xpnn.training import stopwatch
from xpnn.training.display import terminal as progress_line
from xpnn.training.stopwatch import Stopwatch


class Clock:
    """A clock that advances by a hundredth of a second, of work, with each reading."""

    def __init__(self) -> None:
        self.now = self.worked = 0.0

    def work(self, seconds: float) -> None:
        self.now, self.worked = self.now + seconds, self.worked + seconds

    def read(self) -> float:
        self.work(0.01)
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    for module in (epoch_module, experiment, progress_line):
        monkeypatch.setattr(module, "Stopwatch", lambda: Stopwatch(made.read, lambda: made.worked))
    yield made


def readings(*gaps: tuple[float, float]) -> list[float]:
    """The seconds after gaps of so many seconds, with so much work in each."""
    made = Clock()
    watch = Stopwatch(lambda: made.now, lambda: made.worked)
    found = []
    for gap, worked in gaps:
        made.now, made.worked = made.now + gap, made.worked + worked
        found.append(watch.seconds())
    return found


def test_work_and_short_waits_count() -> None:
    assert readings((1, 1), (60, 60), (60, 6.1), (1.9, 0)) == pytest.approx([1, 61, 121, 122.9])


def test_pauses_do_not_count() -> None:
    assert readings((0.1, 0.1), (3, 0.0), (3600, 0.2), (0.1, 0.1)) == pytest.approx([0.1, 0.1, 0.3, 0.4])
    assert readings((30, 30), (10, 0)) == pytest.approx([30, 30])  # work before is no wait


def test_a_wait_must_be_ten_times_as_long_as_those_before() -> None:
    assert readings((1.5, 0), (14, 0), (100, 0), (141, 0)) == pytest.approx([1.5, 15.5, 115.5, 256.5])
    assert readings((1.5, 0), (16, 0)) == pytest.approx([1.5, 1.5])


class Suspended:
    """A progress function: after one step of each epoch the process works for 500 s, after another it is suspended."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __call__(self, done: int, rows: int) -> None:
        if done == 1:
            self.clock.work(500)
        elif done == 2:
            self.clock.now += 1000.0


def test_records_do_not_count_pauses(clock: Clock) -> None:
    x, y = np.eye(4, dtype=np.float32), np.arange(4)
    run = Trainer(nn.Linear(4, 4), nn.CrossEntropyLoss(), optim.SGD(0.1))
    logs = run.fit(x, y, epochs=2, batch_size=1, progress=Suspended(clock))
    assert [log["seconds"] for log in logs] == pytest.approx([500, 500], abs=1)


def test_results_do_not_count_pauses(clock: Clock) -> None:
    settings = Settings(dataset="xor", hidden="2", dropout="0", validation_fraction=0, epochs=3, batch_size=1)
    _, seconds = prepare(settings).fit(progress=Suspended(clock))
    assert seconds == pytest.approx(1500, abs=1)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_progress_line_does_not_count_pauses(clock: Clock, is_terminal: bool) -> None:
    """After 10 of 20 epochs, each of a second of work: 10 s are left, and the speed is that of the steps."""
    text = io.StringIO()
    display = EpochDisplay(Console(file=text, force_terminal=is_terminal, width=120), quiet=False)
    fake: Any = type("Experiment", (), {"epochs": 20, "train_rows": range(100), "trainer": SimpleNamespace(epoch=0)})
    display.start(fake)
    for epoch in range(10):
        for half in (50, 100):
            clock.work(0.5)
            display.step(half, 100)
            clock.now += 3600.0 if epoch == 8 else 0.0
        display(fake, {"epoch": epoch + 1, "loss": 0.5, "lr": 0.1, "seconds": 1.0})
    display.stop()
    last = [line for line in text.getvalue().splitlines() if "epoch" in line][-1]
    assert re.search(r"epoch 11/20.* 100 samples/s .*00:1[01]" if is_terminal else r"epoch 10/20.* 10 s left", last)


def test_the_clocks_are_those_of_the_process() -> None:
    watch = stopwatch.Stopwatch()
    first = watch.seconds()
    assert 0 <= first <= watch.seconds()
