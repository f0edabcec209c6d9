"""What one sees while a network trains: a live line on a terminal, elsewhere plain lines, one an epoch."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from xpnn.cli.terminal.console import print_line, readable_numbers
from xpnn.training.history import Logs
from xpnn.training.trainer import Trainer


class EpochDisplay:
    """A callback (each epoch) and a progress function (`step`, each step) for `Trainer.fit`; use as a context."""

    def __init__(self, epochs: int, rows: int, console: Console, *, quiet: bool) -> None:
        self._epochs, self._rows, self._console = epochs, rows, console
        self._quiet = quiet
        self._every = -(-epochs // 100)  # at most a hundred plain lines
        self._shown = 0.0
        self._epoch = 0
        self._bar: Progress | None = None
        if console.is_terminal and not console.is_dumb_terminal and not quiet:
            self._bar = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(bar_width=10),
                TextColumn("{task.fields[numbers]}"),
                TextColumn("{task.fields[speed]}"),
                TimeRemainingColumn(compact=True),
                console=console,
            )
            self._task = self._bar.add_task("", total=epochs * rows, epoch=f"1/{epochs}", numbers="", speed="")

    def __enter__(self) -> EpochDisplay:
        self._start = time.perf_counter()
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    def step(self, done: int, rows: int) -> None:
        """Called between steps; draws at most ten times a second."""
        now = time.perf_counter()
        if self._bar and now - self._shown > 0.1:
            self._shown = now
            total = self._epoch * rows + done
            self._bar.update(self._task, completed=total, speed=f"{total / (now - self._start):,.0f} samples/s")

    def __call__(self, trainer: Trainer, logs: Logs) -> None:
        """Called after each epoch."""
        self._epoch += 1
        speed = f"{self._rows / logs['seconds']:,.0f} samples/s"
        if self._bar:
            escaped = {name: logs[name] for name in ("loss", "accuracy")}  # all of it would not fit in 80 columns
            self._bar.update(
                self._task,
                completed=self._epoch * self._rows,
                numbers=readable_numbers(escaped),
                speed=speed,
                epoch=f"{min(self._epoch + 1, self._epochs)}/{self._epochs}",
            )
        elif not self._quiet and (self._epoch % self._every == 0 or self._epoch == self._epochs):
            left = (time.perf_counter() - self._start) / self._epoch * (self._epochs - self._epoch)
            numbers = readable_numbers(logs)
            print_line(self._console, f"epoch {self._epoch}/{self._epochs}  {numbers}  {speed}  {left:.0f} s left")
